//! What is damaged or lost in the store is stored again from the source, saved where it can be saved, and never made worse by a repair.
//!
//! Each test is named after what broke in the first hostile review.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_agent::events::{Context, Counters, Event, Listener};
use lifeboat_agent::restore::{self, RestoreOptions, Selection};
use lifeboat_agent::seal::Cipher;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::binary::Person;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::{World, backup_all, create};

/// Large enough that its content is a list, and fills a pack of its own.
const LARGE_BYTES: usize = 20 << 20;

struct Scene {
    world: World,
    person: Person,
}

impl Scene {
    /// A repository with one snapshot of a large file and a small one.
    fn backed_up() -> Self {
        let world = World::new();
        let mut random = Random::new(11);
        fs::write(world.source().join("large"), random.bytes(LARGE_BYTES)).unwrap();
        fs::write(world.source().join("small"), "small").unwrap();
        lifeboat_tests::grow::leave_the_future(&world.source());
        let person = Person::new(&world.path("home"))
            .with("LIFEBOAT_REPOSITORY", world.path("repository"))
            .with("LIFEBOAT_PASSPHRASE", "secret");
        let scene = Self { world, person };
        scene.run(&["init"], 0);
        scene.backup();
        scene
    }

    fn run(&self, arguments: &[&str], code: i32) {
        self.person.run(arguments).expect(code);
    }

    fn backup(&self) {
        self.run(&["backup", self.world.source().to_str().unwrap()], 0);
    }

    /// The largest data pack.
    fn pack(&self) -> PathBuf {
        let folders = fs::read_dir(self.world.path("repository/packs")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }

    /// Restores a snapshot whole and compares it with the source.
    fn assert_restores(&self, snapshot: &str, into: &str) {
        let target = self.world.path(into);
        self.run(&["restore", snapshot, "--target", target.to_str().unwrap()], 0);
        let source = self.world.source();
        let inside = target.join(source.strip_prefix("/").unwrap());
        see(&inside).assert_equals(&see(&source), snapshot);
    }
}

/// Every file of the repository with its size.
fn stored(scene: &Scene) -> Vec<(PathBuf, u64)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => walk(&entry.path(), found),
                metadata => found.push((entry.path(), metadata.len())),
            }
        }
    }
    let mut found = Vec::new();
    walk(&scene.world.path("repository"), &mut found);
    found.sort();
    found
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_lost_pack_of_a_large_unchanged_file_is_stored_again() {
    let scene = Scene::backed_up();
    scene.backup();
    fs::remove_file(scene.pack()).unwrap();
    scene.backup();
    scene.assert_restores("latest", "back");
    scene.assert_restores("latest~2", "back2");
}

#[test]
fn bit_rot_is_healed_by_repairing_the_index_with_its_data_read() {
    let scene = Scene::backed_up();
    flip(&scene.pack());
    scene.run(&["check", "--read-data"], 14);
    scene.run(&["repair", "index", "--read-data"], 14);
    scene.backup();
    scene.assert_restores("latest", "back");
}

#[test]
fn a_pack_that_is_cut_off_stays_readable_as_far_as_it_goes() {
    let scene = Scene::backed_up();
    let pack = scene.pack();
    let length = fs::metadata(&pack).unwrap().len();
    fs::File::options().write(true).open(&pack).unwrap().set_len(length - 1).unwrap();
    let other = scene.world.path("other");
    fs::create_dir(&other).unwrap();
    scene.run(&["backup", other.to_str().unwrap()], 0);
    scene.run(&["repair", "index"], 0);
    scene.assert_restores("latest~1", "back");
}

#[test]
fn repaired_snapshots_outlive_their_own_repair() {
    let scene = Scene::backed_up();
    flip(&scene.pack());
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 14);
    let snapshots = scene.person.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    let target = scene.world.path("back");
    // What is left is restored, and it is said that it is not all.
    scene.run(&["restore", "latest", "--target", target.to_str().unwrap()], 14);
    let inside = target.join(scene.world.source().strip_prefix("/").unwrap());
    assert_eq!(fs::read(inside.join("small")).unwrap(), b"small");
    assert!(!inside.join("large").exists() && inside.join("large.lifeboat-damaged").exists());
}

#[test]
fn a_store_whose_packs_are_not_mounted_is_left_as_it_is() {
    let scene = Scene::backed_up();
    let (packs, away) = (scene.world.path("repository/packs"), scene.world.path("away"));
    let (meta, meta_away) = (scene.world.path("repository/meta"), scene.world.path("meta-away"));
    fs::rename(&packs, &away).unwrap();
    fs::rename(&meta, &meta_away).unwrap();
    scene.run(&["backup", scene.world.source().to_str().unwrap()], 14);
    scene.run(&["backup", "--dry-run", scene.world.source().to_str().unwrap()], 14);
    fs::rename(&away, &packs).unwrap();
    fs::rename(&meta_away, &meta).unwrap();
    scene.run(&["check", "--read-data"], 0);
    scene.assert_restores("latest", "back");
}

