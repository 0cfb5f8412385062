//! What a demanding person notices: nothing is left out in silence, and what cannot be is said before anything is done.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use lifeboat_tests::binary::Person;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{Scene, walk};

#[test]
fn one_missing_path_of_several_does_not_cost_the_others_their_backup() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let (first, missing) = (format!("{}/sub", scene.source()), scene.path("not-mounted"));
    let arguments = ["backup", &first, &missing, "relative/and/missing"];
    let said = scene.run(&arguments).expect(3).says(&missing);
    assert!(said.err.contains("2 paths could not be read"), "{}", said.err);
    let snapshot = &scene.run(&["snapshots", "--json"]).expect(0).json()[0];
    assert_eq!(snapshot["errors_total"], 2, "{snapshot}");
    assert_eq!(snapshot["errors"][0]["kind"], "vanished", "{snapshot}");
    assert_eq!(snapshot["paths"].as_array().unwrap().len(), 3, "{snapshot}");
    scene.run(&["ls", "latest"]).expect(0).says(&missing);
    // When it is back, it is the same history.
    fs::create_dir(&missing).unwrap();
    fs::write(format!("{missing}/back"), "back").unwrap();
    let again = scene.run(&["backup", &first, &missing, "relative/and/missing", "--json"]).expect(3).json();
    assert_eq!(again.last().unwrap()["parent"], snapshot["id"], "{again:?}");
    assert!(scene.run(&["ls", "latest"]).expect(0).out.contains("back"));
    scene.run(&["check", "--read-data"]).expect(0);
    // None at all is a mistake in the command.
    scene.run(&["backup", "/no/such", "/nor/this"]).expect(2).says("any of the 2 paths");
    assert_eq!(scene.snapshots(), 2);
}

#[test]
fn a_backup_of_the_repository_itself_is_refused() {
    let scene = Scene::backed_up();
    let repository = scene.path("repository");
    scene.run(&["backup", &repository]).expect(2).says("this repository itself");
    scene
        .run(&["backup", &format!("{repository}/packs"), "/no/such"])
        .expect(2)
        .says("this repository itself");
    std::os::unix::fs::symlink(&repository, scene.path("link")).unwrap();
    scene.run(&["backup", &scene.path("link")]).expect(2).says("this repository itself");
    assert_eq!(scene.snapshots(), 1);
    // So are its cache and memory, which would be left out and leave an empty snapshot.
    for own in ["home/.cache/lifeboat", "home/.local/state/lifeboat"] {
        let mut below = std::fs::read_dir(scene.path(own)).unwrap().map(|entry| entry.unwrap().path());
        let own = below.find(|path| path.is_dir()).unwrap();
        scene.run(&["backup", own.to_str().unwrap()]).expect(2).says("there is nothing to back up");
    }
    // Beside something else it is left out with a word.
    scene.run(&["backup", &repository, scene.source()]).expect(0).says("left out");
}

#[test]
fn what_could_not_be_read_is_said_again_later() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let missing: Vec<String> = (0..5).map(|number| scene.path(&format!("missing{number}"))).collect();
    let mut arguments = vec!["backup", scene.source()];
    arguments.extend(missing.iter().map(String::as_str));
    scene.run(&arguments).expect(3);
    let id = scene.run(&["snapshots", "--json"]).json()[0]["short_id"].as_str().unwrap().to_owned();
    // The list tells where to look, and there all of them are.
    let said = scene.run(&["snapshots"]).expect(0).says(&id);
    assert!(!said.out.contains("missing4:"), "{}", said.out);
    for command in [vec!["snapshots", "latest"], vec!["snapshots", "-v"]] {
        let said = scene.run(&command).expect(0);
        assert!(
            missing.iter().all(|path| said.out.contains(&format!("{path}: "))),
            "{command:?}: {}",
            said.out
        );
    }
    // Whoever restores is told, but not of what lies elsewhere.
    let target = scene.path("target");
    let said =
        scene.run(&["restore", "latest", "--target", &target]).expect(0).says("5 paths could not be read");
    assert!(said.err.contains(&missing[0]) && said.err.contains(&format!("snapshots {id}")), "{}", said.err);
    let part = format!("latest:{}", scene.source());
    let said = scene.run(&["restore", &part, "--target", &scene.path("part")]).expect(0);
    assert!(!said.err.contains("could not be read"), "{}", said.err);
    let said = scene.run(&["ls", &part]).expect(0);
    assert!(!said.err.contains("could not be read"), "{}", said.err);
}

