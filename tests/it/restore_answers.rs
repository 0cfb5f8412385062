//! What a restore tells the person who runs it: what is missing or in the way comes with the next step, and counts are what happened.

use std::fs;
use std::os::unix::fs::{FileExt as _, symlink};

use lifeboat_tests::binary::ended;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::restoring::{Scene, large};
use crate::scene::{Tmpfs, walk};

/// A file that was to stay as it is was called a difference.
#[test]
fn what_was_to_stay_is_not_verified() {
    let scene = Scene::of(|source| {
        for name in ["mine", "missing"] {
            fs::write(source.join(name), name).unwrap();
        }
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/large"), large()).unwrap();
        symlink("mine", source.join("link")).unwrap();
    });
    scene.restore(&[], 0);
    let change = || {
        fs::write(scene.target().join("mine"), "changed").unwrap();
        fs::write(scene.target().join("directory/large"), "changed").unwrap();
        fs::remove_file(scene.target().join("missing")).unwrap();
        fs::remove_file(scene.target().join("link")).unwrap();
        symlink("elsewhere", scene.target().join("link")).unwrap();
    };
    for when in ["never", "if-newer"] {
        change();
        let said = scene.person.run(&scene.arguments(&["--overwrite", when, "--verify"])).expect(0);
        assert!(said.out.contains("3 left alone, 1 verified"), "{when}: {}", said.out);
        assert_eq!(fs::read(scene.target().join("mine")).unwrap(), b"changed", "{when}");
    }
    change();
    scene.restore(&["--overwrite", "always", "--verify"], 0);
    scene.assert_restored();
}

/// What a dry run says is what the run then does, also of names that are links.
#[test]
fn a_dry_run_counts_as_the_run_does() {
    let scene = Scene::of(|source| {
        fs::write(source.join("a"), "content").unwrap();
        for name in ["b", "c"] {
            fs::hard_link(source.join("a"), source.join(name)).unwrap();
        }
        symlink("a", source.join("link")).unwrap();
        fs::hard_link(source.join("link"), source.join("link too")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/large"), large()).unwrap();
    });
    let summary = |more: &[&str]| {
        let said = scene.person.run(&scene.arguments(&[more, &["--json"]].concat()));
        let mut summary = said.json().into_iter().find(|line| line["message_type"] == "summary").unwrap();
        // How much of the files that are there was looked at is known to the run only.
        for field in ["dry_run", "bytes_total"] {
            summary.as_object_mut().unwrap().remove(field);
        }
        (said.code, summary)
    };
    let compare = |more: &[&str], state: &str| {
        let dry = summary(&[more, &["--dry-run"]].concat());
        assert_eq!(dry, summary(more), "{state}");
    };
    compare(&[], "into nothing");
    compare(&["--overwrite", "if-changed"], "all is there");
    compare(&["--overwrite", "always"], "all is there");
    fs::remove_file(scene.target().join("b")).unwrap();
    fs::remove_file(scene.target().join("link")).unwrap();
    fs::remove_file(scene.target().join("directory/large")).unwrap();
    fs::create_dir(scene.target().join("directory/large")).unwrap();
    compare(&["--overwrite", "always"], "some of it is missing, and something is in the way");
}

#[test]
fn a_target_takes_one_restore_at_a_time() {
    let scene = Scene::of(|source| {
        for name in ["a", "b", "c"] {
            fs::write(source.join(name), large()).unwrap();
        }
    });
    let target = scene.world.path("target");
    fs::create_dir(&target).unwrap();
    let other = fs::File::open(&target).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let said = scene.person.run(&scene.arguments(&[])).expect(11);
    assert!(said.err.contains("another restore into") && said.err.contains("hint: Wait"), "{}", said.err);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    // To look is not to touch.
    scene.restore(&["--dry-run"], 0);
    drop(other);
    let all = ["--overwrite", "always"];
    let started: Vec<_> = (0..4).map(|_| scene.person.start(&scene.arguments(&all))).collect();
    let codes: Vec<_> = started.into_iter().map(|child| ended(child).code).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 11))), "{codes:?}");
    scene.assert_restored();
    assert_eq!(scene.partial_names(), [""; 0]);
}