/// Changes files of the target once all of them are restored.
struct Meddler(PathBuf);

impl Listener for Meddler {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Phase("verifying")) {
            fs::write(self.0.join("empty"), "not empty").unwrap();
            fs::File::options()
                .write(true)
                .open(self.0.join("hole"))
                .unwrap()
                .write_all_at(b"data", 5 << 20)
                .unwrap();
        }
    }
}

#[test]
fn verify_sees_data_in_holes_and_longer_files() {
    let world = World::new();
    let source = world.source();
    fs::write(source.join("empty"), "").unwrap();
    fs::File::create(source.join("hole")).unwrap().set_len(9 << 20).unwrap();
    fs::write(source.join("untouched"), "untouched").unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("own"), Cipher::default());
    let snapshot = backup_all(&repository, &source);
    let target = world.path("target");
    let options = RestoreOptions { verify: true, ..RestoreOptions::into_directory(target.clone()) };
    let meddler = Meddler(target.join(source.strip_prefix("/").unwrap()));
    let context = Context::new(Arc::new(meddler), Arc::default());
    let outcome =
        restore::run(&repository, &snapshot, None, &Selection::default(), &options, &context).unwrap();
    outcome.verdict().unwrap_err();
    let [failed, verified] = [&outcome.tally.failed, &outcome.tally.verified].map(Counters::get);
    assert_eq!((failed, verified), (2, 1));
}

#[test]
fn repairing_snapshots_again_writes_nothing_again() {
    let scene = Scene::backed_up();
    flip(&scene.pack());
    scene.run(&["repair", "snapshots", "--read-data"], 14);
    let once = stored(&scene);
    scene.run(&["repair", "snapshots", "--read-data"], 14);
    assert_eq!(stored(&scene), once, "the second repair wrote something");
    scene.run(&["repair", "snapshots", "--read-data", "--dry-run"], 14);
    assert_eq!(stored(&scene), once, "a dry run wrote something");
    let snapshots = |count| {
        let snapshots = scene.person.run(&["snapshots", "--json"]).expect(0).json();
        assert_eq!(snapshots.len(), count, "{snapshots:?}");
        snapshots
    };
    let both = snapshots(2);
    // The copy of the first run stands for the damaged one.
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 14);
    assert_eq!(snapshots(1)[0]["id"], both[1]["id"]);
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 0);
    snapshots(1);
}

#[test]
fn a_repaired_snapshot_is_repaired_from_its_own_loss_by_the_next_repair() {
    let scene = Scene::backed_up();
    flip(&scene.pack());
    let before = stored(&scene);
    scene.run(&["repair", "snapshots", "--read-data"], 14);
    // The directories of the copy are lost in turn.
    let meta = stored(&scene)
        .into_iter()
        .find(|file| file.0.to_str().unwrap().contains("/meta/") && !before.contains(file));
    fs::remove_file(meta.unwrap().0).unwrap();
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 14);
    // One of them stands for the first snapshot, with all that is left.
    let kept = scene.person.run(&["snapshots", "--json"]).expect(0).json();
    let whole = kept.iter().filter(|snapshot| {
        let target = scene.world.path(snapshot["id"].as_str().unwrap());
        let id = snapshot["id"].as_str().unwrap();
        scene.run(&["restore", id, "--target", target.to_str().unwrap()], 14);
        let inside = target.join(scene.world.source().strip_prefix("/").unwrap());
        fs::read(inside.join("small")).is_ok_and(|content| content == b"small")
            && inside.join("large.lifeboat-damaged").exists()
    });
    assert!(whole.count() >= 1, "{kept:?}");
}

/// With an index that does not name all packs, what is there would be called lost, and forgotten.
#[test]
fn snapshots_are_not_repaired_by_an_index_that_knows_half() {
    let scene = Scene::backed_up();
    let other = scene.world.source().join("other");
    fs::write(&other, Random::new(12).bytes(100_000)).unwrap();
    scene.backup();
    let shards =
        || fs::read_dir(scene.world.path("repository/index")).unwrap().map(|shard| shard.unwrap().path());
    assert_eq!(shards().count(), 2);
    fs::remove_file(shards().next().unwrap()).unwrap();
    let before = stored(&scene);
    scene.person.run(&["repair", "snapshots", "--forget"]).expect(1).says("repair index");
    assert_eq!(stored(&scene), before);
    scene.run(&["repair", "snapshots", "--dry-run"], 14);
    scene.run(&["repair", "index"], 0);
    scene.run(&["repair", "snapshots", "--forget"], 0);
    scene.run(&["check", "--read-data"], 0);
    scene.assert_restores("latest", "back");
    assert_eq!(scene.person.run(&["snapshots", "--json"]).expect(0).json().len(), 2);
}

