//! What commands print: for people and for programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use lifeboat_tests::binary::ended;
use serde_json::Value;

use crate::scene::Scene;

/// Every text in a value that begins like a date.
fn times(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text)
            if text.len() > 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' =>
        {
            found.push(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| times(item, found)),
        // Messages are for people.
        Value::Object(fields) => {
            fields.iter().filter(|(name, _)| *name != "message").for_each(|(_, field)| times(field, found));
        }
        _ => {}
    }
}

#[test]
fn json_lines_begin_with_their_type_and_have_one_form_of_times() {
    let scene = Scene::backed_up();
    scene.backup().expect(0);
    let target = scene.path("target");
    let mut seen = Vec::new();
    for command in [
        &["snapshots"][..],
        &["ls", "latest", "-R"],
        &["find", "file"],
        &["diff", "latest~1", "latest", "--metadata"],
        &["stats"],
        &["key", "list"],
        &["doctor"],
        &["check"],
        &["restore", "latest", "--target", &target],
        &["backup", scene.source()],
        &["forget", "latest"],
    ] {
        let said = scene.run(&[command, &["--json"]].concat()).expect(0);
        for line in said.out.lines() {
            assert!(line.starts_with("{\"message_type\":\""), "{command:?}: {line}");
        }
        said.json().iter().for_each(|value| times(value, &mut seen));
    }
    assert!(seen.len() > 10, "{seen:?}");
    for time in &seen {
        assert!(time.as_bytes()[10] == b'T' && time.ends_with('Z'), "{time}");
    }
    for wrong in [&["--json", "ls", "nonsense"][..], &["--json", "no-such-command"]] {
        let said = scene.run(wrong).expect(2);
        let last = said.err.lines().last().unwrap();
        assert!(last.starts_with("{\"message_type\":\"exit_error\""), "{last}");
    }
}

#[test]
fn a_dry_run_says_what_it_knows_and_no_more() {
    let scene = Scene::backed_up();
    fs::write(scene.world.source().join("new"), "something new").unwrap();
    let said = scene.run(&["backup", scene.source(), "--dry-run"]).expect(0);
    assert!(said.out.contains("would be added") && !said.out.contains("stored,"), "{}", said.out);
    assert!(!said.out.contains(" 0 B"), "{}", said.out);
    let said = scene.run(&["backup", scene.source(), "--dry-run", "--json"]).expect(0).json();
    let summary = said.last().unwrap();
    assert!(summary["bytes_stored"].is_null() && summary["bytes_added"].as_u64().unwrap() > 13, "{summary}");
}

#[test]
fn candidates_pass_the_filter_that_was_given() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    for host in ["alpha", "beta"] {
        for _ in 0..2 {
            scene.run(&["backup", scene.source(), "--host", host]).expect(0);
        }
    }
    for command in [&["ls", "zzz"][..], &["ls", "latest~7"]] {
        let said = scene.run(&[command, &["--host", "beta"]].concat()).expect(2).says("beta");
        assert!(!said.err.contains("alpha"), "{command:?}: {}", said.err);
    }
    // If none passes, what there is helps more than nothing.
    scene.run(&["ls", "latest", "--host", "gamma"]).expect(2).says("Without the filter");
    // One letter may begin several ids: then those that pass are named, or taken if it is one.
    let ids: Vec<(String, String)> = scene
        .run(&["snapshots", "--json"])
        .expect(0)
        .json()
        .iter()
        .map(|s| (s["id"].as_str().unwrap().to_owned(), s["host"].as_str().unwrap().to_owned()))
        .collect();
    for first in ('0'..='9').chain('a'..='f').map(|digit| digit.to_string()) {
        let begun = |host: &str| ids.iter().filter(|(id, of)| id.starts_with(&first) && of == host).count();
        let said = scene.run(&["ls", &first, "--host", "beta"]);
        match (begun("alpha"), begun("beta")) {
            (_, 1) | (1, 0) => drop(said.expect(0)),
            (0, 0) => drop(said.expect(2).says("no snapshot is called")),
            (_, 0) => drop(said.expect(2).says("alpha")),
            _ => assert!(!said.expect(2).says("beta").err.contains("alpha")),
        }
    }
}

