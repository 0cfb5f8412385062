//! What is kept, by the real binary: policies shown and applied, pins and tags, several destinations with policies of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lifeboat_agent::repository::Repository;
use lifeboat_agent::seal::slot::Secret;
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::binary::{Ended, Person};
use zeroize::Zeroizing;

use crate::scene::{Scene, walk};

fn open(scene: &Scene, place: &Path) -> Repository {
    let secret = Secret::Passphrase(Zeroizing::new("secret".to_owned()));
    let provider = Arc::new(LocalProvider::open(place).unwrap());
    Repository::open(provider, &secret, scene.world.machine("another")).unwrap()
}

/// Adds snapshots as another machine would have made them: like the newest, of this class, so many minutes before now.
fn add(scene: &Scene, place: &Path, class: &str, minutes: &[i64]) {
    let now: DateTime<Utc> = std::time::SystemTime::now().into();
    add_at(scene, place, class, minutes.iter().map(|ago| now - TimeDelta::minutes(*ago)));
}

/// As [`add`], all within some seconds of noon two days ago: no hour and no day ends between them.
fn add_at_noon(scene: &Scene, place: &Path, count: i64) {
    let now: DateTime<Utc> = std::time::SystemTime::now().into();
    let noon = (now - TimeDelta::days(2)).date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    add_at(scene, place, "manual", (0..count).map(|number| noon + TimeDelta::seconds(number)));
}

fn add_at(scene: &Scene, place: &Path, class: &str, times: impl Iterator<Item = DateTime<Utc>>) {
    let repository = open(scene, place);
    let model = repository.load_history().unwrap().snapshots.last().unwrap().manifest.clone();
    for time in times {
        let time = time.fixed_offset();
        let mut manifest = model.clone();
        (manifest.time, manifest.end, manifest.class) = (time, time, class.to_owned());
        lifeboat_tests::world::append(&repository, manifest);
    }
}

/// Days in minutes, from `first` to `last` days ago.
fn days(first: i64, last: i64) -> Vec<i64> {
    (first..=last).map(|day| day * 24 * 60).collect()
}

fn configure(scene: &Scene, text: &str) {
    let folder = scene.world.path("home/.config/lifeboat");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), text).unwrap();
}

fn summary(ended: &Ended) -> (u64, u64) {
    let all = ended.json();
    let last = all.last().unwrap();
    assert_eq!(last["message_type"], "summary");
    (last["kept"].as_u64().unwrap(), last["forgotten"].as_u64().unwrap())
}

#[test]
fn a_policy_is_shown_and_then_applied() {
    let scene = Scene::backed_up();
    add(&scene, &scene.world.path("repository"), "daily", &days(1, 30));
    configure(&scene, "[retention]\ntimezone = \"UTC\"\n");
    let shown = scene.run(&["forget", "--dry-run"]).expect(0);
    let shown =
        shown.prints("daily 7 of 7").prints("not among 7 of class daily").prints("Nothing was changed");
    assert_eq!(shown.out.matches(" forget ").count(), 23, "{}", shown.out);
    assert_eq!(scene.snapshots(), 31);
    let objects = scene.run(&["forget", "--dry-run", "--json"]).expect(0);
    assert_eq!(summary(&objects), (8, 23));
    let decision = &objects.json()[0];
    assert_eq!(
        (&decision["class"], &decision["keep"], &decision["dry_run"]),
        (&"daily".into(), &false.into(), &true.into())
    );
    assert!(decision["reasons"][0].as_str().unwrap().contains("not among 7"), "{decision}");
    scene.run(&["forget"]).expect(0).prints("23 snapshots forgotten, 8 kept").says("lifeboat prune");
    assert_eq!(scene.snapshots(), 8);
    scene.run(&["forget"]).expect(0).prints("8 snapshots kept, none forgotten");
    scene.run(&["check"]).expect(0);
    scene.run(&["restore", "latest", "--target", &scene.path("restored")]).expect(0);
}

