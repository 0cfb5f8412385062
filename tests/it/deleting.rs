//! Nothing is lost by `restore --delete`, a second `init`, or restoring over what is there in the ways that a hostile reader thought of.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::world::World;

use crate::scene::Tmpfs;

struct Home {
    world: World,
    person: Person,
}

impl Home {
    fn new() -> Self {
        let world = World::new();
        let person = Person::new(&world.path("home"));
        Self { world, person }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path("home").join(name)
    }

    fn text(&self) -> String {
        self.world.path("home").to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str], code: i32) -> Ended {
        self.person.run(arguments).expect(code)
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_repository_it_restores_from_is_never_deleted() {
    let home = Home::new();
    write(&home.path("kept"), "kept");
    home.run(&["backup", &home.text()], 0);
    write(&home.path("new/file"), "new");
    let latest = format!("latest:{}", home.text());
    let restored =
        home.run(&["restore", &latest, "--target", &home.text(), "--overwrite", "if-changed", "--delete"], 0);
    assert!(!home.path("new").exists());
    assert!(home.path(".local/share/lifeboat/repository/config").exists(), "{}", restored.err);
    assert!(home.path(".local/share/lifeboat/key").exists());
    home.run(&["check", "--read-data"], 0);
}

#[test]
fn directories_on_the_way_to_what_was_backed_up_keep_what_else_is_in_them() {
    let home = Home::new();
    write(&home.path("a/b/backed-up/file"), "file");
    write(&home.path("a/other"), "other");
    home.run(&["backup", home.path("a/b/backed-up").to_str().unwrap()], 0);
    write(&home.path("a/b/backed-up/new"), "new");
    write(&home.path("a/b/beside"), "beside");
    home.run(&["restore", "latest", "--target", "/", "--overwrite", "if-changed", "--delete"], 0);
    assert!(!home.path("a/b/backed-up/new").exists());
    assert!(home.path("a/b/beside").exists() && home.path("a/other").exists());
}

#[test]
fn what_was_excluded_is_deleted_only_by_force() {
    let home = Home::new();
    let source = home.path("source");
    write(&source.join("file"), "file");
    write(&source.join("cache.tmp"), "left out");
    let text = source.to_str().unwrap();
    home.run(&["backup", text, "--exclude", "*.tmp"], 0);
    let latest = format!("latest:{text}");
    let arguments = ["restore", &latest, "--target", text, "--overwrite", "if-changed", "--delete"];
    let refused = home.run(&arguments, 2);
    assert!(refused.err.contains("--exclude") && source.join("cache.tmp").exists(), "{}", refused.err);
    let forced = home.run(&[&arguments[..], &["--force", "--json", "-v"]].concat(), 0);
    assert!(!source.join("cache.tmp").exists() && source.join("file").exists());
    // What went is named by where it was.
    let named = format!("{:?}", format!("{text}/cache.tmp"));
    assert!(forced.out.contains(&named) && forced.out.contains("deleted"), "{}", forced.out);
}

#[test]
fn another_file_system_below_the_target_is_not_emptied() {
    let home = Home::new();
    let source = home.path("source");
    write(&source.join("file"), "file");
    let Some(mount) = Tmpfs::mount(&source.join("mount"), "1m") else { return };
    write(&source.join("mount/precious"), "precious");
    let text = source.to_str().unwrap();
    home.run(&["backup", "--one-file-system", text], 0);
    let latest = format!("latest:{text}");
    let restored =
        home.run(&["restore", &latest, "--target", text, "--overwrite", "if-changed", "--delete"], 0);
    assert!(source.join("mount/precious").exists());
    assert!(restored.err.contains("another file system"), "{}", restored.err);
    drop(mount);
}

#[test]
fn nothing_is_deleted_once_something_could_not_be_restored() {
    let home = Home::new();
    let source = home.path("source");
    let content: String = (0..40_000).map(|n| format!("{n} ")).collect();
    write(&source.join("sub/file"), &content);
    write(&source.join("z/other"), "other");
    let text = source.to_str().unwrap();
    home.run(&["backup", text], 0);
    let packs = home.path(".local/share/lifeboat/repository/packs");
    for folder in fs::read_dir(packs).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap().path();
            let bytes = fs::read(&pack).unwrap();
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, vec![0; bytes.len()]).unwrap();
        }
    }
    // The user moved the file: what is there is all that is left of it.
    fs::rename(source.join("sub/file"), source.join("sub/renamed")).unwrap();
    let latest = format!("latest:{text}");
    let restored =
        home.run(&["restore", &latest, "--target", text, "--overwrite", "if-changed", "--delete"], 14);
    assert_eq!(fs::read_to_string(source.join("sub/renamed")).unwrap(), content, "{}", restored.err);
}

