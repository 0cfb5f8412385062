//! A source of kind command with `pg_dump -Fc`, and `pg_restore` for the way back, on a real PostgreSQL that the test starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_tests::binary::Person;
use lifeboat_tests::grow;
use lifeboat_tests::world::World;

/// The user `nobody`: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

/// Where Debian and others put the programs.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.push("/usr/bin".into());
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("pg_dump").is_file())
}

/// A server on a unix socket in a directory of its own; stopped when dropped.
struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
}

impl Postgres {
    fn start(binaries: PathBuf, folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        if grow::is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let server = Self { binaries, folder };
        let data = server.folder.join("data");
        let data = data.to_str().unwrap();
        server.expect("initdb", &["-D", data, "-U", "tester", "-A", "trust", "-N", "--locale=C.UTF-8"]);
        let options = format!("-c listen_addresses= -c fsync=off -k {}", server.folder.display());
        let log = server.folder.join("log");
        server.expect("pg_ctl", &["-D", data, "-o", &options, "-l", log.to_str().unwrap(), "-w", "start"]);
        server
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(self.binaries.join(program));
        command.args(arguments).current_dir(&self.folder).env("PGHOST", &self.folder).env("PGUSER", "tester");
        if grow::is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    }

    #[track_caller]
    fn expect(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {err}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn ask(&self, sql: &str) -> String {
        self.expect("psql", &["-d", "app", "-At", "-c", sql]).trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.join("data");
        self.output("pg_ctl", &["-D", data.to_str().unwrap(), "-m", "immediate", "-w", "stop"]);
    }
}

fn configure(world: &World, binaries: &Path, socket: &Path) {
    let folder = world.path("home/.config/lifeboat");
    fs::create_dir_all(&folder).unwrap();
    let (host, bin) = (socket.display(), binaries.display());
    let text = format!(
        "[[destination]]\nname = \"disk\"\nurl = \"{}\"\n\
         [[source]]\nname = \"app\"\nkind = \"command\"\nfile = \"/dump/app.pgdump\"\nminimum_size = \"1KiB\"\n\
         command = [\"{bin}/pg_dump\", \"-Fc\", \"-Z0\", \"-h\", \"{host}\", \"-U\", \"tester\", \"app\"]\n\
         restore = [\"{bin}/pg_restore\", \"--clean\", \"--if-exists\", \"--exit-on-error\", \"-h\", \"{host}\", \"-U\", \"tester\", \"-d\", \"app\"]\n",
        world.path("repository").display()
    );
    fs::write(folder.join("config.toml"), text).unwrap();
}

#[test]
fn a_postgres_database_is_dumped_and_restored() {
    let Some(binaries) = binaries() else {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "PostgreSQL is not installed");
        println!("skipped: PostgreSQL is not installed");
        return;
    };
    let world = World::new();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let server = Postgres::start(binaries.clone(), world.path("pg"));
    server.expect("createdb", &["app"]);
    server.ask("CREATE TABLE note (id int PRIMARY KEY, text text); INSERT INTO note SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    let sum = "SELECT count(*) || md5(string_agg(text, '' ORDER BY id)) FROM note";
    let before = server.ask(sum);
    configure(&world, &binaries, &server.folder);
    let person = Person::new(&world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
    person.run(&["init"]).expect(0);
    let first = person.run(&["backup", "--source", "app", "--json"]).expect(0).json();
    assert!(first.last().unwrap()["bytes_total"].as_u64().unwrap() > 600_000);

    server.ask("DELETE FROM note WHERE id > 5; CREATE TABLE later (x int)");
    person.run(&["source", "restore", "app"]).expect(0).prints("taken in by");
    assert_eq!(server.ask(sum), before);

    // A dump that breaks off is no snapshot, and the server's reason is said.
    server.ask("ALTER TABLE note RENAME TO other");
    server.expect("psql", &["-d", "postgres", "-c", "ALTER DATABASE app RENAME TO gone"]);
    person
        .run(&["backup", "--source", "app"])
        .expect(1)
        .says("pg_dump failed (exit code 1)")
        .says("\"app\" does not exist");
    assert_eq!(person.run(&["snapshots", "--json"]).expect(0).json().len(), 1);
}