#[test]
fn flags_replace_the_policy_and_nothing_is_forgotten_without_one() {
    let scene = Scene::backed_up();
    let place = scene.world.path("repository");
    add_at_noon(&scene, &place, 4);
    scene.run(&["forget"]).expect(2).says("nothing says what is to be kept").says("--keep-daily");
    scene.run(&["forget", ""]).expect(2);
    scene.run(&["forget", "--keep-last", "0"]).expect(2).says("keeps nothing");
    scene.run(&["forget", "latest", "--keep-last", "1"]).expect(2);
    scene.run(&["forget", "--keep-within", "7 days"]).expect(2).says("no length of time");
    scene.run(&["forget", "--keep-class", "hourly"]).expect(2).says("hourly=24");
    configure(&scene, "[retention]\nkeep_last = 100\n");
    assert_eq!(summary(&scene.run(&["forget", "--json", "--dry-run"]).expect(0)), (5, 0));
    assert_eq!(summary(&scene.run(&["forget", "--json", "--keep-last", "2"]).expect(0)), (2, 3));
    assert_eq!(scene.snapshots(), 2);
    configure(&scene, "[retention]\nkeep_lats = 1\n");
    scene.run(&["forget"]).expect(2).says("keep_lats").says("Did you mean `keep_last`?");
}

#[test]
fn a_variable_is_a_policy_for_one_line() {
    let scene = Scene::backed_up();
    add(&scene, &scene.world.path("repository"), "manual", &days(1, 9));
    let person = |days: &str| scene.person.clone().with("LIFEBOAT_KEEP_WITHIN_DAYS", days);
    person("some").run(&["forget"]).expect(2).says("LIFEBOAT_KEEP_WITHIN_DAYS").says("number");
    person("3").run(&["forget"]).expect(0).prints("forgotten");
    // Today's, and those of one, two and, to the second, three days before it.
    assert_eq!(scene.snapshots(), 4);
}

#[test]
fn pinned_snapshots_stay_and_are_named_with_force() {
    let scene = Scene::backed_up();
    add_at_noon(&scene, &scene.world.path("repository"), 3);
    scene.run(&["snapshots", "pin", "latest~3", "latest~2"]).expect(0).prints("pinned, no tags");
    scene.run(&["snapshots"]).expect(0).prints("pinned");
    let oldest = scene.run(&["snapshots", "--json"]).expect(0).json()[0].clone();
    assert_eq!(oldest["pinned"], true);
    let oldest = oldest["short_id"].as_str().unwrap().to_owned();
    assert_eq!(summary(&scene.run(&["forget", "--keep-last", "1", "--json"]).expect(0)), (3, 1));
    scene.run(&["forget", &oldest]).expect(2).says("is pinned").says("snapshots unpin");
    scene.run(&["snapshots", "unpin", "latest~1"]).expect(0).prints("not pinned");
    scene.run(&["forget", "--keep-last", "1"]).expect(0).prints("1 snapshot forgotten");
    scene.run(&["forget", &oldest, "--force"]).expect(0);
    assert_eq!(scene.snapshots(), 1);
    // Labels go with their snapshots.
    assert_eq!(labels(&scene.world.path("repository")).len(), 0);
    scene.run(&["check"]).expect(0);
}

#[test]
fn tags_come_and_go() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    scene.run(&["backup", scene.source(), "--tag", "first"]).expect(0);
    scene.run(&["tag", "latest"]).expect(2);
    scene
        .run(&["tag", "latest", "--add", "release", "--add", "first"])
        .expect(0)
        .prints("2 tags: first, release");
    scene.run(&["tag", "latest", "--add", "release"]).expect(0).prints("as before");
    scene.run(&["tag", "latest", "--remove", "first"]).expect(0).prints("1 tag: release");
    let listed = scene.run(&["snapshots", "--tag", "release", "--json"]).expect(0).json();
    assert_eq!((listed.len(), &listed[0]["tags"][0]), (1, &"release".into()));
    scene.run(&["snapshots", "--tag", "first"]).expect(0).prints("passes the filter");
    scene.run(&["snapshots", "pin", "latest"]).expect(0).prints("pinned, 1 tag: release");
    scene.run(&["tag", "latest", "--set", ""]).expect(0).prints("pinned, no tags");
    scene.run(&["snapshots", "pin", "nonsense"]).expect(2).says("no snapshot is called");
    assert_eq!(labels(&scene.world.path("repository")).len(), 1);
    scene.run(&["check"]).expect(0);
}

fn labels(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("labels");
    if !folder.exists() {
        return Vec::new();
    }
    walk(&folder).into_iter().filter(|path| path.is_file()).collect()
}

/// Two directories as destinations, the first of which keeps two snapshots and the second ten.
struct Two {
    scene: Scene,
    person: Person,
}

