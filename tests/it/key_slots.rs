//! Key slots at several destinations: what is added or removed is so at all of them, and where it is not, that is said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use lifeboat_tests::binary::{Ended, Person};

use crate::destinations::with_destinations;
use crate::scene::{Scene, walk};

/// Two destinations, and people who know the one passphrase or the other.
struct Two {
    scene: Scene,
    old: Person,
    new: Person,
}

impl Two {
    fn new() -> Self {
        let (scene, old) = with_destinations(&[("one", "at-one"), ("two", "at-two")]);
        fs::write(scene.world.path("new"), "another secret").unwrap();
        fs::set_permissions(scene.world.path("new"), fs::Permissions::from_mode(0o600)).unwrap();
        let new = Person::new(&scene.world.path("home")).with("LIFEBOAT_PASSPHRASE", "another secret");
        old.run(&["init"]).expect(0);
        old.run(&["backup", scene.source()]).expect(0);
        Self { scene, old, new }
    }

    fn add(&self, command: &str) -> Ended {
        self.old.run(&["key", command, "--new-passphrase-file", &self.scene.path("new")])
    }

    fn place(&self, name: &str) -> PathBuf {
        self.scene.world.path(&format!("at-{name}"))
    }

    /// What comes of opening a destination that nothing else is known of.
    fn opens(&self, person: &Person, name: &str) -> Option<i32> {
        person.run(&["-r", self.place(name).to_str().unwrap(), "snapshots"]).code
    }

    fn without_two(&self, act: impl FnOnce() -> Ended) -> Ended {
        let away = self.scene.world.path("away");
        fs::rename(self.place("two"), &away).unwrap();
        let ended = act();
        fs::rename(&away, self.place("two")).unwrap();
        ended
    }

    fn slots(&self, name: &str) -> Vec<PathBuf> {
        walk(&self.place(name).join("keys"))
    }
}

#[test]
fn a_changed_passphrase_opens_every_destination_and_the_old_one_none() {
    let two = Two::new();
    two.add("change").expect(0);
    for name in ["one", "two"] {
        assert_eq!(two.opens(&two.new, name), Some(0), "{name}");
        assert_eq!(two.opens(&two.old, name), Some(12), "{name}");
    }
    two.new.run(&["status"]).expect(0);
    two.new.run(&["check", "--all"]).expect(0);
}

#[test]
fn a_destination_that_is_away_gets_key_slots_by_a_sync() {
    let two = Two::new();
    let first = two.slots("one").remove(0);
    two.without_two(|| two.add("add")).expect(3).says("lifeboat sync");
    two.old.run(&["status"]).expect(3).says("two does not have 1 key slot that another one has");
    two.old.run(&["check", "--all"]).expect(3).says("two does not have 1 key slot");
    assert_eq!(two.opens(&two.new, "two"), Some(12));
    two.old.run(&["sync"]).expect(0).says("two: 1 key slot added");
    assert_eq!(two.opens(&two.new, "two"), Some(0));
    two.old.run(&["status"]).expect(0);
    // And loses them by one.
    let first = first.file_name().unwrap().to_str().unwrap();
    two.without_two(|| two.new.run(&["key", "remove", first])).expect(3).says("still opens");
    two.new.run(&["status"]).expect(3).says("two still has 1 key slot that was removed");
    assert_eq!((two.opens(&two.old, "one"), two.opens(&two.old, "two")), (Some(12), Some(0)));
    two.new.run(&["sync", "--from", "one"]).expect(0).says("two: 1 key slot removed");
    assert_eq!((two.opens(&two.old, "one"), two.opens(&two.old, "two")), (Some(12), Some(12)));
    two.new.run(&["check", "--all"]).expect(0);
}

#[test]
fn the_old_passphrase_is_removed_nowhere_before_the_new_one_is_everywhere() {
    let two = Two::new();
    let changed = two.without_two(|| two.add("change")).expect(3).says("the old key still opens");
    assert!(!changed.out.contains("Removed"), "{}", changed.out);
    assert_eq!((two.opens(&two.old, "one"), two.opens(&two.new, "one")), (Some(0), Some(0)));
    two.new.run(&["sync"]).expect(0);
    // The command that was named completes it.
    let id = changed.err.split("key remove ").nth(1).unwrap().split('`').next().unwrap();
    two.new.run(&["key", "remove", id]).expect(0);
    for name in ["one", "two"] {
        assert_eq!(two.opens(&two.old, name), Some(12), "{name}");
    }
}

#[test]
fn a_removed_slot_does_not_come_back_and_only_a_sealed_record_removes_one() {
    let two = Two::new();
    let old = two.slots("two").remove(0);
    let bytes = fs::read(&old).unwrap();
    two.add("change").expect(0);
    // As an older copy of the destination would have it.
    assert!(!old.exists());
    fs::write(&old, &bytes).unwrap();
    let records = two.place("two").join("removed");
    fs::remove_dir_all(&records).unwrap();
    two.new.run(&["sync", "--from", "two", "--to", "one"]).expect(0);
    assert!(!old.exists() && walk(&records).len() == 1);
    assert_eq!(two.opens(&two.old, "one"), Some(12));
    // Whoever can only write to a store takes no slot away by it.
    let kept = two.slots("one").remove(0);
    let forged = two.place("two").join("removed").join(kept.file_name().unwrap());
    fs::copy(walk(&records).remove(0), &forged).unwrap();
    two.new.run(&["sync"]).expect(3).says("another slot than its name says");
    assert!(kept.exists());
    two.new.run(&["-r", "two", "check"]).expect(14);
}
