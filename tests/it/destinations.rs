//! Several destinations of one repository: a backup reaches all of them, one that was away is brought up later, damage at one is healed from
//! another, and each alone restores everything.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;

use crate::scene::{Scene, walk};

/// A scene whose configuration names three directories as destinations.
pub(crate) struct Three(pub(crate) Scene, pub(crate) Person);

pub(crate) const NAMES: [&str; 3] = ["one", "two", "three"];

impl Three {
    pub(crate) fn new() -> Self {
        let scene = Scene::new();
        let person = Person::new(&scene.world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
        let three = Self(scene, person);
        let folder = three.0.world.path("home/.config/lifeboat");
        fs::create_dir_all(&folder).unwrap();
        let destination = |name: &&str| {
            format!("[[destination]]\nname = \"{name}\"\nurl = \"{}\"\n", three.place(name).display())
        };
        fs::write(folder.join("config.toml"), NAMES.iter().map(destination).collect::<String>()).unwrap();
        three
    }

    pub(crate) fn ready() -> Self {
        let three = Self::new();
        three.run(&["init"]).expect(0);
        three
    }

    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.0.world.path(&format!("at-{name}"))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.1.run(arguments)
    }

    pub(crate) fn backup(&self) -> Ended {
        self.run(&["backup", self.0.source()])
    }

    /// Puts a file of bytes without pattern into the source.
    pub(crate) fn add(&self, name: &str, len: usize) {
        grow::file(&self.0.world.source().join(name), len, &mut Random::new(len as u64));
    }

    /// As if the disk were not there.
    pub(crate) fn take_away(&self, name: &str) {
        fs::rename(self.place(name), self.0.world.path("away")).unwrap();
    }

    pub(crate) fn bring_back(&self, name: &str) {
        fs::rename(self.0.world.path("away"), self.place(name)).unwrap();
    }

    pub(crate) fn objects(&self, name: &str, folder: &str) -> Vec<PathBuf> {
        walk(&self.place(name).join(folder)).into_iter().filter(|path| path.is_file()).collect()
    }

    /// Restores the newest snapshot from this destination alone, with a home that knows of no other, and compares.
    pub(crate) fn restores_alone(&self, name: &str) {
        let place = self.place(name);
        let home = self.0.world.path(&format!("bare-{name}"));
        let target = self.0.path(&format!("restored-{name}"));
        let _ = fs::remove_dir_all(&target);
        let bare = Person::new(&home).with("LIFEBOAT_PASSPHRASE", "secret");
        let place = place.to_str().unwrap();
        bare.run(&["-r", place, "restore", &format!("latest:{}", self.0.source()), "--target", &target])
            .expect(0);
        let same =
            std::process::Command::new("diff").args(["-r", self.0.source(), &target]).output().unwrap();
        assert!(same.status.success(), "{name}: {}", String::from_utf8_lossy(&same.stdout));
        bare.run(&["-r", place, "check", "--read-data"]).expect(0);
    }
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_backup_reaches_all_of_them_and_each_restores_alone() {
    let three = Three::ready();
    fs::write(three.0.world.source().join("large"), vec![7; 3 << 20]).unwrap();
    let printed = three.backup().expect(0).out;
    for name in NAMES {
        assert!(printed.contains(&format!("{name}: stored")), "{printed}");
    }
    fs::write(three.0.world.source().join("top"), "changed").unwrap();
    three.backup().expect(0);
    for name in NAMES {
        three.restores_alone(name);
    }
    let listed = three.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed.len(), 2);
    for snapshot in &listed {
        let at = snapshot["destinations"].as_array().unwrap();
        assert!(
            at.len() == 3 && at.iter().all(|at| at["stored"] == true && at["verified"] == "read-back"),
            "{at:?}"
        );
    }
    three.run(&["snapshots"]).expect(0).prints("one two three");
    three.run(&["status"]).expect(0).prints("verified by reading back");
    three.run(&["check", "--all"]).expect(0);
}