#[test]
fn an_interrupted_restore_says_how_it_goes_on() {
    let scene = Scene::of(|source| {
        for number in 0..4 {
            fs::write(source.join(format!("large{number}")), large()).unwrap();
        }
    });
    let mut child = scene.person.start(&scene.arguments(&[]));
    while scene.partial_names().is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = ended(child).expect(130);
    assert!(said.err.contains("Run the same command again: it continues"), "{}", said.err);
    scene.restore(&[], 0);
    scene.assert_restored();
}

#[test]
fn what_is_in_the_way_comes_with_a_way_out() {
    let scene = Scene::of(|source| {
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/inside"), "inside").unwrap();
        fs::write(source.join("file"), "file").unwrap();
        fs::hard_link(source.join("file"), source.join("further")).unwrap();
    });
    let hint = |more: &[&str]| {
        let said = scene.person.run(&scene.arguments(more)).expect(1);
        // A further name of what could not be restored is restored by itself, which is nothing to complain of.
        assert!(!said.err.contains("hard link"), "{}", said.err);
        let last = said.err.lines().last().unwrap().to_owned();
        assert!(last.starts_with("hint: "), "{}", said.err);
        last
    };
    scene.restore(&[], 0);
    fs::remove_file(scene.target().join("file")).unwrap();
    fs::create_dir(scene.target().join("file")).unwrap();
    let said = hint(&["--overwrite", "always"]);
    assert!(said.contains("--delete"), "{said}");
    assert_eq!(fs::read(scene.target().join("further")).unwrap(), b"file");
    fs::remove_dir_all(scene.target().join("directory")).unwrap();
    fs::write(scene.target().join("directory"), "mine").unwrap();
    let said = hint(&["--overwrite", "never"]);
    assert!(said.contains("--overwrite always") && !said.contains("--delete"), "{said}");
}

#[test]
fn a_pattern_that_picks_nothing_is_a_mistake() {
    let scene = Scene::of(|source| fs::write(source.join("file"), "file").unwrap());
    for more in [&[][..], &["--dry-run"], &["--verify"]] {
        let arguments = scene.arguments(&[&["--include", "nope", "--include", "nor/this"], more].concat());
        let said = scene.person.run(&arguments).expect(2);
        assert!(said.err.contains("matches --include nope, nor/this"), "{}", said.err);
        assert_eq!(said.out, "");
    }
    scene.restore(&["--include", "file"], 0);
    scene.assert_restored();
}

/// Of a lost part of the index nothing is lost, also where the index cannot be made anew because the store can only be read.
#[test]
fn a_lost_index_keeps_nobody_from_a_restore() {
    let scene = Scene::of(|source| fs::write(source.join("file"), "file").unwrap());
    let [shard] = &walk(&scene.world.path("repository/index"))[..] else { panic!("one shard") };
    fs::remove_file(shard).unwrap();
    fs::remove_dir_all(scene.world.path("home/.cache")).unwrap();
    let said = scene.person.run(&scene.arguments(&[])).expect(0);
    said.says("no index").says("`lifeboat repair index`");
    scene.assert_restored();
    scene.person.run(&["ls", "-R", "latest:/"]).expect(0).says("`lifeboat repair index`").prints("file");
    // What judges the repository is not helped.
    scene.person.run(&["check"]).expect(14).says("`lifeboat repair index`");
    scene.person.run(&["repair", "index"]).expect(0);
    scene.person.run(&["check"]).expect(0);
}

/// A restore of many bytes that is killed once it has begun to write.
fn kill_in_the_middle(scene: &Scene, arguments: &[&str]) {
    let mut child = scene.person.start(&scene.arguments(arguments));
    while scene.partial_names().is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    assert_eq!(ended(child).code, None, "it ended before it was killed");
}

fn large_files() -> Scene {
    Scene::of(|source| {
        fs::write(source.join("aaa"), "of the snapshot").unwrap();
        (0..4).for_each(|number| fs::write(source.join(format!("large{number}")), large()).unwrap());
    })
}

/// What was allowed to one command is not allowed to another because the first was cut off.
#[test]
fn another_command_does_not_continue_an_interrupted_restore() {
    let scene = large_files();
    let target = scene.target();
    fs::create_dir_all(target.join("thesis")).unwrap();
    fs::write(target.join("aaa"), "the user's").unwrap();
    fs::write(target.join("thesis/text"), "the user's").unwrap();
    let intact = || {
        assert_eq!(fs::read(target.join("aaa")).unwrap(), b"the user's");
        assert_eq!(fs::read(target.join("thesis/text")).unwrap(), b"the user's");
    };
    kill_in_the_middle(&scene, &["--overwrite", "never"]);
    for others in [&[][..], &["--delete"], &["--include", "aaa"]] {
        scene.person.run(&scene.arguments(others)).expect(2).says("is not empty");
        intact();
    }
    scene.restore(&["--overwrite", "never"], 0);
    intact();
    assert_eq!(fs::read(target.join("large3")).unwrap(), large());
}

