//! Real databases: written to by others, in every journal mode, damaged, missing, not readable.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::*;

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").canonicalize().unwrap().join(name)
    }

    /// A database of accounts whose sum is always 0.
    fn accounts(&self, name: &str, mode: &str, count: u32) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
            .execute_batch(&format!("PRAGMA journal_mode = {mode}; PRAGMA synchronous = OFF;"))
            .unwrap();
        connection
            .execute_batch("CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER, note TEXT);")
            .unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                    INSERT INTO account SELECT i, 0, hex(randomblob(200)) FROM n";
        connection.execute(fill, [count]).unwrap();
        connection
    }

    fn open(&self, paths: &[&str]) -> Result<Entries> {
        let paths = paths.iter().map(|path| self.path(path)).collect();
        let source = SqliteSource { paths, timeout: Duration::from_secs(60) };
        Sqlite::new(source, self.folder.path().join("cache")).open(&Context::silent())
    }

    /// The copies of the databases, by the numbers in which they were made.
    fn copies(&self) -> PathBuf {
        let folder = self.folder.path().join("cache").join(crate::source::copies::FOLDER);
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    }
}

fn transfer(connection: &Connection, number: i64) {
    let (from, to) = (number % 997 + 1, number * 7 % 991 + 1);
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; UPDATE account SET amount = amount - 5 WHERE id = {from}; \
             UPDATE account SET amount = amount + 5 WHERE id = {to}; COMMIT;"
        ))
        .unwrap();
}

fn sum_and_count(database: &Path) -> (i64, i64) {
    let connection = Connection::open(database).unwrap();
    connection
        .query_row("SELECT sum(amount), count(*) FROM account", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

#[test]
fn a_copy_under_write_load_is_of_one_moment() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let scene = Scene::new();
        // Several steps of the copy.
        let connection = scene.accounts("bank.db", mode, 40_000);
        let stop = Arc::new(AtomicBool::new(false));
        let (first, began) = mpsc_pair();
        let writer = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    transfer(&connection, written);
                    written += 1;
                    if written == 1 {
                        first.send(()).unwrap();
                    }
                }
                written
            }
        });
        began.recv().unwrap();
        for _ in 0..3 {
            let entries = scene.open(&["bank.db"]).unwrap();
            assert_eq!(sum_and_count(&scene.copies().join("0.db")), (0, 40_000), "{mode}");
            drop(entries);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 3, "{mode}: nothing was written meanwhile");
    }
}

fn mpsc_pair() -> (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) {
    std::sync::mpsc::channel()
}

#[test]
fn what_is_only_in_the_log_is_in_the_copy() {
    let scene = Scene::new();
    let connection = scene.accounts("a.db", "WAL", 10);
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO account VALUES (99, 0, 'new');")
        .unwrap();
    assert!(companion(&scene.path("a.db"), "-wal").metadata().unwrap().len() > 0);
    let entries = scene.open(&["*"]).unwrap();
    assert_eq!(sum_and_count(&scene.copies().join("0.db")), (0, 11));
    let paths: Vec<PathBuf> =
        entries.plan.paths().iter().map(|p| PathBuf::from(std::ffi::OsStr::from_bytes(p))).collect();
    assert_eq!(paths, [scene.path("a.db")]);
    let copies = scene.copies();
    drop(entries);
    assert!(!copies.exists());
}

#[test]
fn page_sizes_and_names_of_all_kinds() {
    let scene = Scene::new();
    for (name, page) in [("small ?#%&.db", 512), ("large.db", 65536)] {
        let connection = Connection::open(scene.path(name)).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {page}; CREATE TABLE t (x); INSERT INTO t VALUES (1);"
            ))
            .unwrap();
    }
    let entries = scene.open(&["*.db"]).unwrap();
    assert_eq!(entries.plan.paths().len(), 2);
    for (number, page) in [(0, 65536), (1, 512)] {
        let mut head = [0; 18];
        let copy = scene.copies().join(format!("{number}.db"));
        File::open(copy).unwrap().read_exact(&mut head).unwrap();
        assert_eq!(u16::from_be_bytes([head[16], head[17]]), if page == 65536 { 1 } else { 512 });
    }
}

#[test]
fn one_bad_database_is_an_error_of_the_snapshot_and_only_bad_ones_are_an_error() {
    let scene = Scene::new();
    drop(scene.accounts("good.db", "WAL", 2000));
    drop(scene.accounts("corrupt.db", "DELETE", 2000));
    let mut bytes = std::fs::read(scene.path("corrupt.db")).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 2048].fill(0xa5);
    std::fs::write(scene.path("corrupt.db"), bytes).unwrap();
    std::fs::write(
        scene.path("text.db"),
        "this is no database, but long enough to be looked at as one".repeat(99),
    )
    .unwrap();
    std::fs::write(scene.path("empty.db"), "").unwrap();
    for (name, words) in [
        ("corrupt.db", "is damaged"),
        ("text.db", "is not an SQLite database, or it is encrypted"),
        ("empty.db", "is empty"),
        ("gone.db", "cannot open the database"),
        ("gone*.db", "nothing matches"),
    ] {
        let Err(alone) = scene.open(&[name]) else { panic!("{name} was backed up") };
        assert!(alone.to_string().contains(words) && alone.hint().is_some(), "{name}: {alone:?}");
        let entries = scene.open(&[name, "good.db"]).unwrap();
        assert!(entries.plan.has_given() && entries.plan.paths().len() == 2, "{name}");
        assert_eq!(entries.plan.lacking().count(), 1, "{name}");
    }
    let Err(none) = scene.open(&["gone.db", "text.db"]) else { panic!("nothing was backed up") };
    assert!(none.to_string().starts_with("none of the 2 databases can be backed up; the first"), "{none}");
}

