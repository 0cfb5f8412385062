//! The real binary, used as people use it, rightly and wrongly.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_tests::binary::{Ended, Person, ended};
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;

use crate::scene::{Scene, Tmpfs, find, walk};

/// The README's first command: nothing is configured, nothing is there.
#[test]
fn the_first_backup_needs_no_configuration() {
    let scene = Scene::new();
    let newcomer = Person::new(&scene.world.path("newcomer"));
    let first = newcomer.run(&["backup", scene.source()]).expect(0);
    let said = format!("{}{}", first.out, first.err);
    assert!(said.contains("newcomer") && said.contains("key"), "where both are: {said}");
    let key = find(&scene.world.path("newcomer"), "key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    newcomer.run(&["backup", scene.source()]).expect(0);
    assert_eq!(newcomer.run(&["snapshots", "--json"]).expect(0).json().len(), 2);
    newcomer.run(&["check", "--read-data"]).expect(0);
    let target = scene.path("target");
    newcomer.run(&["restore", &format!("latest:{}", scene.source()), "--target", &target]).expect(0);
    see(Path::new(&target)).assert_equals(&see(&scene.world.source()), "restored");
    // The cache may go at any time.
    fs::remove_dir_all(scene.world.path("newcomer/.cache")).unwrap();
    newcomer.run(&["backup", scene.source()]).expect(0);
}

#[test]
fn two_first_backups_at_the_same_time_share_one_repository() {
    let scene = Scene::new();
    for round in 0..5 {
        let newcomer = Person::new(&scene.world.path(&format!("newcomer{round}")));
        let both = [newcomer.start(&["backup", scene.source()]), newcomer.start(&["backup", scene.source()])];
        for child in both {
            ended(child).expect(0);
        }
        assert_eq!(newcomer.run(&["snapshots", "--json"]).expect(0).json().len(), 2, "round {round}");
        newcomer.run(&["check"]).expect(0);
    }
}

#[test]
fn rsync_finds_no_difference() {
    if Command::new("rsync").arg("--version").output().is_err() {
        println!("skipped: no rsync");
        return;
    }
    let scene = Scene::backed_up();
    grow::grow(&scene.world.source(), 120, &mut Random::new(50));
    // Sockets are never restored.
    let none = Command::new("find").args([scene.source(), "-type", "s", "-delete"]).status().unwrap();
    assert!(none.success());
    scene.backup().expect(0);
    let target = scene.path("target");
    scene.run(&["restore", &format!("latest:{}", scene.source()), "--target", &target, "--verify"]).expect(0);
    let from = format!("{}/", scene.source());
    let into = format!("{target}/");
    let arguments = ["-naAXH", "--checksum", "--itemize-changes", "--delete", &from, &into];
    let compared = Command::new("rsync").args(arguments).output().unwrap();
    assert!(compared.status.success(), "{compared:?}");
    assert_eq!(String::from_utf8_lossy(&compared.stdout), "");
}

#[test]
fn exit_codes_are_what_scripts_rely_on() {
    let scene = Scene::backed_up();
    scene.run(&["check"]).expect(0);
    scene.run(&["no-such-command"]).expect(2);
    scene.run(&["backup"]).expect(2);
    scene.run(&["backup", "/no/such/path"]).expect(2).says("/no/such/path");
    scene.run(&["-r", &scene.path("nowhere"), "snapshots"]).expect(10).says("nowhere");
    scene
        .person
        .clone()
        .with("LIFEBOAT_PASSPHRASE", "wrong")
        .run(&["snapshots"])
        .expect(12)
        .says("passphrase");
    scene.run(&["init"]).expect(2).says("already");
    let pack = walk(&scene.world.path("repository/packs")).into_iter().find(|path| path.is_file()).unwrap();
    fs::write(&pack, b"").unwrap();
    let checked = scene.run(&["check"]).expect(14);
    assert!(checked.out.contains("sub/file") || checked.err.contains("sub/file"), "{checked:?}");
    scene.run(&["restore", "latest", "--target", &scene.path("damaged")]).expect(14);
}

#[test]
fn wrong_snapshots_list_candidates() {
    let scene = Scene::backed_up();
    let id = scene.run(&["snapshots", "--json"]).json()[0]["short_id"].as_str().unwrap().to_owned();
    for wrong in ["ffffffffffff", "latest~7", "nonsense", "latest~x"] {
        let said = scene.run(&["ls", wrong]).expect(2);
        assert!(wrong == "latest~x" || said.err.contains(&id), "{wrong}: {}", said.err);
    }
    scene.run(&["ls", "latest:/no/such"]).expect(2).says("/no/such");
    scene.run(&["ls", "latest", "--at", "yesterdayish"]).expect(2).says("2026");
    scene.run(&["ls", "latest", "--at", "2001-01-01"]).expect(2).says(&id);
}

#[test]
fn bad_input_is_refused_with_a_reason_and_changes_nothing() {
    let scene = Scene::backed_up();
    let world = &scene.world;
    // Not a repository.
    fs::create_dir(world.path("empty")).unwrap();
    scene.run(&["-r", &scene.path("empty"), "snapshots"]).expect(10);
    fs::write(world.path("a-file"), "text").unwrap();
    scene.run(&["-r", &scene.path("a-file"), "snapshots"]).expect(10);
    scene.run(&["-r", "sftp://host/x", "snapshots"]).expect(2).says("sftp");
    scene.run(&["-r", "s3://bucket/x?regoin=y", "snapshots"]).expect(2).says("regoin");
    // A newer version, an unknown feature.
    let config = world.path("repository/config");
    let original = fs::read(&config).unwrap();
    let mut newer = original.clone();
    newer[8] = 99;
    replace(&config, &newer);
    scene.run(&["snapshots"]).expect(1).says("version 99");
    let mut feature = original[..10].to_vec();
    feature.extend_from_slice(b"\x01\x07telepat");
    feature.extend_from_slice(&original[11..]);
    replace(&config, &feature);
    scene.run(&["snapshots"]).expect(1).says("telepat");
    replace(&config, b"something else");
    scene.run(&["snapshots"]).expect(14).says("config");
    replace(&config, &original);
    // A configuration with an unknown key.
    let file = world.path("config.toml");
    fs::write(&file, "\nreposotory = \"/x\"\n").unwrap();
    let said = scene.run(&["-c", file.to_str().unwrap(), "snapshots"]).expect(2).says("repository");
    assert!(said.err.contains("line 2"), "{}", said.err);
    scene.run(&["-c", "/no/such/config", "snapshots"]).expect(2).says("/no/such/config");
    // Targets that cannot be.
    fs::create_dir(world.path("occupied")).unwrap();
    fs::write(world.path("occupied/mine"), "mine").unwrap();
    scene.run(&["restore", "latest", "--target", &scene.path("occupied")]).expect(2).says("not empty");
    scene.run(&["restore", "latest", "--target", &scene.path("a-file")]).expect(2).says("not a directory");
    scene
        .run(&["restore", "latest", "--target", &scene.path("repository/inside")])
        .expect(2)
        .says("repository");
    let delete =
        ["restore", "latest", "--target", &scene.path("occupied"), "--overwrite", "always", "--delete"];
    scene.run(&delete).expect(2).says("--force");
    assert_eq!(fs::read(world.path("occupied/mine")).unwrap(), b"mine");
    assert!(!world.path("repository/inside").exists());
    for pattern in ["[", "a[z"] {
        scene.run(&["backup", scene.source(), "--exclude", pattern]).expect(2).says(pattern);
    }
    scene.run(&["backup", scene.source(), "--compression", "20"]).expect(2);
    scene.run(&["check", "--read-data-subset", "9/7"]).expect(2);
    assert_eq!(scene.snapshots(), 1);
    scene.run(&["check", "--read-data"]).expect(0);
}

fn replace(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let scene = Scene::backed_up();
    let keyed =
        Person::new(&scene.world.path("keyed")).with("LIFEBOAT_REPOSITORY", scene.world.path("repository"));
    keyed.run(&["snapshots", "--key-file", "/no/such/key"]).expect_failure().says("/no/such/key");
    keyed.run(&["snapshots"]).expect_failure().says("--key-file");
    let file = scene.path("key");
    fs::write(&file, "LB1-WRONG").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    keyed.run(&["snapshots", "--key-file", &file]).expect_failure().says(&file);
    let file = scene.path("new-key");
    scene.run(&["key", "add", "--new-key-file", &file]).expect(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    keyed.run(&["snapshots", "--key-file", &file]).expect_failure().says("chmod");
}

#[test]
fn key_slots_open_and_close() {
    let scene = Scene::backed_up();
    let repository = scene.world.path("repository");
    let keyed = Person::new(&scene.world.path("keyed")).with("LIFEBOAT_REPOSITORY", &repository);
    let file = scene.path("key");
    let ids = |ended: &Ended| -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        ended.json().iter().map(|slot| (text(&slot["kind"]), text(&slot["id"]))).collect()
    };
    scene.run(&["key", "add", "--new-key-file", &file, "--label", "for the test"]).expect(0);
    keyed.run(&["snapshots", "--key-file", &file]).expect(0);
    // A recovery key that was printed opens too, as typed into a file.
    let printed = scene.run(&["key", "recovery"]).expect(0);
    let text = printed.out.split_whitespace().find(|word| word.starts_with("LB1-")).unwrap().to_lowercase();
    let typed = scene.path("typed");
    fs::write(&typed, text).unwrap();
    fs::set_permissions(&typed, fs::Permissions::from_mode(0o600)).unwrap();
    keyed.run(&["snapshots", "--key-file", &typed]).expect(0);
    let slots = ids(&scene.run(&["key", "list", "--json"]).expect(0));
    assert_eq!(slots.len(), 3, "{slots:?}");
    let passphrase = &slots.iter().find(|(kind, _)| kind == "passphrase").unwrap().1;
    keyed.run(&["key", "remove", passphrase, "--key-file", &file]).expect(0);
    scene.run(&["snapshots"]).expect(12);
    keyed.run(&["key", "remove", "0000000000000000", "--key-file", &file]).expect(2);
    let left = ids(&keyed.run(&["key", "list", "--json", "--key-file", &file]).expect(0));
    let recovery = &left.iter().find(|(kind, _)| kind == "recovery key").unwrap().1;
    keyed.run(&["key", "remove", recovery, "--key-file", &file]).expect(0);
    let last = &left.iter().find(|(kind, _)| kind == "key file").unwrap().1;
    keyed.run(&["key", "remove", last, "--key-file", &file]).expect(2).says("last");
    keyed.run(&["snapshots", "--key-file", &file]).expect(0);
}

#[test]
fn a_repository_inside_the_source_is_left_out_with_a_word() {
    let scene = Scene::new();
    let inside = scene.world.source().join("sub/repository");
    let person = scene.person.clone().with("LIFEBOAT_REPOSITORY", &inside);
    person.run(&["init"]).expect(0);
    let said = person.run(&["backup", scene.source()]).expect(0);
    assert!(format!("{}{}", said.out, said.err).contains("sub/repository"), "{said:?}");
    let listed = person.run(&["ls", "-R", "latest"]).expect(0);
    assert!(!listed.out.contains("packs") && listed.out.contains("sub/file"), "{}", listed.out);
}

#[test]
fn restores_of_a_part() {
    let scene = Scene::backed_up();
    let source = scene.source();
    let target = |name: &str| scene.path(name);
    scene.run(&["restore", &format!("latest:{source}/sub/file"), "--target", &target("one")]).expect(0);
    assert_eq!(fs::read(scene.world.path("one/file")).unwrap(), b"content");
    scene.run(&["restore", &format!("latest:{source}/sub"), "--target", &target("directory")]).expect(0);
    assert_eq!(fs::read(scene.world.path("directory/file")).unwrap(), b"content");
    scene.run(&["restore", "latest", "--target", &target("whole"), "--include", "file"]).expect(0);
    assert!(scene.world.path("whole").join(&source[1..]).join("sub/file").exists());
    assert!(!scene.world.path("whole").join(&source[1..]).join("top").exists());
    let dumped = scene.run(&["dump", &format!("latest:{source}/sub/file")]).expect(0);
    assert_eq!(dumped.out, "content");
    scene.run(&["restore", "latest", "--target", &target("dry"), "--dry-run"]).expect(0);
    assert!(!scene.world.path("dry").exists());
    // A second restore over the first changes nothing; one over a changed file mends it.
    fs::write(scene.world.path("directory/file"), "changed").unwrap();
    let over = ["restore", &format!("latest:{source}/sub"), "--target", &target("directory"), "--overwrite"];
    scene.run(&[&over[..], &["never"]].concat()).expect(0);
    assert_eq!(fs::read(scene.world.path("directory/file")).unwrap(), b"changed");
    scene.run(&[&over[..], &["always"]].concat()).expect(0);
    assert_eq!(fs::read(scene.world.path("directory/file")).unwrap(), b"content");
}

#[test]
fn json_lines_are_json_with_a_type() {
    let scene = Scene::backed_up();
    let source = scene.source();
    let target = scene.path("target");
    let commands: [&[&str]; 12] = [
        &["backup", source],
        &["snapshots"],
        &["ls", "latest"],
        &["find", "file"],
        &["diff", "latest~1", "latest"],
        &["stats"],
        &["check", "--read-data"],
        &["key", "list"],
        &["restore", "latest", "--target", &target],
        &["backup", source, "--dry-run"],
        &["forget", "latest", "--dry-run"],
        &["repair", "index"],
    ];
    for command in commands {
        let said = scene.run(&[command, &["--json"]].concat()).expect(0);
        for line in said.json() {
            assert!(line["message_type"].is_string(), "{command:?}: {line}");
        }
        assert!(!said.out.is_empty() || command[0] == "diff", "{command:?} says nothing");
    }
    let failed = scene.run(&["--json", "ls", "nonsense"]).expect(2);
    let last: serde_json::Value = serde_json::from_str(failed.err.lines().last().unwrap()).unwrap();
    assert_eq!((&last["message_type"], &last["code"]), (&"exit_error".into(), &2.into()), "{last}");
    assert!(last["message"].as_str().unwrap().contains("nonsense"), "{last}");
}

/// Both are in the middle of their backup at the same time: each waits for input that only this test gives.
#[test]
fn two_backups_at_the_same_time_both_land() {
    let scene = Scene::backed_up();
    let mut random = Random::new(51);
    let common = random.bytes(3 << 20);
    let started: Vec<_> = ["/one", "/two"]
        .into_iter()
        .map(|name| {
            let arguments = ["backup", "--stdin", "--stdin-filename", name];
            let mut command = scene.person.command(&arguments);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            // More than a pipe holds: when this returns, the child is reading.
            child.stdin.as_mut().unwrap().write_all(&common).unwrap();
            (name, child)
        })
        .collect();
    for (name, mut child) in started {
        child.stdin.as_mut().unwrap().write_all(name.as_bytes()).unwrap();
        drop(child.stdin.take());
        ended(child).expect(0);
    }
    assert_eq!(scene.snapshots(), 3);
    scene.run(&["check", "--read-data"]).expect(0);
    for name in ["/one", "/two"] {
        let target = scene.path(&name[1..]);
        let which = ["restore", "latest", "--path", name, "--target", &target];
        scene.run(&which).expect(0);
        let restored = fs::read(Path::new(&target).join(&name[1..])).unwrap();
        assert!(restored == [&common[..], name.as_bytes()].concat(), "{name}");
    }
}

#[test]
fn an_interrupt_keeps_what_was_stored() {
    let scene = Scene::backed_up();
    let data = Random::new(52).bytes(24 << 20);
    let arguments = ["backup", "--stdin", "--stdin-filename", "/stream", "--json"];
    let start = || {
        let mut command = scene.person.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start();
    child.stdin.as_mut().unwrap().write_all(&data[..20 << 20]).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // What follows may meet a closed pipe.
    let _ = child.stdin.as_mut().unwrap().write_all(&data[20 << 20..]);
    drop(child.stdin.take());
    ended(child).expect(130).says("kept");
    assert_eq!(scene.snapshots(), 1);
    scene.run(&["check", "--read-data"]).expect(0);
    let sessions = walk(&scene.world.path("repository/sessions"));
    assert!(sessions.is_empty(), "{sessions:?}");
    let mut child = start();
    child.stdin.as_mut().unwrap().write_all(&data).unwrap();
    drop(child.stdin.take());
    let done = ended(child).expect(0).json();
    let added = done.last().unwrap()["bytes_added"].as_u64().unwrap();
    // At most what lay in queues when the signal came is read again.
    assert!(added < 20 << 20, "{added} bytes were stored again");
}

#[test]
fn files_that_cannot_be_read_are_recorded() {
    let scene = Scene::new();
    let Some(nobody) = scene.nobody() else { return };
    fs::set_permissions(scene.world.source().join("top"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(scene.world.source().join("closed")).unwrap();
    fs::set_permissions(scene.world.source().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let said = nobody.run(&["backup", scene.source()]).expect(3);
    assert!(said.err.contains("/top") && said.err.contains("/closed"), "{}", said.err);
    let snapshot = nobody.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(snapshot[0]["errors_total"], 2, "{snapshot:?}");
    nobody.run(&["check", "--read-data"]).expect(0);
    // As another user everything possible comes back, and what is not is summed up, not spammed.
    let target = scene.path("nobody/target");
    let restored = nobody.run(&["restore", &format!("latest:{}", scene.source()), "--target", &target]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(fs::read(Path::new(&target).join("sub/file")).unwrap(), b"content");
    // A store that cannot be written to.
    let store = scene.world.path("nobody/.local/share/lifeboat/repository");
    let change = |mode: &str| {
        assert!(Command::new("chmod").args(["-R", mode]).arg(&store).status().unwrap().success())
    };
    change("a-w");
    let denied = nobody.run(&["backup", scene.source()]).expect(1);
    assert!(denied.err.contains("permission denied"), "{}", denied.err);
    nobody.run(&["snapshots"]).expect(0);
    nobody.run(&["check"]).expect(0);
    change("u+w");
    nobody.run(&["backup", scene.source()]).expect(3);
}

#[test]
fn a_snapshot_removed_from_the_disk_is_noticed() {
    let scene = Scene::backed_up();
    scene.backup().expect(0);
    let newest = scene.run(&["snapshots", "--json"]).json()[1]["id"].as_str().unwrap().to_owned();
    fs::remove_file(scene.world.path("repository/snapshots").join(&newest)).unwrap();
    let said = scene.run(&["check"]).expect(14);
    assert!(format!("{}{}", said.out, said.err).contains(&newest), "{said:?}");
}

#[test]
fn a_full_disk_is_exit_13() {
    let scene = Scene::new();
    let mount = scene.world.path("mount");
    let Some(_mounted) = Tmpfs::mount(&mount, "2m") else { return };
    let person = scene.person.clone().with("LIFEBOAT_REPOSITORY", mount.join("repository"));
    person.run(&["init"]).expect(0);
    fs::write(scene.world.source().join("large"), Random::new(53).bytes(8 << 20)).unwrap();
    let first = person.run(&["backup", scene.source()]);
    let temporary = walk(&mount.join("repository/.tmp")).into_iter().filter(|path| path.is_file()).count();
    let checked = person.run(&["check", "--read-data"]);
    first.expect(13);
    checked.expect(0);
    assert_eq!(temporary, 0, "half-written objects are left");
}

#[test]
fn help_and_the_manual_are_complete() {
    let scene = Scene::new();
    let help = scene.run(&["--help"]).expect(0).out;
    for command in [
        "init",
        "backup",
        "snapshots",
        "ls",
        "find",
        "diff",
        "dump",
        "stats",
        "mount",
        "restore",
        "check",
        "repair",
        "forget",
        "key",
        "doctor",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command} is not in the help");
        let own = scene.run(&[command, "--help"]).expect(0).out;
        assert!(own.contains("Usage:"), "{own}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(scene.run(&["completions", shell]).expect(0).out.contains("lifeboat"));
    }
    let similar = scene.run(&["snapshot"]).expect(2);
    assert!(similar.err.contains("snapshots"), "{}", similar.err);
}
