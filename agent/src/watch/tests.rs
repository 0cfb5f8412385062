//! Watches of real files. Every test blocks on the receiver: none waits for a time to pass, but those that say that nothing comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Ignore, Signal, Watch, look};

const QUIET: Duration = Duration::from_millis(40);
/// Much longer than a signal takes on a machine with much to do.
const LONG: Duration = Duration::from_secs(30);
/// Long enough for a signal that must not come.
const SHORT: Duration = Duration::from_millis(400);

fn nothing_ignored() -> Ignore {
    Arc::new(|_| false)
}

fn watch(paths: &[PathBuf]) -> Watch {
    Watch::start(paths.to_vec(), QUIET, nothing_ignored()).unwrap()
}

fn expect_change(watch: &Watch, why: &str) {
    assert_eq!(watch.signals().recv_timeout(LONG).expect(why), Signal::Changed, "{why}");
}

fn expect_nothing(watch: &Watch, why: &str) {
    assert!(watch.signals().recv_timeout(SHORT).is_err(), "{why}");
}

/// A directory with a file in a directory.
fn tree() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "1").unwrap();
    (directory, root)
}

#[test]
fn all_kinds_of_changes_are_told_and_reading_is_none() {
    let (_directory, root) = tree();
    let watch = watch(std::slice::from_ref(&root));
    let file = root.join("a/b/file");
    fs::write(&file, "2").unwrap();
    expect_change(&watch, "content");
    fs::write(root.join("a/new"), "").unwrap();
    expect_change(&watch, "a new file");
    fs::rename(root.join("a/new"), root.join("a/b/moved")).unwrap();
    expect_change(&watch, "a moved file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    expect_change(&watch, "a mode");
    fs::remove_file(root.join("a/b/moved")).unwrap();
    expect_change(&watch, "a removed file");
    fs::read(&file).unwrap();
    fs::read_dir(root.join("a/b")).unwrap().count();
    drop(fs::File::options().write(true).open(&file).unwrap());
    expect_nothing(&watch, "reading, and opening without a write");
}

#[test]
fn many_changes_are_one() {
    let (_directory, root) = tree();
    let watch = Watch::start(vec![root.clone()], Duration::from_millis(500), nothing_ignored()).unwrap();
    for n in 0..50 {
        fs::write(root.join(format!("{n}")), "x").unwrap();
    }
    expect_change(&watch, "fifty files");
    expect_nothing(&watch, "they are one change");
}

#[test]
fn what_never_rests_is_told_all_the_same() {
    let (_directory, root) = tree();
    let watch = watch(std::slice::from_ref(&root));
    let file = root.join("a/b/file");
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let writer = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(2)).is_err_and(|e| e.is_timeout()) {
            fs::write(&file, "again").unwrap();
        }
    });
    expect_change(&watch, "while it is written to");
    expect_change(&watch, "and again");
    drop(stop);
    writer.join().unwrap();
}

#[test]
fn new_and_moved_directories_are_watched() {
    let (directory, root) = tree();
    let watch = watch(std::slice::from_ref(&root));
    fs::create_dir_all(root.join("new/deep")).unwrap();
    expect_change(&watch, "new directories");
    fs::write(root.join("new/deep/file"), "1").unwrap();
    expect_change(&watch, "a file in a new directory");
    fs::rename(root.join("new"), root.join("a/moved")).unwrap();
    expect_change(&watch, "a moved directory");
    fs::write(root.join("a/moved/deep/file"), "2").unwrap();
    expect_change(&watch, "a file in a moved directory");
    fs::rename(root.join("a/moved"), directory.path().join("away")).unwrap();
    expect_change(&watch, "a directory that is moved away");
    fs::write(directory.path().join("away/deep/file"), "3").unwrap();
    expect_nothing(&watch, "a file in a directory that was moved away");
}

#[test]
fn what_is_not_there_yet_or_is_replaced_is_watched() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("not/there/yet");
    let watch = watch(std::slice::from_ref(&root));
    fs::create_dir_all(directory.path().join("not")).unwrap();
    fs::write(directory.path().join("not/other"), "x").unwrap();
    expect_nothing(&watch, "what only leads to it");
    fs::create_dir_all(&root).unwrap();
    expect_change(&watch, "it comes");
    fs::write(root.join("file"), "1").unwrap();
    expect_change(&watch, "a file in it");
    fs::remove_dir_all(directory.path().join("not")).unwrap();
    expect_change(&watch, "it goes, with what leads to it");
    fs::create_dir_all(&root).unwrap();
    expect_change(&watch, "it comes again");
    fs::write(root.join("file"), "2").unwrap();
    expect_change(&watch, "a file in it");
}