#[test]
fn one_that_was_away_is_caught_up_by_sync_and_by_the_next_backup() {
    let three = Three::ready();
    three.backup().expect(0);
    three.take_away("two");
    fs::write(three.0.world.source().join("new"), vec![1; 1 << 20]).unwrap();
    three.backup().expect(3).prints("two: NOT stored");
    three.run(&["status"]).expect(3).prints("cannot be reached");
    three.bring_back("two");
    // That it is behind is not taken for a removal.
    three.run(&["status"]).expect(3).prints("1 destination is behind");
    three.run(&["-r", "two", "check"]).expect(0);
    three.run(&["sync"]).expect(0).prints("two: 1 snapshot brought from one").prints("three: up to date");
    three.run(&["sync"]).expect(0).prints("two: up to date");
    three.run(&["status"]).expect(0);
    three.restores_alone("two");
    three.take_away("three");
    fs::write(three.0.world.source().join("newer"), "newer").unwrap();
    three.backup().expect(3);
    three.bring_back("three");
    three.backup().expect(0).prints("1 earlier snapshot that it lacked");
    three.restores_alone("three");
}

#[test]
fn sync_moves_only_what_is_missing() {
    let three = Three::ready();
    three.add("large", 5 << 20);
    three.backup().expect(0);
    three.take_away("two");
    fs::write(three.0.world.source().join("small"), "a few bytes").unwrap();
    three.backup().expect(3);
    three.bring_back("two");
    let synced = three.run(&["sync", "--json"]).expect(0).json();
    let two = synced.iter().find(|line| line["to"] == "two").unwrap();
    assert!(two["bytes"].as_u64().unwrap() < 100_000, "{two}");
}

#[test]
fn the_first_failing_the_run_goes_on_with_the_next() {
    let three = Three::ready();
    three.backup().expect(0);
    three.take_away("one");
    fs::write(three.0.world.source().join("top"), "changed").unwrap();
    three.backup().expect(3).says("goes on with two").prints("three: stored");
    three.restores_alone("two");
    // Reading commands take the next as well, and say so.
    three.run(&["ls", "latest"]).expect(0).says("used in its place");
    // Those that judge do not.
    three.run(&["check"]).expect(10);
    three.bring_back("one");
    three.run(&["sync", "--from", "two", "--to", "one"]).expect(0).prints("one: 1 snapshot brought from two");
    three.restores_alone("one");
    three.run(&["check", "--all"]).expect(0);
}

#[test]
fn damage_at_one_is_healed_from_another() {
    let three = Three::ready();
    three.add("large", 3 << 20);
    three.backup().expect(0);
    let packs = three.objects("one", "packs");
    let metadata = three.objects("one", "meta");
    flip(&packs[0]);
    fs::remove_file(&metadata[0]).unwrap();
    let target = three.0.path("restored");
    let restore = ["restore", &format!("latest:{}", three.0.source()), "--target", &target];
    three.run(&restore).expect(0).says("is healed from two");
    assert!(metadata[0].exists());
    three.run(&["check", "--read-data"]).expect(0);
    // By the check itself, and only when it is asked to.
    flip(&packs[0]);
    three.run(&["check", "--read-data"]).expect(14);
    three.run(&["check", "--read-data"]).expect(14);
    three.run(&["check", "--read-data", "--repair"]).expect(0).says("is healed from two");
    // What nobody has is lost, and said.
    for name in NAMES {
        flip(&three.place(name).join(packs[0].strip_prefix(three.place("one")).unwrap()));
    }
    three.run(&["check", "--read-data", "--repair"]).expect(14);
}