#[test]
fn only_what_was_begun_in_an_empty_target_is_continued_there() {
    let scene = large_files();
    kill_in_the_middle(&scene, &[]);
    let elsewhere = format!("latest:{}", scene.world.source().display());
    let root = scene.world.path("target").display().to_string();
    scene.person.run(&["restore", &elsewhere, "--target", &root]).expect(2).says("is not empty");
    let continued = scene.person.run(&scene.arguments(&[])).expect(0);
    continued.says("continuing a restore that was interrupted");
    scene.assert_restored();
}

#[test]
fn a_restore_of_nothing_leaves_no_target_behind() {
    let scene = large_files();
    scene.restore(&["--include", "no-such-name"], 2);
    assert!(!scene.world.path("target").exists());
}

#[test]
fn attributes_that_root_cannot_put_back_are_in_the_exit_code() {
    let scene = large_files();
    let Some(_mount) = Tmpfs::mount(&scene.world.path("attributes"), "4m") else { return };
    let file = scene.world.path("attributes/file");
    fs::write(&file, "content").unwrap();
    // More than ext4 has room for beside an inode.
    let value = "v".repeat(3000);
    for number in 0..20 {
        let name = format!("user.number{number}");
        if rustix::fs::setxattr(&file, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).is_err() {
            return println!("skipped: this tmpfs has no user attributes");
        }
    }
    scene.person.run(&["backup", file.to_str().unwrap()]).expect(0);
    let ended = scene.person.run(&scene.arguments(&[]));
    if !ended.err.contains("extended attribute") {
        return println!("skipped: the file system of the target takes them all");
    }
    ended.expect(3);
}

/// Nothing had been written, and the command that was advised left the file as wrong as it was.
#[test]
fn other_bytes_of_the_same_size_and_time_are_mended_by_what_is_advised() {
    let scene = Scene::of(|source| {
        fs::write(source.join("file"), "right").unwrap();
        fs::File::create(source.join("hole")).unwrap().set_len(1 << 20).unwrap();
    });
    scene.restore(&[], 0);
    let spoil = |name: &str, bytes: &[u8]| {
        let path = scene.target().join(name);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_modified(time).unwrap();
    };
    for (name, words) in [("file", "has other bytes than the snapshot"), ("hole", "should be a hole")] {
        spoil(name, b"wrong");
        let said = scene.person.run(&scene.arguments(&["--overwrite", "if-changed", "--verify"])).expect(1);
        assert!(said.err.contains(words) && !said.err.contains("was written"), "{name}: {}", said.err);
        let hint = said.err.lines().find(|line| line.starts_with("hint: ")).unwrap();
        assert!(hint.contains("again, with --overwrite always,"), "{name}: {hint}");
        scene.restore(&["--overwrite", "always", "--verify"], 0);
        scene.assert_restored();
    }
}

/// It sounded as if the repair took something away, which here only adds.
#[test]
fn a_check_of_a_lost_part_of_the_index_says_that_the_repair_takes_nothing_away() {
    let scene = Scene::of(|source| fs::write(source.join("file"), "file").unwrap());
    let [shard] = &walk(&scene.world.path("repository/index"))[..] else { panic!("one shard") };
    let sound = fs::read(shard).unwrap();
    for damage in [Some(&sound[..sound.len() - 1]), None] {
        fs::remove_file(shard).unwrap();
        if let Some(bytes) = damage {
            fs::write(shard, bytes).unwrap();
        }
        let said = scene.person.run(&["check"]).expect(14).says("`lifeboat repair index` enters");
        assert!(
            said.err.contains("takes nothing away") && !said.err.contains("out of the index"),
            "{}",
            said.err
        );
    }
    scene.person.run(&["repair", "index"]).expect(0);
    scene.person.run(&["check", "--read-data"]).expect(0);
    // Where a pack is gone, something is lost.
    let pack = walk(&scene.world.path("repository/packs")).into_iter().find(|path| path.is_file()).unwrap();
    fs::remove_file(pack).unwrap();
    scene.person.run(&["check"]).expect(14).says("takes what is lost out of the index");
}