#[test]
fn a_repaired_file_does_not_take_the_name_of_another() {
    let scene = Scene::backed_up();
    fs::write(scene.world.source().join("large.lifeboat-damaged"), "mine").unwrap();
    scene.backup();
    flip(&scene.pack());
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 14);
    let target = scene.world.path("back");
    scene.run(&["restore", "latest", "--target", target.to_str().unwrap()], 14);
    let inside = target.join(scene.world.source().strip_prefix("/").unwrap());
    assert_eq!(fs::read(inside.join("large.lifeboat-damaged")).unwrap(), b"mine");
    assert_eq!(fs::metadata(inside.join("large-2.lifeboat-damaged")).unwrap().len(), LARGE_BYTES as u64);
    assert_eq!(fs::read_dir(&inside).unwrap().count(), 3);
}

/// Nothing a person could do made a check come out clean again.
#[test]
fn damage_that_nothing_uses_any_more_is_no_damage() {
    let scene = Scene::backed_up();
    let pack = scene.pack();
    flip(&pack);
    scene.run(&["repair", "index", "--read-data"], 14);
    scene.backup();
    scene.person.run(&["check", "--read-data"]).expect(0).says("nothing uses it any more");
    scene.run(&["repair", "index", "--read-data"], 0);
    fs::remove_file(&pack).unwrap();
    scene.run(&["check", "--read-data"], 0);
    scene.run(&["repair", "index"], 0);
    scene.assert_restores("latest", "back");
}

/// The pack's header is damaged and every segment is intact: they are copied, and the pack is done with.
#[test]
fn what_is_intact_of_a_damaged_pack_is_copied() {
    let scene = Scene::backed_up();
    let pack = scene.pack();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[9] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    scene.run(&["check", "--read-data"], 14);
    scene.person.run(&["repair", "index", "--read-data"]).expect(0).prints("copied");
    scene.person.run(&["check", "--read-data"]).expect(0).says("nothing uses it any more");
    fs::remove_file(&pack).unwrap();
    scene.assert_restores("latest", "back");
}

#[test]
fn restoring_a_repaired_snapshot_says_what_is_lost_and_which_one_is_whole() {
    let scene = Scene::backed_up();
    let first = scene.person.run(&["snapshots", "--json"]).expect(0).json()[0]["short_id"].clone();
    let mut random = Random::new(12);
    fs::write(scene.world.source().join("larger"), random.bytes(2 * LARGE_BYTES)).unwrap();
    let before: Vec<PathBuf> = stored(&scene).into_iter().map(|(path, _)| path).collect();
    scene.backup();
    let is_new = |(path, _): &(PathBuf, u64)| !before.contains(path);
    let new = stored(&scene).into_iter().filter(is_new);
    new.filter(|(path, _)| path.to_str().unwrap().contains("/packs/")).for_each(|(path, _)| flip(&path));
    scene.run(&["repair", "snapshots", "--read-data", "--forget"], 14);
    let latest = scene.person.run(&["snapshots", "latest", "--json"]).expect(0).json()[0].clone();
    assert_eq!((&latest["lost_total"], &latest["summary"]["files_new"]), (&1.into(), &0.into()), "{latest}");
    assert_eq!(latest["summary"]["files_unmodified"], 3, "{latest}");
    let target = scene.world.path("back");
    let restored = scene.person.run(&["restore", "latest", "--target", target.to_str().unwrap()]).expect(14);
    let restored = restored.says("1 path of what was backed up is lost");
    restored.says(first.as_str().unwrap());
    // What is whole of it is no reason to complain.
    let small = format!("latest:{}/small", scene.world.source().display());
    scene.run(&["restore", &small, "--target", scene.world.path("one").to_str().unwrap()], 0);
}

/// Who looks for a lost file by its name finds what a repair saved of it.
#[test]
fn a_saved_file_is_found_by_its_name() {
    let scene = Scene::backed_up();
    let pack = scene.pack();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    for repair in [&["index", "--read-data"][..], &["snapshots"]] {
        // The exit code says that there was something to repair.
        scene.person.run(&[&["repair"], repair].concat());
    }
    for pattern in ["large", "*/source/large"] {
        let said = scene.person.run(&["find", pattern, "--snapshot", "latest"]).expect(0);
        assert!(said.out.contains("/large.lifeboat-damaged (incomplete)"), "{pattern}: {}", said.out);
    }
    let said = scene.person.run(&["find", "larg", "--snapshot", "latest"]).expect(0);
    assert_eq!(said.out, "");
}