#[test]
fn links_that_lead_elsewhere_are_put_right() {
    let home = Home::new();
    let source = home.path("source");
    fs::create_dir(&source).unwrap();
    symlink("release-42", source.join("current")).unwrap();
    let text = source.to_str().unwrap();
    home.run(&["backup", text], 0);
    fs::remove_file(source.join("current")).unwrap();
    symlink("release-41", source.join("current")).unwrap();
    let latest = format!("latest:{text}");
    let arguments = ["restore", &latest, "--target", text, "--overwrite", "if-changed"];
    let dry = home.run(&[&arguments[..], &["--dry-run"]].concat(), 0);
    assert!(dry.out.contains("0 unchanged"), "{}", dry.out);
    home.run(&arguments, 0);
    assert_eq!(fs::read_link(source.join("current")).unwrap(), Path::new("release-42"));
}

#[test]
fn what_is_done_after_a_restore_that_failed_in_part_is_the_users() {
    let home = Home::new();
    let source = home.path("source");
    let content: String = (0..40_000).map(|n| format!("{n} ")).collect();
    write(&source.join("large"), &content);
    let text = source.to_str().unwrap();
    home.run(&["backup", text], 0);
    // A second file, in a pack of its own, which is then lost.
    let packs = || -> Vec<PathBuf> {
        let folders = fs::read_dir(home.path(".local/share/lifeboat/repository/packs")).unwrap();
        folders.flat_map(|f| fs::read_dir(f.unwrap().path()).unwrap()).map(|p| p.unwrap().path()).collect()
    };
    let before = packs();
    write(&source.join("lost"), &content.replace('1', "x"));
    home.run(&["backup", text], 0);
    let lost = packs().into_iter().find(|pack| !before.contains(pack)).unwrap();
    fs::remove_file(lost).unwrap();
    let target = home.path("target");
    let latest = format!("latest:{text}");
    let arguments = ["restore", &latest, "--target", target.to_str().unwrap()];
    home.run(&arguments, 14);
    write(&target.join("large"), "a month of work");
    home.run(&arguments, 2);
    assert_eq!(fs::read_to_string(target.join("large")).unwrap(), "a month of work");
}

#[test]
fn an_existing_directory_keeps_its_metadata_unless_it_is_asked_for() {
    let home = Home::new();
    let source = home.path("source");
    write(&source.join("directory/file"), "file");
    let text = source.to_str().unwrap();
    home.run(&["backup", text], 0);
    let target = home.path("target");
    fs::create_dir_all(target.join("directory")).unwrap();
    let chmod = |mode| Command::new("chmod").arg(mode).arg(target.join("directory")).status().unwrap();
    assert!(chmod("0711").success());
    let latest = format!("latest:{text}");
    let target_text = target.to_str().unwrap();
    for more in [&["--overwrite", "never"][..], &["--overwrite", "always", "--include", "file"][..]] {
        home.run(&[&["restore", &latest, "--target", target_text][..], more].concat(), 0);
        assert_eq!(fs::metadata(target.join("directory")).unwrap().mode() & 0o7777, 0o711, "{more:?}");
        assert_eq!(fs::read_to_string(target.join("directory/file")).unwrap(), "file");
    }
    home.run(&["restore", &latest, "--target", target_text, "--overwrite", "always"], 0);
    assert_eq!(fs::metadata(target.join("directory")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_target_that_is_a_link_into_the_repository_is_refused() {
    let home = Home::new();
    write(&home.path("source/file"), "file");
    home.run(&["backup", home.path("source").to_str().unwrap()], 0);
    symlink(home.path(".local/share/lifeboat/repository/packs"), home.path("link")).unwrap();
    let link = home.path("link");
    let refused =
        home.run(&["restore", "latest", "--target", link.to_str().unwrap(), "--overwrite", "always"], 2);
    assert!(refused.err.contains("lies in the repository"), "{}", refused.err);
}

#[test]
fn a_dry_run_into_a_new_target_deletes_nothing() {
    let home = Home::new();
    write(&home.path("source/file"), "file");
    home.run(&["backup", home.path("source").to_str().unwrap()], 0);
    let target = home.path("not there");
    let arguments =
        ["restore", "latest", "--dry-run", "--delete", "-v", "--target", target.to_str().unwrap()];
    let ended = home.run(&arguments, 0);
    assert!(!ended.err.contains("deleted") && !ended.out.contains("deleted"), "{ended:?}");
    assert!(!target.exists());
}

#[test]
fn an_init_of_the_default_repository_that_is_there_is_refused() {
    let home = Home::new();
    write(&home.path("source/file"), "file");
    home.run(&["backup", home.path("source").to_str().unwrap()], 0);
    let refused = home.run(&["init"], 2);
    assert!(refused.err.contains("there is a repository") && refused.out.is_empty(), "{refused:?}");
    home.run(&["check", "--read-data"], 0);
}