#[test]
fn a_file_is_watched_through_replacements_and_its_neighbours_are_not() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("app.conf");
    fs::write(&file, "1").unwrap();
    let watch = watch(std::slice::from_ref(&file));
    fs::write(directory.path().join("other"), "x").unwrap();
    fs::write(directory.path().join("app.conf.tmp"), "2").unwrap();
    expect_nothing(&watch, "its neighbours");
    fs::rename(directory.path().join("app.conf.tmp"), &file).unwrap();
    expect_change(&watch, "it is replaced");
    fs::write(&file, "3").unwrap();
    expect_change(&watch, "it is written to");
}

/// A backup of a database must not lead to the next one: readers make and remove files beside it.
#[test]
fn a_database_in_use_is_told_of_and_its_readers_are_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("bot.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.pragma_update(None, "journal_mode", "wal").unwrap();
    writer.execute_batch("create table t (x); insert into t values (1)").unwrap();
    let in_file = watch(std::slice::from_ref(&path));
    let in_directory = watch(&[directory.path().to_owned()]);
    writer.execute_batch("insert into t values (2)").unwrap();
    expect_change(&in_file, "what is written goes to the -wal file");
    expect_change(&in_directory, "and in a directory");
    drop(writer);
    // Closing it brought the -wal file's content into the database.
    expect_change(&in_file, "closing");
    expect_change(&in_directory, "closing");
    let reader = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = reader.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 2);
    drop(reader);
    expect_nothing(&in_file, "a reader");
    expect_nothing(&in_directory, "a reader");
}

#[test]
fn what_is_ignored_is_not_told() {
    let (_directory, root) = tree();
    fs::create_dir(root.join("cache")).unwrap();
    let ignore: Ignore = Arc::new(|path: &Path| path.ends_with("cache"));
    let watch = Watch::start(vec![root.clone()], QUIET, ignore).unwrap();
    fs::write(root.join("cache/file"), "1").unwrap();
    fs::remove_dir_all(root.join("cache")).unwrap();
    expect_nothing(&watch, "a directory that is left out");
    fs::write(root.join("file"), "1").unwrap();
    expect_change(&watch, "one that is not");
}

#[test]
fn a_watch_without_paths_is_refused() {
    assert!(Watch::start(Vec::new(), QUIET, nothing_ignored()).is_err());
}

/// What is compared where the kernel cannot tell.
#[test]
fn a_tree_looks_another_way_when_it_was_changed() {
    let (_directory, root) = tree();
    let look = || look::look(std::slice::from_ref(&root), &nothing_ignored());
    let before = look();
    assert_eq!(look(), before);
    fs::read(root.join("a/b/file")).unwrap();
    fs::write(root.join("a/b/x-shm"), "").unwrap();
    fs::remove_file(root.join("a/b/x-shm")).unwrap();
    let file = root.join("a/b/file");
    fs::write(&file, "longer").unwrap();
    let written = look();
    assert_ne!(written, before);
    fs::rename(&file, root.join("a/file")).unwrap();
    assert_ne!(look(), written);
}

/// In a user namespace of its own the limit is small; where none can be had, there is nothing to test.
#[test]
fn a_limit_of_the_kernel_is_told_with_what_to_raise() {
    const LIMIT: &str = "/proc/sys/user/max_inotify_watches";
    let is_small = fs::read_to_string(LIMIT).is_ok_and(|limit| limit.trim() == "2");
    if is_small {
        let (_directory, root) = tree();
        let watch = watch(std::slice::from_ref(&root));
        let Signal::Trouble(text) = watch.signals().recv_timeout(LONG).unwrap() else { panic!("no trouble") };
        assert!(
            text.contains("sysctl fs.inotify.max_user_watches=") && text.contains("every minute"),
            "{text}"
        );
        return;
    }
    let script = format!("echo 2 > {LIMIT} && exec \"$@\"");
    let command = |words: &[&str]| {
        std::process::Command::new("unshare").args(["-Ur", "sh", "-c", &script, "sh"]).args(words).output()
    };
    if !command(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("no user namespace can be had: not tested");
        return;
    }
    let own = std::env::current_exe().unwrap();
    let name = "watch::tests::a_limit_of_the_kernel_is_told_with_what_to_raise";
    let output = command(&[own.to_str().unwrap(), "--exact", name]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