impl Two {
    fn new() -> Self {
        let scene = Scene::new();
        let person = Person::new(&scene.world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
        let one = |name: &str, last: u64| {
            let place = scene.path(&format!("at-{name}"));
            format!(
                "[[destination]]\nname = \"{name}\"\nurl = \"{place}\"\n[destination.retention]\nkeep_last = {last}\n"
            )
        };
        configure(&scene, &(one("near", 2) + &one("far", 10)));
        let two = Self { scene, person };
        two.run(&["init"]).expect(0);
        two.run(&["backup", two.scene.source()]).expect(0);
        two
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.scene.world.path(&format!("at-{name}"))
    }

    fn count(&self, name: &str) -> usize {
        self.run(&["-r", name, "snapshots", "--json"]).expect(0).json().len()
    }

    fn both_are_sound(&self) {
        for name in ["near", "far"] {
            self.run(&["-r", name, "check", "--read-data"]).expect(0);
        }
    }
}

#[test]
fn destinations_keep_by_their_own_policies_and_sync_brings_nothing_back() {
    let two = Two::new();
    add_at_noon(&two.scene, &two.place("near"), 11);
    two.run(&["sync"]).expect(0);
    assert_eq!((two.count("near"), two.count("far")), (12, 12));
    let shown = two.run(&["forget"]).expect(0);
    shown.prints("near: 10 snapshots forgotten, 2 kept").prints("far: 2 snapshots forgotten, 10 kept");
    for arguments in [&["sync"][..], &["sync", "--from", "far"], &["sync", "--from", "near"]] {
        two.run(arguments).expect(0);
        assert_eq!((two.count("near"), two.count("far")), (2, 10), "{arguments:?}");
    }
    two.both_are_sound();
    fs::write(two.scene.world.source().join("top"), "changed").unwrap();
    two.run(&["backup", two.scene.source()]).expect(0);
    assert_eq!((two.count("near"), two.count("far")), (3, 11));
    two.run(&["-r", "far", "forget"]).expect(0);
    assert_eq!((two.count("near"), two.count("far")), (3, 10));
    two.both_are_sound();
}

#[test]
fn one_that_is_away_does_not_stop_the_other_and_learns_of_pins_later() {
    let two = Two::new();
    add_at_noon(&two.scene, &two.place("near"), 4);
    two.run(&["sync"]).expect(0);
    let away = two.scene.world.path("away");
    fs::rename(two.place("near"), &away).unwrap();
    two.run(&["snapshots", "pin", "latest~4"]).expect(3).says("near was not told");
    two.run(&["forget"]).expect(3).says("at near nothing was forgotten").prints("far: 5 snapshots kept");
    two.run(&["-r", "near", "forget"]).expect(10);
    fs::rename(&away, two.place("near")).unwrap();
    // Near has not heard of the pin by itself: it is asked for at the other.
    assert_eq!(labels(&two.place("near")).len(), 0);
    two.run(&["-r", "near", "forget"]).expect(0).prints("2 snapshots forgotten, 3 kept");
    two.run(&["sync", "--from", "far"]).expect(0).prints("1 pin or tag brought");
    assert_eq!(labels(&two.place("near")), {
        let name = labels(&two.place("far"))[0].file_name().unwrap().to_owned();
        [two.place("near").join("labels").join(name)]
    });
    two.run(&["-r", "near", "forget", "--dry-run"]).expect(0).prints("pinned");
    two.run(&["snapshots", "unpin", "latest~2"]).expect(0);
    two.run(&["sync", "--from", "far"]).expect(0);
    two.run(&["-r", "near", "forget", "--dry-run", "-v"]).expect(0).prints("1 snapshot would be forgotten");
    two.both_are_sound();
}

#[test]
fn a_damaged_record_of_labels_is_reported_keeps_the_policy_from_running_and_is_healed() {
    let two = Two::new();
    two.run(&["snapshots", "pin", "latest"]).expect(0);
    let damage = |name: &str| {
        let path = labels(&two.place(name)).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    damage("near");
    // The other has it.
    two.run(&["-r", "near", "check"]).expect(14);
    two.run(&["-r", "near", "snapshots"]).expect(0).says("healed from far");
    two.run(&["-r", "near", "check"]).expect(0);
    damage("near");
    let place = two.place("near");
    let alone = Person::new(&two.scene.world.path("bare")).with("LIFEBOAT_PASSPHRASE", "secret");
    let place = place.to_str().unwrap();
    let alone = |arguments: &[&str]| alone.run(&[&["-r", place], arguments].concat());
    alone(&["check"]).expect(14).prints("labels/");
    alone(&["forget", "--keep-last", "1"]).expect(14).says("what is pinned is not known").says("--force");
    alone(&["forget", "--keep-last", "1", "--force"]).expect(0);
    alone(&["repair", "snapshots", "--forget"]).expect(14).prints("1 record of labels cannot be read");
    alone(&["check"]).expect(0);
}