#[test]
fn sockets_are_counted_when_they_are_backed_up() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    assert!(!scene.backup().expect(0).out.contains("socket"));
    let _socket = UnixListener::bind(scene.world.source().join("socket")).unwrap();
    // The second time it is as in the parent, and said again.
    for _ in 0..2 {
        let said = scene.backup().expect(0);
        assert!(said.out.contains("1 socket noted"), "{}", said.out);
    }
    assert_eq!(scene.run(&["backup", scene.source(), "--json"]).json().last().unwrap()["sockets"], 1);
}

#[test]
fn what_a_stream_adds_is_counted_with_the_directories_above_it() {
    let scene = Scene::backed_up();
    let said =
        scene.run(&["backup", "--stdin", "--stdin-filename", "/deep/er/stream", "--json"]).expect(0).json();
    let summary = said.last().unwrap();
    assert!(summary["bytes_added"].as_u64().unwrap() > 0 && summary["chunks_added"] == 3, "{summary}");
    let said = scene.run(&["backup", "--stdin", "--stdin-filename", "../up"]).expect(2);
    assert!(said.err.contains("--stdin-filename ../up"), "{}", said.err);
    scene.run(&["snapshots", "--latest", "0"]).expect(2).says("--latest");
}

#[test]
fn empty_values_are_refused_before_anything_happens() {
    let scene = Scene::backed_up();
    let source = scene.source();
    for option in [
        "--host",
        "--source",
        "--tag",
        "--parent",
        "--exclude",
        "--stdin-filename",
        "--exclude-if-present",
        "--class",
    ] {
        let input: &[&str] = if option == "--stdin-filename" { &["--stdin"] } else { &[source] };
        let said = scene.run(&[&["backup", option, ""], input].concat()).expect(2);
        assert!(said.err.contains(option) || said.err.contains("empty"), "{option}: {}", said.err);
    }
    for option in ["--host", "--source", "--tag", "--at", "--path"] {
        scene.run(&["snapshots", option, ""]).expect(2).says(option);
    }
    scene.run(&["find", ""]).expect(2).says("the pattern is empty");
    let target = scene.path("target");
    for command in [
        &["snapshots", ""][..],
        &["ls", ""],
        &["ls", ":/etc"],
        &["dump", ":/etc/fstab"],
        &["restore", "", "--target", &target],
        &["restore", ":", "--target", &target],
        &["forget", "", "--force"],
        &["backup", source, ""],
        &["key", "remove", ""],
        &["-r", "", "snapshots"],
    ] {
        let said = scene.run(command).expect(2);
        assert!(said.err.contains("empty"), "{command:?}: {}", said.err);
    }
    scene.run(&["restore", "latest", "--target", ""]).expect(2).says("--target");
    scene.run(&["restore", "latest", "--target", &target, "--include", ""]).expect(2).says("--include");
    let file = scene.path("config.toml");
    fs::write(&file, "exclude = [\"a[\"]\n").unwrap();
    scene.run(&["-c", &file, "backup", source]).expect(2).says("configuration");
    assert!(!scene.world.path("target").exists());
    assert_eq!(scene.snapshots(), 1);
}

#[test]
fn a_repository_is_not_made_among_other_files() {
    let scene = Scene::new();
    let said = scene.run(&["-r", scene.source(), "init"]).expect(2).says("not empty");
    assert!(said.err.contains(&format!("{}/lifeboat", scene.source())), "{}", said.err);
    assert_eq!(fs::read_dir(scene.source()).unwrap().count(), 2);
    // A new disk is empty enough, and what an init that was cut off left behind is its own.
    let disk = scene.path("disk");
    for folder in ["lost+found", ".tmp", "keys"] {
        fs::create_dir_all(format!("{disk}/{folder}")).unwrap();
    }
    scene.run(&["-r", &disk, "init"]).expect(0);
}

