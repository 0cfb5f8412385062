//! Sources of the configuration by the real binary: databases, programs, hooks, what is refused, and back again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::world::World;
use rusqlite::Connection;

/// A person whose configuration names a repository with a key, and sources.
struct Configured {
    world: World,
    person: Person,
}

impl Configured {
    /// `sources` is TOML in which `DIR` stands for the directory of the data.
    fn new(sources: &str) -> Self {
        let world = World::new();
        let person = Person::new(&world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
        let configured = Self { world, person };
        configured.configure(sources);
        configured.run(&["init"]).expect(0);
        configured
    }

    fn configure(&self, sources: &str) {
        let folder = self.world.path("home/.config/lifeboat");
        fs::create_dir_all(&folder).unwrap();
        let repository = self.world.path("repository");
        let text = format!(
            "host = \"here\"\n[[destination]]\nname = \"disk\"\nurl = \"{}\"\n{}",
            repository.display(),
            sources.replace("DIR", self.world.source().to_str().unwrap())
        );
        fs::write(folder.join("config.toml"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    fn backup(&self, source: &str) -> Ended {
        self.run(&["backup", "--source", source, "--class", "daily", "--json"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.source().join(name)
    }

    fn database(&self, name: &str, mode: &str, rows: u32) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        let sql = format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER PRIMARY KEY, note TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT i, hex(randomblob(400)) FROM n;"
        );
        connection.execute_batch(&sql).unwrap();
        connection
    }

    fn snapshots(&self) -> usize {
        self.run(&["snapshots", "--json"]).expect(0).json().len()
    }
}

fn rows(database: &PathBuf) -> i64 {
    let connection = Connection::open(database).unwrap();
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

const SQLITE: &str =
    "[[source]]\nname = \"bot\"\nkind = \"sqlite\"\npaths = [\"DIR/*.db\"]\ntags = [\"live\"]\n";

#[test]
fn a_live_database_is_backed_up_little_by_little_and_put_back() {
    let configured = Configured::new(SQLITE);
    let connection = configured.database("app.db", "WAL", 20_000);
    let first = configured.backup("bot").expect(0).json();
    assert_eq!(first.last().unwrap()["files_new"], 1);
    connection.execute_batch("UPDATE t SET note = 'changed' WHERE id = 9999").unwrap();
    let second = configured.backup("bot").expect(0).json();
    let second = second.last().unwrap();
    // Of some 16 MB only the chunks around one page.
    let (total, added) = (second["bytes_total"].as_u64().unwrap(), second["bytes_added"].as_u64().unwrap());
    assert!(total > 15_000_000 && added < total / 20, "{added} of {total} bytes are new");
    let listed = configured.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!((&listed[0]["source"], &listed[0]["class"]), (&"bot".into(), &"daily".into()));

    connection.execute_batch("DELETE FROM t").unwrap();
    configured.run(&["source", "restore", "bot"]).expect(11).says("is in use by").says("Nothing was changed");
    assert_eq!(rows(&configured.path("app.db")), 0);
    drop(connection);
    configured.run(&["source", "restore", "bot", "--dry-run"]).expect(0).prints("would be restored");
    assert_eq!(rows(&configured.path("app.db")), 0);
    configured.run(&["source", "restore", "bot", "latest"]).expect(0).prints("restored and checked");
    assert_eq!(rows(&configured.path("app.db")), 20_000);
    // A second name does not match *.db, and is no second database.
    configured.backup("bot").expect(0);
}

#[test]
fn a_missing_or_damaged_database_is_never_a_good_backup() {
    let configured = Configured::new(SQLITE);
    drop(configured.database("good.db", "DELETE", 100));
    fs::write(configured.path("bad.db"), "not a database, only text that has its name".repeat(100)).unwrap();
    let ended = configured.backup("bot").expect(3).prints("bad.db is not an SQLite database");
    assert_eq!(ended.json().last().unwrap()["errors_total"], 1);
    configured.run(&["source", "restore", "bot"]).expect(3).says("the snapshot lacks");
    fs::remove_file(configured.path("good.db")).unwrap();
    configured.backup("bot").expect(1).says("is not an SQLite database");
    fs::remove_file(configured.path("bad.db")).unwrap();
    configured.backup("bot").expect(1).says("nothing matches this pattern");
    assert_eq!(configured.snapshots(), 1);
}

/// As the service: a user of its own with one capability more, and a database in use in somebody's private directory.
#[test]
fn a_live_database_in_a_private_directory_is_backed_up_by_the_service_s_capability_alone() {
    if !lifeboat_tests::grow::is_root() || !lifeboat_tests::on_path("setpriv", "util-linux") {
        return;
    }
    let configured = Configured::new(SQLITE);
    let connection = configured.database("app.db", "WAL", 100);
    fs::set_permissions(configured.world.source(), fs::Permissions::from_mode(0o700)).unwrap();
    let chown = |path: PathBuf| {
        assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(path).status().unwrap().success());
    };
    for mine in ["home", "repository"] {
        chown(configured.world.path(mine));
    }
    fs::set_permissions(configured.world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = configured.world.path("program");
    fs::copy(lifeboat_tests::binary::lifeboat(), &program).unwrap();
    let own =
        ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "-all,+dac_read_search"];
    let words =
        ["--ambient-caps", "-all,+dac_read_search", program.to_str().unwrap(), "backup", "--source", "bot"];
    let person = configured.person.clone().program(&PathBuf::from("setpriv"));
    person.run(&[&own[..], &words[..]].concat()).expect(0);
    drop(connection);
}

#[test]
fn what_vanishes_without_a_word_is_told_until_it_is_accepted() {
    let configured = Configured::new(SQLITE);
    drop(configured.database("kept.db", "DELETE", 10));
    drop(configured.database("gone.db", "WAL", 10));
    configured.backup("bot").expect(0);
    fs::remove_file(configured.path("gone.db")).unwrap();
    for _ in 0..2 {
        let ended = configured.backup("bot").expect(3).prints("gone.db").prints("is gone");
        assert_eq!(ended.json().last().unwrap()["errors_total"], 1);
    }
    configured.run(&["run", "bot", "--accept-shrink"]).expect(0);
    configured.backup("bot").expect(0);

    // What never was in a snapshot is not missed.
    fs::write(configured.path("half.db"), "not a database, only text that has its name".repeat(100)).unwrap();
    configured.backup("bot").expect(3);
    fs::remove_file(configured.path("half.db")).unwrap();
    configured.backup("bot").expect(0);

    // What is taken out of the configuration was meant to be.
    drop(configured.database("gone.db", "WAL", 10));
    configured.backup("bot").expect(0);
    fs::remove_file(configured.path("gone.db")).unwrap();
    configured.configure(&SQLITE.replace("*.db", "kept.*"));
    configured.backup("bot").expect(0);
}

#[test]
fn a_directory_that_is_suddenly_empty_is_told_until_it_is_full_or_accepted() {
    let source =
        |more: &str| format!("[[source]]\nname = \"data\"\npaths = [\"DIR/volume\", \"DIR/other\"]\n{more}");
    let configured = Configured::new(&source(""));
    for name in ["volume", "other", "elsewhere"] {
        fs::create_dir(configured.path(name)).unwrap();
    }
    fs::write(configured.path("volume/file"), "x").unwrap();
    // One that was always empty is no news.
    configured.backup("data").expect(0);
    fs::rename(configured.path("volume/file"), configured.path("elsewhere/file")).unwrap();
    for _ in 0..2 {
        configured.backup("data").expect(3).prints("is its file system mounted?").prints("--accept-shrink");
    }
    fs::rename(configured.path("elsewhere/file"), configured.path("volume/file")).unwrap();
    configured.backup("data").expect(0);
    fs::remove_file(configured.path("volume/file")).unwrap();
    configured.configure(&source("may_vanish = true"));
    configured.backup("data").expect(0);
    configured.configure(&source(""));
    configured.backup("data").expect(0);

    // Without a source of the configuration it is said, and nothing else.
    let elsewhere = configured.path("elsewhere");
    let path = elsewhere.to_str().unwrap();
    fs::write(configured.path("elsewhere/file"), "x").unwrap();
    configured.run(&["backup", path]).expect(0);
    fs::remove_file(configured.path("elsewhere/file")).unwrap();
    configured.run(&["backup", path]).expect(0).says("is its file system mounted?");
}

#[test]
fn a_program_makes_a_snapshot_only_by_a_good_end_and_takes_it_in_again() {
    let source = |script: &str, more: &str| {
        format!(
            "[[source]]\nname = \"app\"\nkind = \"command\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n{more}\n"
        )
    };
    let configured = Configured::new(&source("head -c 3000000 /dev/zero", ""));
    configured.backup("app").expect(0);
    configured.configure(&source("head -c 3000000 /dev/zero; echo no such table >&2; exit 4", ""));
    configured.backup("app").expect(1).says("sh failed (exit code 4): no such table");
    configured.configure(&source("kill -9 $$", ""));
    configured.backup("app").expect(1).says("sh failed (signal 9)");
    configured.configure(&source("echo little", "minimum_size = \"1KiB\""));
    configured.backup("app").expect(1).says("at least 1.0 KiB are expected");
    configured.configure(&source("head -c 1000000 /dev/zero", "maximum_shrink = \"50%\""));
    configured.backup("app").expect(1).says("67 % less").says("--accept-shrink");
    assert_eq!(configured.snapshots(), 1);

    configured.run(&["source", "restore", "app"]).expect(2).says("has no `restore`");
    let restore = |script: &str| source("true", &format!("restore = [\"sh\", \"-c\", '''{script}''']"));
    configured.configure(&restore("cat > DIR/taken"));
    configured.run(&["source", "restore", "app"]).expect(0).prints("taken in by sh");
    assert_eq!(fs::read(configured.path("taken")).unwrap(), vec![0; 3_000_000]);
    configured.configure(&restore("head -c 10; echo cannot take it >&2; exit 3"));
    configured
        .run(&["source", "restore", "app"])
        .expect(1)
        .says("sh failed (exit code 3): ")
        .says("cannot take it");
    configured.configure(&restore("exit 0"));
    configured.run(&["source", "restore", "app"]).expect(1).says("did not read all of the dump");
}

#[test]
fn programs_see_no_secret_of_lifeboat() {
    let source = "[[source]]\nname = \"app\"\nkind = \"command\"\ncommand = [\"env\"]\nfile = \"/env\"\n\
        [source.hooks]\nbefore = [[\"sh\", \"-c\", \"env > DIR/hook\"]]\n";
    let configured = Configured::new(source);
    let person = configured.person.clone().with("CREDENTIALS_DIRECTORY", "/nowhere").with("HARMLESS", "yes");
    person.run(&["backup", "--source", "app"]).expect(0);
    let seen = configured.run(&["dump", "latest:/env"]).expect(0).out;
    for text in [seen, fs::read_to_string(configured.path("hook")).unwrap()] {
        assert!(text.contains("HARMLESS=yes"), "{text}");
        assert!(!text.contains("PASSPHRASE") && !text.contains("CREDENTIALS_DIRECTORY"), "{text}");
    }
}

#[test]
fn hooks_run_around_a_backup_and_finally_also_after_a_failure() {
    let say = |key: &str| {
        format!(
            "{key} = [[\"sh\", \"-c\", \"echo {key} $LIFEBOAT_OUTCOME ${{LIFEBOAT_ERROR:+error}} >> DIR/../said\"]]\n"
        )
    };
    let hooks: String = ["before", "after", "failed", "finally"].map(say).concat();
    let source = |command: &str, hooks: &str| {
        format!(
            "[[source]]\nname = \"app\"\nkind = \"command\"\ncommand = [\"{command}\"]\n[source.hooks]\n{hooks}"
        )
    };
    let configured = Configured::new(&source("uname", &hooks));
    let said = || {
        let path = configured.world.path("said");
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(path).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    configured.backup("app").expect(0);
    assert_eq!(said(), ["before", "after success", "finally success"]);
    configured.configure(&source("false", &hooks));
    configured.backup("app").expect(1);
    assert_eq!(said(), ["before", "failed failed error", "finally failed error"]);
    let refusing = hooks.replace("before = [", "before = [[\"false\"], ");
    configured.configure(&source("uname", &refusing));
    configured.backup("app").expect(1).says("the hook `before` of source app: false failed (exit code 1)");
    assert_eq!(said(), ["failed failed error", "finally failed error"]);
    assert_eq!(configured.snapshots(), 1);
}

#[test]
fn files_are_found_by_patterns_and_what_is_asked_of_the_wrong_kind_is_refused() {
    let configured = Configured::new(
        "[[source]]\nname = \"docs\"\npaths = [\"DIR/*/text\", \"DIR/none*\"]\nexclude = [\"*.o\", \"*.tmp\"]\n",
    );
    for folder in ["a", "b"] {
        fs::create_dir_all(configured.path(folder).join("text")).unwrap();
        for file in ["kept", "x.o", "x.tmp"] {
            fs::write(configured.path(folder).join("text").join(file), file).unwrap();
        }
    }
    let ended = configured.backup("docs").expect(3);
    assert_eq!(ended.json().last().unwrap()["files_new"], 2);
    configured
        .run(&["source", "restore", "docs"])
        .expect(2)
        .says("lifeboat restore latest --source docs --target DIR");
    configured.run(&["source", "list"]).expect(0).prints("docs  files");
    configured.run(&["backup"]).expect(2).says("lifeboat run docs");
    configured.run(&["backup", "--source", "dox"]).expect(2).says("there is no source dox");
    configured
        .run(&["backup", "--source", "docs", "--exclude", "x"])
        .expect(2)
        .says("does not go with a source");
}