#[test]
fn a_check_heals_every_kind_of_shared_object_from_another() {
    let three = Three::ready();
    for number in 0..3 {
        three.add(&format!("file{number}"), 100_000 + number);
        three.backup().expect(0);
    }
    three.run(&["snapshots", "pin", "latest"]).expect(0);
    for folder in ["snapshots", "labels", "packs", "meta"] {
        let object = three.objects("one", folder)[0].clone();
        let before = fs::read(&object).unwrap();
        flip(&object);
        three.run(&["check", "--read-data"]).expect(14).prints(folder);
        three.run(&["check", "--read-data", "--repair"]).expect(0).says("is healed from");
        assert_eq!(fs::read(&object).unwrap(), before, "{folder}");
    }
}

#[test]
fn what_is_named_is_forgotten_everywhere_and_comes_back_from_nowhere() {
    let three = Three::ready();
    for number in 0..3 {
        three.add(&format!("file{number}"), 1000 + number);
        three.backup().expect(0);
    }
    let listed = three.run(&["snapshots", "--json"]).expect(0).json();
    let ids: Vec<&str> = listed.iter().map(|snapshot| &snapshot["id"].as_str().unwrap()[..8]).collect();
    three.run(&["forget", ids[0], "--dry-run"]).expect(0).prints("would forget").prints("at one, two, three");
    three.run(&["forget", ids[0]]).expect(0).prints("at one, two, three");
    for name in NAMES {
        assert_eq!(three.objects(name, "snapshots").len(), 2, "{name}");
    }
    // One is away: it keeps what it has, which is said, and the others do not get it back.
    three.take_away("two");
    three.run(&["forget", ids[1]]).expect(3).prints("at one, three").says("two: nothing is forgotten there");
    three.bring_back("two");
    three.run(&["sync"]).expect(0);
    let left = || NAMES.map(|name| three.objects(name, "snapshots").len());
    assert_eq!(left(), [1, 2, 1]);
    // Only where it is meant; and never all.
    three.run(&["-r", "one", "forget", "latest"]).expect(2).says("nothing would be left");
    three.run(&["forget", ids[1]]).expect(0).prints("at two");
    assert_eq!(left(), [1, 1, 1]);
}

#[test]
fn a_damaged_snapshot_is_read_from_another() {
    let three = Three::ready();
    three.backup().expect(0);
    flip(&three.objects("one", "snapshots")[0]);
    three.run(&["ls", "latest"]).expect(0).says("is healed from two");
    three.run(&["check"]).expect(0);
}