/// Nothing comes, and nobody closes the pipe: still Ctrl-C ends it, and nothing is left behind.
#[test]
fn an_interrupt_ends_a_backup_that_waits_for_input() {
    let scene = Scene::backed_up();
    let mut command = scene.person.command(&["backup", "--stdin", "--stdin-filename", "/stream", "-v"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // This phase begins right before the first read.
    assert!(lines.any(|line| line.unwrap().starts_with("backing up")));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said: String = lines.map(|line| line.unwrap() + "\n").collect();
    assert!(said.contains("interrupted") && said.contains("No snapshot was made"), "{said}");
    assert!(said.contains("nothing was stored") && !said.contains("0 B"), "{said}");
    drop(input);
    assert_eq!(scene.snapshots(), 1);
    assert_eq!(walk(&scene.world.path("repository/sessions")).len(), 0);
}

/// Everything was counted as new.
#[test]
fn a_rescan_counts_what_is_as_it_was_as_unmodified() {
    let scene = Scene::backed_up();
    fs::write(scene.world.source().join("top"), "other").unwrap();
    let run = scene.run(&["backup", "--rescan", "--json", scene.source()]).expect(0).json();
    let summary = run.last().unwrap();
    let counts =
        ["files_new", "files_changed", "files_unmodified"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts, [0, 1, 1], "{summary}");
    assert!(summary["bytes_read"].as_u64().unwrap() >= 12, "{summary}");
}

#[test]
fn a_key_that_could_not_be_added_leaves_no_key_file() {
    let scene = Scene::backed_up();
    let key = scene.path("key");
    let label = "x".repeat(200);
    scene.run(&["key", "add", "--new-key-file", &key, "--label", &label]).expect_failure();
    assert!(!std::path::Path::new(&key).exists());
    scene.run(&["key", "add", "--new-key-file", &key]).expect(0);
}

/// The dump that failed before the pipe is the one that nobody looks at until it is needed.
#[test]
fn an_empty_standard_input_is_worth_a_word() {
    let scene = Scene::backed_up();
    let arguments = ["backup", "--stdin", "--stdin-filename", "/dump.sql"];
    scene.run(&arguments).expect(0).says("warning: standard input was empty");
    let said = scene.run(&[&arguments[..], &["--json"]].concat()).expect(0).json();
    assert!(said.iter().any(|line| line["message_type"] == "warning"), "{said:?}");
    let empty = scene.world.source().join("empty");
    fs::write(&empty, "").unwrap();
    let said = scene.run(&["backup", empty.to_str().unwrap()]).expect(0);
    assert!(!said.err.contains("warning"), "{}", said.err);
}

#[test]
fn a_passphrase_that_opens_already_is_not_a_new_one() {
    let scene = Scene::backed_up();
    let slots = || scene.run(&["key", "list", "--json"]).expect(0).out;
    let before = slots();
    let file = scene.path("passphrase");
    fs::write(&file, "secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for command in ["change", "add"] {
        let said = scene.run(&["key", command, "--new-passphrase-file", &file]).expect(2);
        assert!(
            said.err.contains("opens the repository already") && said.err.contains("nothing was"),
            "{}",
            said.err
        );
        assert!(!said.err.contains("any more"), "{}", said.err);
        assert_eq!(slots(), before, "{command}");
    }
    fs::write(&file, "another\n").unwrap();
    scene.run(&["key", "change", "--new-passphrase-file", &file]).expect(0).says("does not open");
    scene.run(&["snapshots"]).expect(12);
    scene.person.clone().with("LIFEBOAT_PASSPHRASE", "another").run(&["snapshots"]).expect(0);
}

#[test]
fn a_time_means_all_of_the_minute_that_it_names() {
    let scene = Scene::backed_up();
    let person = scene.person.clone().with("TZ", "UTC");
    let time = person.run(&["snapshots", "--json"]).expect(0).json()[0]["time"].as_str().unwrap().to_owned();
    // As lists show it, and cut off at the minute and the day.
    for length in [19, 16, 10] {
        for time in [time[..length].to_owned(), time[..length].replace('T', " ")] {
            person.run(&["ls", "--at", &time]).expect(0);
        }
    }
    person.run(&["ls", "--at", &format!("{}Z", &time[..19])]).expect(0);
    person.run(&["ls", "--at", &time]).expect(0);
    person.run(&["ls", "--at", "2026-11-20T00:00:00Z"]).expect(2).says("from before 2026-11-20 00:00:00");
    // Clocks go from 2:00 to 3:00 on the last Sunday of March, and back on that of October.
    let person = scene.person.clone().with("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let said = person.run(&["ls", "--at", "2026-03-29 02:30"]).expect(2).says("clocks are put forward");
    assert!(said.err.contains("hint: ") && !said.err.contains("is not a time"), "{}", said.err);
    person.run(&["ls", "--at", "2026-03-29 03:00"]).expect(2).says("from before 2026-03-29 03:00:59");
    person.run(&["ls", "--at", "2026-10-25 02:30"]).expect(2).says("from before");
}

/// The next command then had the wrong key, and nobody had said so.
#[test]
fn the_key_that_is_in_use_is_removed_only_by_force() {
    let scene = Scene::backed_up();
    scene.run(&["key", "add", "--new-key-file", &scene.path("key")]).expect(0);
    let slots = scene.run(&["key", "list", "--json"]).expect(0).json();
    let own = slots.iter().find(|slot| slot["kind"] == "passphrase").unwrap()["id"].as_str().unwrap();
    scene.run(&["key", "remove", own]).expect(2).says("wrong key").says("--force");
    scene.run(&["snapshots"]).expect(0);
    scene.run(&["key", "remove", own, "--force"]).expect(0).says("LIFEBOAT_PASSPHRASE does not open");
    scene.run(&["snapshots"]).expect(12);
    // The last is not removed by any force.
    let file = scene.path("key");
    let last = slots.iter().find(|slot| slot["kind"] == "key file").unwrap()["id"].as_str().unwrap();
    scene.run(&["key", "remove", last, "--force", "--key-file", &file]).expect(2).says("last key slot");
}

/// Who does not know of the key file loses the backups with the disk.
#[test]
fn a_first_backup_names_the_key_however_quiet_it_is() {
    let scene = Scene::new();
    let (repository, key) = (".local/share/lifeboat/repository", ".local/share/lifeboat/key");
    let quiet = Person::new(&scene.world.path("quiet"));
    let said = quiet.run(&["-q", "backup", scene.source()]).expect(0);
    for words in
        [&scene.path(&format!("quiet/{repository}")), &scene.path(&format!("quiet/{key}")), "key show"]
    {
        assert!(said.err.contains(words), "no {words} in {}", said.err);
    }
    assert_eq!(quiet.run(&["-q", "backup", scene.source()]).expect(0).err, "");
    let program = Person::new(&scene.world.path("program"));
    let lines = program.run(&["-q", "--json", "backup", scene.source()]).expect(0).json();
    let made = lines.iter().find(|line| line["message_type"] == "repository_created").unwrap();
    assert_eq!(made["repository"], scene.path(&format!("program/{repository}")), "{made}");
    assert_eq!(made["key_file"], scene.path(&format!("program/{key}")), "{made}");
}

#[test]
fn a_missing_pack_is_said_in_plain_words() {
    let scene = Scene::backed_up();
    let packs = walk(&scene.world.path("repository/packs"));
    fs::remove_file(packs.iter().find(|path| path.is_file()).unwrap()).unwrap();
    scene.backup().expect(0).says("1 is missing or cut off");
}

/// A path that is named is backed up: what a pattern says of it was passed over without a word.
#[test]
fn a_pattern_that_matches_a_named_path_is_worth_a_word() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let named = format!("{}/sub", scene.source());
    for (pattern, noted) in [(named.as_str(), true), ("sub", true), ("sub/", true), ("top", false)] {
        let said = scene.run(&["backup", &named, "--exclude", pattern]).expect(0);
        let words = format!("{named} matches a pattern");
        assert_eq!(said.err.contains(&words), noted, "{pattern}: {}", said.err);
        scene.run(&["ls", "-R", "latest"]).expect(0).prints("sub/file");
    }
    let said = scene.run(&["backup", scene.source(), "--exclude", "sub"]).expect(0);
    assert!(!said.err.contains("matches a pattern"), "{}", said.err);
}

#[test]
fn a_tag_that_is_given_twice_is_one_tag() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    scene.run(&["backup", scene.source(), "--tag", "b", "--tag", "a", "--tag", "b"]).expect(0);
    let snapshot = &scene.run(&["snapshots", "--json"]).expect(0).json()[0];
    assert_eq!(snapshot["tags"], serde_json::json!(["b", "a"]), "{snapshot}");
}

#[test]
fn an_empty_command_for_the_passphrase_is_a_mistake() {
    let scene = Scene::backed_up();
    let person = Person::new(&scene.world.path("other"))
        .with("LIFEBOAT_REPOSITORY", scene.world.path("repository"))
        .with("LIFEBOAT_PASSPHRASE_COMMAND", "");
    person.run(&["snapshots"]).expect(2).says("LIFEBOAT_PASSPHRASE_COMMAND is set but empty").says("unset");
}
