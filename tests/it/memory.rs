//! What a machine keeps beside a repository: never backed up, never deleted by a restore, and written by those who only read, too.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat_tests::binary::Person;

use crate::scene::{Scene, Tmpfs, find, walk};

/// The memory of the scene's person.
fn memory_of(scene: &Scene) -> PathBuf {
    find(&scene.world.path("home/.local/state/lifeboat"), "memory.json")
}

/// It was taken for none, and a rollback with it for nothing.
#[test]
fn a_memory_that_cannot_be_read_is_said_once_and_ends_nothing() {
    for command in [&["snapshots"][..], &["check"], &["backup", "source"]] {
        let scene = Scene::backed_up();
        let source = scene.source();
        let command: Vec<&str> =
            command.iter().map(|word| if *word == "source" { source } else { word }).collect();
        let memory = memory_of(&scene);
        fs::write(&memory, "{\"writer\": 7").unwrap();
        let found = scene.run(&["doctor", "--json"]).expect(1).prints("memory.json");
        assert!(!found.err.contains("warning") && found.out.contains("\"state\""), "{found:?}");
        let said = scene.run(&[&["-q"], &command[..]].concat()).expect(0);
        let path = memory.to_str().unwrap();
        for words in [path, "does not notice", "Compare `lifeboat snapshots`", "memory.json.damaged"] {
            assert!(said.err.contains(words), "{command:?}: no {words:?} in {}", said.err);
        }
        assert_eq!(said.err.matches("warning:").count(), 1, "{command:?}: {}", said.err);
        // A new one was begun, and what was there can be looked at.
        assert_eq!(scene.run(&command).expect(0).err.matches("warning:").count(), 0, "{command:?}");
        let kept = memory.with_file_name("memory.json.damaged");
        assert_eq!(fs::read_to_string(kept).unwrap(), "{\"writer\": 7", "{command:?}");
        scene.run(&["doctor"]).expect(0);
    }
}

/// The directory named for caches was tagged as a whole, and left out of backups as a whole.
#[test]
fn a_person_s_files_beside_the_cache_are_no_cache() {
    let scene = Scene::new();
    let directory = scene.world.source().join("own");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("letter"), "mine").unwrap();
    let person = scene.person.clone().with("LIFEBOAT_CACHE_DIR", &directory);
    person.run(&["init"]).expect(0);
    person.run(&["backup", "--exclude-caches", scene.source()]).expect(0);
    person.run(&["backup", "--exclude-caches", scene.source()]).expect(0);
    assert!(!directory.join("CACHEDIR.TAG").exists());
    let listed = person.run(&["ls", "-R", "latest"]).expect(0).prints("own/letter");
    assert!(!listed.out.contains(".table"), "{}", listed.out);
    let tags: Vec<PathBuf> =
        walk(&directory).into_iter().filter(|path| path.ends_with("CACHEDIR.TAG")).collect();
    let [tag] = &tags[..] else { panic!("{tags:?}") };
    assert_eq!(tag.parent().and_then(Path::parent), Some(&*directory));
    // Another repository's cache is none of this one's files either.
    let other = person.clone().with("LIFEBOAT_REPOSITORY", scene.world.path("other"));
    other.run(&["init"]).expect(0);
    other.run(&["backup", scene.source()]).expect(0);
    let listed = other.run(&["ls", "-R", "latest"]).expect(0).prints("own/letter");
    assert!(!listed.out.contains("CACHEDIR.TAG"), "{}", listed.out);
}

/// The newest snapshot's object is removed behind everybody's back.
fn roll_back(scene: &Scene) {
    let all = scene.run(&["snapshots", "--json"]).expect(0).json();
    let newest = all.last().unwrap()["id"].as_str().unwrap().to_owned();
    fs::remove_file(find(&scene.world.path("repository/snapshots"), &newest)).unwrap();
}

#[test]
fn a_machine_that_only_reads_notices_a_rollback_too() {
    for reading in [&["snapshots"][..], &["check"], &["ls", "latest"]] {
        let scene = Scene::backed_up();
        fs::write(scene.world.source().join("top"), "changed").unwrap();
        scene.backup().expect(0);
        let reader = Person::new(&scene.world.path("reader"))
            .with("LIFEBOAT_REPOSITORY", scene.world.path("repository"))
            .with("LIFEBOAT_PASSPHRASE", "secret");
        reader.run(reading).expect(0);
        roll_back(&scene);
        reader.run(&["check"]).expect(14).prints("removed without a record").says("nothing brings back");
        reader.run(&["snapshots"]).expect(0).says("removed from this repository without a record");
    }
}

fn home(scene: &Scene) -> (PathBuf, Person) {
    let home = scene.world.path("own");
    let person = Person::new(&home);
    fs::write(home.join("file"), "file").unwrap();
    (home, person)
}