#[test]
fn histories_may_differ() {
    let three = Three::ready();
    three.backup().expect(0);
    fs::write(three.0.world.source().join("top"), "second").unwrap();
    three.backup().expect(0);
    let first = three.run(&["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned();
    three.run(&["-r", "one", "forget", &first]).expect(0);
    fs::write(three.0.world.source().join("top"), "third").unwrap();
    three.backup().expect(0);
    three.run(&["sync", "--from", "two", "--to", "one"]).expect(0);
    let count = |name: &str| three.run(&["-r", name, "snapshots", "--json"]).expect(0).json().len();
    assert_eq!((count("one"), count("two"), count("three")), (2, 3, 3));
    for name in NAMES {
        three.run(&["-r", name, "check", "--read-data"]).expect(0);
    }
}

#[test]
fn another_repository_is_no_destination() {
    let three = Three::ready();
    three.backup().expect(0);
    fs::remove_dir_all(three.place("two")).unwrap();
    let other = three.place("two");
    three.run(&["-r", other.to_str().unwrap(), "init"]).expect(0);
    three.backup().expect(3).says("two repositories");
    three.run(&["sync"]).expect(3).says("two repositories");
    assert_eq!(three.objects("two", "packs"), Vec::<PathBuf>::new());
}

#[test]
fn a_destination_is_added_later() {
    let three = Three::new();
    three.run(&["init", "--to", "one"]).expect(0);
    three.backup().expect(3);
    three.run(&["init"]).expect(0);
    three.run(&["sync"]).expect(0).prints("two: 1 snapshot brought").prints("three: 1 snapshot brought");
    three.restores_alone("three");
}

#[test]
fn one_that_is_named_is_the_only_one_written_to() {
    let three = Three::ready();
    three.run(&["-r", "two", "backup", three.0.source()]).expect(0);
    three.run(&["backup", "--to", "three", three.0.source()]).expect(0);
    let held = NAMES.map(|name| three.objects(name, "snapshots").len());
    assert_eq!(held, [0, 1, 1]);
    three.run(&["backup", "--to", "four", three.0.source()]).expect(2).says("one, two, three");
}

/// A scene whose destinations are directories of its world.
pub fn with_destinations(places: &[(&str, &str)]) -> (Scene, Person) {
    let scene = Scene::new();
    let person = Person::new(&scene.world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
    let folder = scene.world.path("home/.config/lifeboat");
    fs::create_dir_all(&folder).unwrap();
    let destination = |(name, place): &(&str, &str)| {
        let place = scene.world.path(place);
        format!("[[destination]]\nname = \"{name}\"\nurl = \"{}\"\n", place.display())
    };
    fs::write(folder.join("config.toml"), places.iter().map(destination).collect::<String>()).unwrap();
    (scene, person)
}

#[test]
fn destinations_that_lie_in_the_source_are_not_backed_up_into_each_other() {
    let (scene, person) = with_destinations(&[("one", "source/at-one"), ("two", "source/at-two")]);
    person.run(&["init"]).expect(0);
    let backup = || {
        person.run(&["backup", scene.source()]).expect(0).says("two is another destination");
        walk(&scene.world.path("source/at-one/packs")).len()
    };
    let packs = backup();
    assert_eq!(backup(), packs);
    let listed = person.run(&["ls", &format!("latest:{}", scene.source())]).expect(0);
    assert!(listed.out.contains("top") && !listed.out.contains("at-two/"), "{}", listed.out);
    // Neither by a run that has nothing to do with it, or of which it has had enough.
    person.run(&["-r", "one", "backup", scene.source()]).expect(0).says("two is another destination");
    fs::remove_file(scene.world.source().join("at-two/config")).unwrap();
    person.run(&["backup", scene.source()]).expect(3).says("two is another destination");
    let two = scene.path("source/at-two");
    person.run(&["backup", &two]).expect(2).says("another destination");
}

#[test]
fn a_restore_that_deletes_spares_the_other_destinations() {
    let (scene, person) = with_destinations(&[("one", "one")]);
    let place = |name: &str| scene.world.path(name).display().to_string();
    let one = place("one");
    let write = |places: &[(&str, &str)]| {
        let lines = places
            .iter()
            .map(|(name, place)| format!("[[destination]]\nname = \"{name}\"\nurl = \"{place}\"\n"));
        fs::write(scene.world.path("home/.config/lifeboat/config.toml"), lines.collect::<String>()).unwrap();
    };
    write(&[("one", &one)]);
    person.run(&["init"]).expect(0);
    person.run(&["backup", scene.source()]).expect(0);
    // What comes later is in no snapshot.
    let two = place("source/sub/two");
    write(&[("one", &one), ("two", &two)]);
    person.run(&["init"]).expect(0);
    person.run(&["sync"]).expect(0);
    fs::write(scene.world.source().join("sub/other"), "goes").unwrap();
    let held = walk(Path::new(&two)).len();
    let latest = format!("latest:{}", scene.source());
    let restore =
        ["restore", &latest, "--target", scene.source(), "--delete", "--overwrite", "always", "--force"];
    person.run(&restore).expect(0).says("sub/two is not deleted");
    assert_eq!(walk(Path::new(&two)).len(), held);
    assert!(!scene.world.source().join("sub/other").exists());
    // One that cannot be opened is spared as well.
    fs::remove_file(Path::new(&two).join("config")).unwrap();
    person.run(&restore).expect(0).says("sub/two is not deleted");
    assert_eq!(walk(Path::new(&two)).len(), held - 1);
    let inside = place("source/sub/two/packs/new");
    person.run(&["restore", "latest", "--target", &inside]).expect(2).says("another destination");
}
