//! Destinations that are full: what does not fit is refused, room is made as the configuration says, and nothing older is harmed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lifeboat_agent::backup::{self, BackupOptions, Plan};
use lifeboat_agent::clock::Clock;
use lifeboat_agent::events::Context;
use lifeboat_agent::scan::exclude::ExcludeRules;
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::space::evict::evict;
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::binary::Ended;
use lifeboat_tests::random::Random;
use lifeboat_tests::world::{World, backup_all, create, open, options};
use lifeboat_tests::{grow, proof};

use crate::destinations::Three;
use crate::scene::{Tmpfs, walk};
use crate::three_destinations;

const MIB: usize = 1 << 20;

/// Destinations with these lines each; `retention` is the general table.
fn ready(destinations: &[(&str, &str)], retention: &str) -> Three {
    let three = Three::new();
    let mut text = retention.to_owned();
    for (name, lines) in destinations {
        let url = three.place(name);
        text += &format!("[[destination]]\nname = \"{name}\"\nurl = \"{}\"\n{lines}\n", url.display());
    }
    fs::write(three.0.world.path("home/.config/lifeboat/config.toml"), text).unwrap();
    three.run(&["init"]).expect(0);
    three
}

/// Bytes of everything there.
fn bytes(folder: &Path) -> u64 {
    walk(folder).iter().filter(|path| path.is_file()).map(|path| fs::metadata(path).unwrap().len()).sum()
}

impl Three {
    /// Backs up with a file of its own, which takes the place of the one before.
    fn backup_of(&self, number: usize, len: usize) -> Ended {
        let mut random = Random::new(1000 + number as u64);
        fs::write(self.0.world.source().join("data"), random.bytes(len)).unwrap();
        self.backup()
    }