#[test]
fn cache_and_memory_are_not_backed_up() {
    let scene = Scene::new();
    let (home, person) = home(&scene);
    person.run(&["backup", home.to_str().unwrap()]).expect(0).says("cache: left out");
    let listed = person.run(&["ls", "--recursive", "latest"]).expect(0).out;
    assert!(listed.contains("file"), "{listed}");
    for own in ["memory.json", "repository/config", "index"] {
        assert!(!listed.contains(own), "{own} is in the snapshot: {listed}");
    }
    let again = person.run(&["backup", "--json", home.to_str().unwrap()]).expect(0).json();
    assert_eq!(again.last().unwrap()["files_new"], 0, "{again:?}");
}

/// The snapshot knows the directories, since they were another machine's when it was made.
#[test]
fn nothing_in_cache_and_memory_is_deleted_by_a_restore() {
    let scene = Scene::new();
    let (home, person) = home(&scene);
    let text = home.to_str().unwrap();
    person.run(&["backup", text]).expect(0);
    let elsewhere = |name: &str| scene.world.path(name);
    let other = Person::new(&home)
        .with("LIFEBOAT_STATE_DIR", elsewhere("state"))
        .with("LIFEBOAT_CACHE_DIR", elsewhere("cache"));
    other.run(&["backup", text]).expect(0);
    let kept: Vec<PathBuf> = own_files(&home)
        .into_iter()
        .map(|path| path.with_file_name("kept"))
        .inspect(|path| fs::write(path, "not in the snapshot").unwrap())
        .collect();
    assert!(kept.len() >= 2, "{kept:?}");
    fs::write(home.join("new"), "new").unwrap();
    let latest = format!("latest:{text}");
    let restored = person
        .run(&["restore", &latest, "--target", text, "--overwrite", "if-changed", "--delete", "--force"])
        .expect(0);
    assert!(!home.join("new").exists(), "{}", restored.err);
    for path in kept {
        assert!(path.exists(), "{} was deleted: {}", path.display(), restored.err);
    }
}

/// Files in the cache and the state directory of a home.
fn own_files(home: &Path) -> Vec<PathBuf> {
    let folders = [".cache/lifeboat", ".local/state/lifeboat"];
    folders
        .iter()
        .flat_map(|folder| walk(&home.join(folder)))
        .filter(|path| path.is_file() && !path.ends_with("CACHEDIR.TAG"))
        .collect()
}

/// A copy of the repository knew nothing of where the first one lies.
#[test]
fn a_restore_from_a_copy_deletes_neither_the_repository_nor_what_belongs_to_it() {
    let scene = Scene::new();
    let (home, person) = home(&scene);
    let text = home.to_str().unwrap();
    person.run(&["backup", text]).expect(0);
    let own = [".local/share/lifeboat/repository", ".local/state/lifeboat", ".cache/lifeboat"]
        .map(|name| home.join(name));
    let before: Vec<PathBuf> = own.iter().flat_map(|path| walk(path)).collect();
    let copy = scene.world.path("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&own[0]).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::write(home.join("new"), "new").unwrap();
    let stranger = Person::new(&scene.world.path("stranger")).with("LIFEBOAT_REPOSITORY", &copy);
    let key = home.join(".local/share/lifeboat/key");
    let latest = format!("latest:{text}");
    let arguments = ["restore", &latest, "--target", text, "--overwrite", "if-changed", "--delete"];
    stranger.run(&[&["--key-file", key.to_str().unwrap()], &arguments[..]].concat()).expect(0);
    assert!(!home.join("new").exists());
    for path in before {
        assert!(path.exists(), "{} was deleted", path.display());
    }
}

/// The snapshot was there, and the run called it a failure: a script would have made another.
#[test]
fn a_full_disk_for_the_memory_fails_no_backup() {
    let scene = Scene::backed_up();
    let Some(_mount) = Tmpfs::mount(&scene.world.path("small"), "64k") else { return };
    let state = scene.world.path("small");
    let person = Person::new(&scene.world.path("another"))
        .with("LIFEBOAT_REPOSITORY", scene.world.path("repository"))
        .with("LIFEBOAT_PASSPHRASE", "secret")
        .with("LIFEBOAT_STATE_DIR", &state);
    person.run(&["backup", scene.source()]).expect(0);
    assert!(fs::write(state.join("filler"), vec![0; 128 << 10]).is_err());
    let full = person.run(&["backup", scene.source()]).expect(0);
    full.says("no space left").says("The snapshot was made").prints("Snapshot ");
    fs::remove_file(state.join("filler")).unwrap();
    person.run(&["backup", scene.source()]).expect(0);
    person.run(&["check"]).expect(0);
    assert_eq!(scene.snapshots(), 4);
}