#[test]
fn a_damaged_newest_snapshot_is_named_when_latest_passes_over_it() {
    let scene = Scene::backed_up();
    fs::write(scene.world.source().join("later"), "later").unwrap();
    scene.backup().expect(0);
    let newest = scene.run(&["snapshots", "--json"]).json()[1].clone();
    let (id, short) = (newest["id"].as_str().unwrap(), newest["short_id"].as_str().unwrap());
    let object = scene.world.path("repository/snapshots").join(id);
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&object, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&object, bytes).unwrap();
    let target = scene.path("target");
    for command in [&["ls", "latest"][..], &["restore", "latest", "--target", &target], &["snapshots"]] {
        let said = scene.run(command).expect(0).says(&format!("warning: snapshot {short} cannot be read"));
        assert!(!said.out.contains("later"), "{command:?}: {}", said.out);
    }
    // It is damaged, and that is one problem: nobody removed it.
    let said = scene.run(&["check"]).expect(14).says("1 problem, touching 0 snapshots");
    assert!(!said.out.contains("removed"), "{}", said.out);
    let said = scene.backup().expect(0);
    assert!(!said.err.contains("removed"), "{}", said.err);
}

#[test]
fn an_error_of_a_store_says_which() {
    let scene = Scene::new();
    let Some(nobody) = scene.nobody() else { return };
    nobody.run(&["backup", scene.source()]).expect(0);
    let store = scene.world.path("nobody/.local/share/lifeboat/repository");
    fs::set_permissions(store.join("sessions"), fs::Permissions::from_mode(0o500)).unwrap();
    nobody.run(&["backup", scene.source()]).expect(1).says(store.to_str().unwrap()).says("permission denied");
}

#[test]
fn names_that_are_no_text_are_no_trouble() {
    let scene = Scene::backed_up();
    let name = |bytes: &[u8]| scene.world.path("").join(OsStr::from_bytes(bytes));
    let arguments = |target: &PathBuf, more: &[&str]| {
        let mut all: Vec<std::ffi::OsString> = ["restore", "latest", "--target"].map(Into::into).to_vec();
        all.push(target.into());
        all.extend(more.iter().map(Into::into));
        all
    };
    scene.person.run(&arguments(&name(b"caf\xe9"), &["--json"])).expect(0);
    scene.person.run(&arguments(&name(b"\xff\n\x1b[31m"), &[])).expect(0);
    let strange = scene.person.clone().with("LIFEBOAT_REPOSITORY", name(b"st\xf6re"));
    strange.run(&["init", "--json"]).expect(0).json();
    strange.run(&["backup", scene.source(), "--json"]).expect(0).json();
    strange.run(&["doctor", "--json"]).expect(0).json();
}

/// A full disk behind `>` is no full store: scripts that look for 13 would free space in the wrong place.
#[test]
fn a_full_standard_output_is_an_ordinary_failure() {
    let scene = Scene::backed_up();
    let file = format!("latest:{}/top", scene.source());
    for command in
        [&["ls", "-R"][..], &["snapshots", "--json"], &["dump", &file], &["--help"], &["--version"]]
    {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let child = scene.person.command(command).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        ended(child).expect(1).says("standard output").says("no space left");
        // Whoever closes the pipe has seen enough.
        let mut child = scene.person.start(command);
        drop(child.stdout.take());
        let said = ended(child).expect(0);
        assert_eq!(said.err, "", "{command:?}");
    }
}

/// All options stood in it, global ones between the command's own, and none with its value.
#[test]
fn the_synopsis_of_a_manual_page_is_the_usage() {
    let scene = Scene::new();
    let pages = scene.path("pages");
    scene.run(&["man", &pages]).expect(0);
    let synopsis = |page: &str| {
        let text = fs::read_to_string(format!("{pages}/{page}.1")).unwrap();
        let mut lines = text.lines().skip_while(|line| *line != ".SH SYNOPSIS").skip(1);
        let line = lines.next().unwrap().replace("\\-", "-").replace("\\fB", "*").replace("\\fR", "*");
        assert!(lines.next().unwrap().starts_with(".SH "), "{page}");
        assert!(text.contains("lifeboat 0."), "the page does not say of which version it is");
        line
    };
    assert_eq!(synopsis("lifeboat"), "*lifeboat* [OPTIONS] <COMMAND>");
    assert_eq!(synopsis("lifeboat-key-add"), "*lifeboat key add* [OPTIONS]");
    let restore = synopsis("lifeboat-restore");
    assert_eq!(restore, "*lifeboat restore* [OPTIONS] --target <DIR> <SNAPSHOT[:PATH]>");
}

#[test]
fn columns_say_what_is_in_them() {
    let scene = Scene::backed_up();
    let said = scene.run(&["stats"]).expect(0);
    let title = said.out.lines().next().unwrap();
    let columns: Vec<&str> = title.split_whitespace().take(4).collect();
    assert_eq!(columns, ["Snapshots", "Original", "Deduplicated", "Stored"]);
}