    fn held_at(&self, name: &str) -> Vec<String> {
        let listed = self.run(&["-r", name, "snapshots", "--json"]).expect(0).json();
        let at = |snapshot: &serde_json::Value| {
            let destinations = snapshot["destinations"].as_array().unwrap();
            destinations.iter().any(|each| each["name"] == name && each["stored"] != false)
        };
        listed.iter().filter(|s| at(s)).map(|s| s["short_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn what_does_not_fit_is_refused_and_all_older_stays() {
    for when_full in ["fail", "prune"] {
        let three = ready(&[("one", &format!("quota = \"4MiB\"\nwhen_full = \"{when_full}\""))], "");
        three.backup_of(0, 2 * MIB).expect(0);
        three.backup_of(1, 3 * MIB).expect(13).says("is full").says("of its quota of 4.0 MiB are used");
        assert!(bytes(&three.place("one")) <= 4 << 20);
        three.run(&["check", "--read-data"]).expect(0);
        let shown = three.run(&["status", "--json"]).expect(0).json();
        assert_eq!(shown[0]["quota_bytes"], 4 << 20);
        let used = shown[0]["used_bytes"].as_u64().unwrap();
        assert_eq!(used, bytes(&three.place("one")));
        // What was there before is what it was; and it is said before it is too late.
        fs::write(three.0.world.source().join("data"), Random::new(1000).bytes(2 * MIB)).unwrap();
        three.restores_alone("one");
        // What the run that was refused has left goes at once only if that is asked for.
        three.run(&["prune", "--drop-interrupted"]).expect(0);
        assert!(bytes(&three.place("one")) < 5 << 19);
        three.backup_of(2, 1650 << 10).expect(0).says("is nearly full");
    }
}

#[test]
fn a_stream_that_does_not_fit_ends_with_the_same_code() {
    let three = ready(&[("one", "quota = \"2MiB\"")], "");
    let file = three.0.world.path("stream");
    fs::write(&file, Random::new(7).bytes(3 * MIB)).unwrap();
    let mut child = three.1.command(&["backup", "--stdin", "--stdin-filename", "/dump"]);
    let output = child.stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{}", String::from_utf8_lossy(&output.stderr));
    three.run(&["check", "--read-data"]).expect(0);
}

#[test]
fn room_is_made_by_the_policy_and_the_run_goes_on() {
    let three = ready(&[("one", "quota = \"6MiB\"")], "[retention]\nkeep_last = 1\n");
    three.backup_of(0, 2 * MIB).expect(0);
    three.backup_of(1, 2 * MIB).expect(0);
    let first = three.backup_of(2, 2 * MIB).expect(0);
    first.says("Making room").says("1 snapshot that the policy does not keep forgotten, 2.0 MiB came free");
    assert!(bytes(&three.place("one")) <= 6 << 20);
    three.restores_alone("one");
    three.run(&["check", "--read-data"]).expect(0);
    // Pinned, both have to stay.
    let held = three.held_at("one");
    three.run(&["snapshots", "pin", &held[0], &held[1]]).expect(0);
    three.backup_of(3, 2 * MIB).expect(13);
    assert_eq!(three.held_at("one"), held);
}

#[test]
fn the_oldest_are_evicted_where_another_holds_them_and_stay_there() {
    let evicts = "quota = \"5MiB\"\nwhen_full = \"evict\"";
    let three = ready(&[("one", ""), ("two", ""), ("three", evicts)], "");
    for number in 0..3 {
        three.backup_of(number, 2 * MIB).expect(0).prints("three: stored");
    }
    let all = three.held_at("one");
    assert_eq!(all.len(), 3);
    assert_eq!(three.held_at("three"), all[1..]);
    assert!(bytes(&three.place("three")) <= 5 << 20);
    // It is not brought back, and nothing lacks it.
    three.run(&["sync"]).expect(0);
    three.run(&["check", "--all", "--read-data"]).expect(0);
    assert_eq!(three.held_at("three"), all[1..]);
    for name in ["one", "two", "three"] {
        three.restores_alone(name);
    }
    let oldest = format!("{}:{}", all[0], three.0.source());
    three.run(&["restore", &oldest, "--target", &three.0.path("oldest")]).expect(0);
    assert_eq!(fs::read(three.0.world.path("oldest/data")).unwrap(), Random::new(1000).bytes(2 * MIB));
}

#[test]
fn what_no_other_holds_verified_is_not_evicted() {
    let three = ready(&[("one", ""), ("three", "quota = \"7MiB\"\nwhen_full = \"evict\"")], "");
    // What is small has a pack of its own.
    three.backup().expect(0);
    three.backup_of(0, 2 * MIB).expect(0);
    // A flipped bit at the only other one: its listing looks as ever.
    let pack = three.objects("one", "packs").into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
    let pack = pack.unwrap();
    let mut stored = fs::read(&pack).unwrap();
    stored[MIB] ^= 1;
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&pack, stored).unwrap();
    three.backup_of(1, 2 * MIB).expect(0);
    three.backup_of(2, 2 * MIB).expect(0);
    let all = three.held_at("three");
    let said = three.backup_of(3, 2 * MIB).expect(0);
    said.says("is damaged: what needs it is not evicted elsewhere");
    // What both hold went: the first of all, which is small, and the third in place of the second.
    let left = three.held_at("three");
    assert_eq!(left[..2], [all[1].clone(), all[3].clone()]);
    let oldest = format!("{}:{}", all[1], three.0.source());
    three.run(&["-r", "three", "restore", &oldest, "--target", &three.0.path("oldest")]).expect(0);
    assert_eq!(fs::read(three.0.world.path("oldest/data")).unwrap(), Random::new(1000).bytes(2 * MIB));
}

#[test]
fn two_that_evict_do_not_rely_on_each_other() {
    let evicts = "quota = \"5MiB\"\nwhen_full = \"evict\"";
    let three = ready(&[("one", evicts), ("two", evicts)], "");
    three.backup_of(0, 2 * MIB).expect(0);
    three.backup_of(1, 2 * MIB).expect(0);
    let all = three.held_at("one");
    three.backup_of(2, 2 * MIB).expect(13);
    assert_eq!((three.held_at("one"), three.held_at("two")), (all.clone(), all));
}

#[test]
fn what_the_other_is_about_to_forget_counts_for_nothing() {
    let lets_go = "[destination.retention]\nkeep_last = 1";
    let three = ready(&[("one", lets_go), ("two", "quota = \"5MiB\"\nwhen_full = \"evict\"")], "");
    three.backup_of(0, 2 * MIB).expect(0);
    three.backup_of(1, 2 * MIB).expect(0);
    let before = three.held_at("two");
    three.backup_of(2, 2 * MIB).expect(3).prints("two: NOT stored");
    assert_eq!(three.held_at("two"), before);
}

#[test]
fn the_last_good_one_is_not_evicted_for_one_that_lacks_something_or_lies_in_the_future() {
    let world = World::new();
    let place = world.path("store");
    let repository =
        create(Arc::new(LocalProvider::create(&place).unwrap()), &world.machine("a"), Cipher::default());
    let text = |path: &Path| path.to_str().unwrap().as_bytes().to_vec();
    let (source, other) = (world.source(), world.path("other"));
    grow::file(&source.join("data"), 100_000, &mut Random::new(3));
    fs::write(&other, "other").unwrap();
    let run = |clock: Clock| {
        let plan = Plan::new(&[text(&source), text(&other)]).unwrap();
        let options = BackupOptions { source: Some("s".to_owned()), clock, ..options() };
        let outcome = backup::run(&repository, plan, &ExcludeRules::default(), &options, &Context::silent());
        outcome.unwrap().snapshot.unwrap().id
    };
    run(Clock::System);
    let good = run(Clock::System);
    fs::remove_file(&other).unwrap();
    let incomplete = run(Clock::System);
    fs::write(world.path("clock"), "2200-01-01T00:00:00Z").unwrap();
    let future = run(Clock::File(world.path("clock")));
    let copy = world.path("copy");
    assert!(std::process::Command::new("cp").arg("-a").arg(&place).arg(&copy).status().unwrap().success());
    let copy = open(Arc::new(LocalProvider::open(&copy).unwrap()), &world.machine("c")).unwrap();
    assert_eq!(evict(&repository, &[copy], u64::MAX, "test", &Context::silent()).unwrap(), 1);
    let left = repository.load_history().unwrap().snapshots;
    assert_eq!(left.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [good, incomplete, future]);
}

#[test]
fn another_address_of_the_same_place_is_no_other_holder() {
    let world = World::new();
    let (place, link) = (world.path("store"), world.path("link"));
    let repository =
        create(Arc::new(LocalProvider::create(&place).unwrap()), &world.machine("a"), Cipher::default());
    let mut random = Random::new(3);
    for _ in 0..3 {
        grow::file(&world.source().join("data"), 100_000, &mut random);
        backup_all(&repository, &world.source());
    }
    std::os::unix::fs::symlink(&place, &link).unwrap();
    let alias = open(Arc::new(LocalProvider::open(&link).unwrap()), &world.machine("b")).unwrap();
    assert_ne!(alias.store().location(), repository.store().location());
    let evicted = evict(&repository, &[alias], u64::MAX, "test", &Context::silent()).unwrap();
    assert_eq!(evicted, 0);
    // A true copy counts, and the newest stays.
    let copy = world.path("copy");
    assert!(std::process::Command::new("cp").arg("-a").arg(&place).arg(&copy).status().unwrap().success());
    let copy = open(Arc::new(LocalProvider::open(&copy).unwrap()), &world.machine("c")).unwrap();
    let evicted = evict(&repository, &[copy], u64::MAX, "test", &Context::silent()).unwrap();
    assert_eq!(evicted, 2);
    proof::assert_whole(&repository, "evicted");
    assert_eq!(repository.load_history().unwrap().snapshots.len(), 1);
}

#[test]
fn used_packs_are_copied_in_the_room_that_there_is() {
    // Half of each pack is not used any more, and there is no room to copy all that is.
    let three = ready(&[("one", "quota = \"11MiB\"")], "[retention]\nkeep_last = 1\n");
    let source = three.0.world.source();
    let write = |kind: &str, number: u64| {
        fs::write(source.join(format!("{kind}{number}")), Random::new(number).bytes(MIB)).unwrap();
    };
    for number in 0..4 {
        write("stays", number);
        write("goes", 100 + number);
        three.backup().expect(0);
    }
    for number in 0..4 {
        fs::remove_file(source.join(format!("goes{}", 100 + number))).unwrap();
    }
    three.backup().expect(0);
    for number in 200..203 {
        write("new", number);
    }
    three.backup().expect(0).says("came free");
    assert!(bytes(&three.place("one")) <= 11 << 20);
    three.restores_alone("one");
    three.run(&["check", "--read-data"]).expect(0);
}

#[test]
fn a_disk_keeps_room_for_prune_and_fills_up_in_the_middle_of_a_pack() {
    let three = Three::new();
    let Some(_disk) = Tmpfs::mount(&three.0.world.path("mount"), "14m") else { return };
    let url = three.0.world.path("mount/one");
    let text =
        format!("[retention]\nkeep_last = 1\n[[destination]]\nname = \"one\"\nurl = \"{}\"\n", url.display());
    fs::write(three.0.world.path("home/.config/lifeboat/config.toml"), text).unwrap();
    three.run(&["init"]).expect(0);
    three.backup_of(0, 5 * MIB).expect(0);
    three.backup_of(1, 5 * MIB).expect(0);
    // The third finds no room before the first is gone.
    three.backup_of(2, 5 * MIB).expect(0).says("came free");
    three.run(&["check", "--read-data"]).expect(0);
    // Somebody else fills the disk: what is written then fails at any byte of a pack, and nothing is lost.
    let left = free_bytes(&url) - (1 << 20);
    fs::write(three.0.world.path("mount/other"), vec![1; left as usize]).unwrap();
    three.backup_of(3, 9 * MIB).expect(13).says("is full");
    fs::remove_file(three.0.world.path("mount/other")).unwrap();
    three.run(&["check", "--read-data"]).expect(0);
    three.backup_of(4, 5 * MIB).expect(0);
    three.run(&["check", "--read-data"]).expect(0);
}

/// Bytes that can still be written there.
fn free_bytes(at: &Path) -> u64 {
    let output = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(at).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn quotas_of_s3_and_drive_hold_while_the_disk_has_it_all() {
    let three = three_destinations::Three::new();
    let config = three.scene.world.path("home/.config/lifeboat/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let evicts = |quota: &str| format!("quota = \"{quota}\"\nwhen_full = \"evict\"\n");
    let of_s3 = evicts("5MiB") + "[[destination]]\nname = \"drive\"";
    let text = text.replace("[[destination]]\nname = \"drive\"", &of_s3) + &evicts("13MiB");
    fs::write(&config, text).unwrap();
    let backup = |number: u64| {
        fs::write(three.scene.world.source().join("data"), Random::new(number).bytes(2 * MIB)).unwrap();
        three.backup()
    };
    for number in 0..6 {
        // On Drive nothing is deleted before its listings are sure to show who needs it: room is made ahead.
        let made = backup(number).expect(0);
        if number > 1 {
            made.says("wait to be deleted by a later run");
        }
    }
    three.restores_alone("drive", &three.drive_url);
    for number in 6..9 {
        // What waits to be deleted is as good as free: nothing more goes for it.
        backup(number).expect(3).prints("s3: stored").prints("drive: NOT stored");
    }
    let shown = three.run(&["status", "--json"]).expect(3).json();
    let snapshots: Vec<_> = shown.iter().map(|each| each["snapshots"].as_u64().unwrap()).collect();
    assert_eq!(snapshots, [9, 2, 2], "{shown:?}");
    for (each, quota) in shown[1..].iter().zip([5, 13]) {
        assert!(each["used_bytes"].as_u64().unwrap() <= quota << 20, "{each}");
    }
    assert_eq!((&shown[1]["lacking"], &shown[2]["lacking"]), (&0.into(), &3.into()));
    three.restores_alone("s3", &three.s3.url("host"));
    three.run(&["check", "--read-data"]).expect(0);
}