#[test]
fn a_database_that_stays_locked_names_its_holder_and_a_stop_is_heard() {
    let scene = Scene::new();
    let connection = scene.accounts("a.db", "DELETE", 10);
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
    let path = scene.path("a.db");
    let copy = scene.folder.path().join("copy");
    let error = copy::make(&path, &copy, std::time::Instant::now(), &Context::silent()).unwrap_err();
    assert!(error.to_string().contains("stayed locked by another program"), "{error}");
    let stopped = Context::new(Arc::new(crate::events::Silent), Arc::new(AtomicBool::new(true)));
    let late = std::time::Instant::now() + Duration::from_secs(600);
    assert_eq!(copy::make(&path, &copy, late, &stopped).unwrap_err().kind(), Kind::Interrupted);
}

/// Puts a copy of `from` in the place of `to`, as a restore does.
fn put_back(from: &Path, to: &Path) -> Result<restore::Swapped> {
    let (restoring, mut file) = restore::Restoring::begin(to)?;
    std::io::copy(&mut File::open(from).unwrap(), &mut file).unwrap();
    let meta = Meta { mode: 0o640, ..original(from)? };
    restoring.finish(&file, &meta, &Context::silent())
}

fn names(scene: &Scene) -> Vec<String> {
    let entries = std::fs::read_dir(scene.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_stale_log_is_never_replayed_into_a_restored_database() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new();
    drop(scene.accounts("good.db", "WAL", 7));
    let connection = scene.accounts("a.db", "WAL", 5);
    connection
        .execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO account VALUES (99, 0, 'in the log');")
        .unwrap();
    // As a crash leaves it: the log has what the database lacks.
    let crashed = scene.folder.path().join("crashed");
    std::fs::create_dir(&crashed).unwrap();
    for end in ["", "-wal"] {
        std::fs::copy(scene.path(&format!("a.db{end}")), crashed.join(format!("a.db{end}"))).unwrap();
    }
    drop(connection);
    for end in ["", "-wal"] {
        std::fs::copy(crashed.join(format!("a.db{end}")), scene.path(&format!("a.db{end}"))).unwrap();
    }
    let swapped = put_back(&scene.path("good.db"), &scene.path("a.db")).unwrap();
    let before = swapped.before.unwrap();
    assert_eq!(std::fs::metadata(scene.path("a.db")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!scene.path("a.db-wal").exists() && !scene.path("a.db-shm").exists(), "{:?}", names(&scene));
    assert_eq!(sum_and_count(&scene.path("a.db")), (0, 7));
    // Nothing of the old one is lost, nor of its log.
    assert_eq!(sum_and_count(&before), (0, 6));
}

#[test]
fn logs_of_a_damaged_database_and_of_none_get_out_of_the_way() {
    let scene = Scene::new();
    drop(scene.accounts("good.db", "DELETE", 7));
    for (name, database) in [("a.db", Some("no database at all".repeat(500))), ("b.db", None)] {
        if let Some(bytes) = &database {
            std::fs::write(scene.path(name), bytes).unwrap();
        }
        std::fs::write(scene.path(&format!("{name}-wal")), "log").unwrap();
        std::fs::write(scene.path(&format!("{name}-journal")), "journal").unwrap();
        let swapped = put_back(&scene.path("good.db"), &scene.path(name)).unwrap();
        assert_eq!(swapped.before.is_some(), database.is_some());
        assert_eq!(sum_and_count(&scene.path(name)), (0, 7));
        let here = names(&scene);
        assert!(
            !here.contains(&format!("{name}-wal")) && !here.contains(&format!("{name}-journal")),
            "{here:?}"
        );
        // What nothing can be used of, SQLite itself may have taken away with the damaged database.
        let kept = here.iter().filter(|other| other.starts_with(name) && other.ends_with("-wal")).count();
        assert!(kept == 1 || database.is_some(), "{here:?}");
    }
}

#[test]
fn a_database_that_is_in_use_or_a_copy_that_is_damaged_is_refused() {
    let scene = Scene::new();
    drop(scene.accounts("good.db", "DELETE", 7));
    for mode in ["WAL", "DELETE"] {
        let name = format!("{mode}.db");
        let connection = scene.accounts(&name, mode, 5);
        connection.execute_batch("BEGIN IMMEDIATE; UPDATE account SET note = 'x';").unwrap();
        let error = put_back(&scene.path("good.db"), &scene.path(&name)).unwrap_err();
        assert_eq!(error.kind(), Kind::Locked, "{error}");
        connection.execute_batch("COMMIT").unwrap();
        drop(connection);
        assert_eq!(sum_and_count(&scene.path(&name)), (0, 5));
    }
    // Another process, which has it open and does nothing.
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(File::options().append(true).open(scene.path("WAL.db")).unwrap())
        .spawn()
        .unwrap();
    let error = put_back(&scene.path("good.db"), &scene.path("WAL.db")).unwrap_err();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(error.kind() == Kind::Locked && error.to_string().contains(&child.id().to_string()), "{error}");
    std::fs::write(scene.path("bad.db"), &std::fs::read(scene.path("good.db")).unwrap()[..4096]).unwrap();
    let error = put_back(&scene.path("bad.db"), &scene.path("DELETE.db")).unwrap_err();
    assert!(error.to_string().starts_with("what the snapshot has is not restored"), "{error}");
    assert_eq!(sum_and_count(&scene.path("DELETE.db")), (0, 5));
    assert!(names(&scene).iter().all(|name| !name.contains("lifeboat")), "{:?}", names(&scene));
}
