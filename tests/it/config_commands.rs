//! `lifeboat config`: the interview on a real terminal, what is shown and masked, what is found wrong.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use lifeboat_tests::binary::{Ended, Person, ended};
use lifeboat_tests::world::World;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

struct Newcomer {
    world: World,
    person: Person,
}

impl Newcomer {
    fn new() -> Self {
        let world = World::new();
        let person = Person::new(&world.path("home"));
        Self { world, person }
    }

    fn path(&self, name: &str) -> String {
        self.world.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, text: &str) {
        let folder = self.world.path("home/.config/lifeboat");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.toml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    /// Answers questions on a terminal, each when it is asked.
    fn interview(&self, arguments: &[&str], answers: &[(&str, &str)]) -> Ended {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let inner = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut command = self.person.command(arguments);
        let child = command.stdin(inner()).stdout(Stdio::piped()).stderr(inner()).spawn().unwrap();
        drop(command);
        let mut terminal = File::from(terminal);
        let (mut shown, mut buffer) = (String::new(), [0; 4096]);
        for (question, answer) in answers {
            while !shown.contains(question) {
                let got = terminal
                    .read(&mut buffer)
                    .unwrap_or_else(|e| panic!("{question:?}: {e}; shown: {shown}"));
                shown.push_str(&String::from_utf8_lossy(&buffer[..got]));
            }
            shown.clear();
            terminal.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        ended(child)
    }
}

#[test]
fn an_interview_writes_a_configuration_that_works() {
    let newcomer = Newcomer::new();
    fs::write(newcomer.world.source().join("file"), "content").unwrap();
    let (source, disk, config) =
        (newcomer.path("source"), newcomer.path("disk"), newcomer.path("config/config.toml"));
    let database = newcomer.path("source/app.db");
    rusqlite::Connection::open(&database)
        .unwrap()
        .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .unwrap();
    let answers = [
        ("protected", "relative"),
        ("protected", source.as_str()),
        ("SQLite", database.as_str()),
        ("Where to", "s3://"),
        ("Where to", disk.as_str()),
        ("Whom to tell", ""),
    ];
    let done = newcomer.interview(&["config", "init", "--output", &config], &answers).expect(0);
    assert!(done.out.contains("lifeboat key recovery"), "{}", done.out);
    for file in [&config, &newcomer.path("config/passphrase")] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    newcomer.run(&["-c", &config, "init"]).expect(0);
    newcomer.run(&["-c", &config, "config", "validate"]).expect(0).prints("source databases: 1 database");
    newcomer
        .run(&["-c", &config, "run", "--all"])
        .expect(0)
        .prints("files (manual): ok")
        .prints("databases (manual): ok");
    // What is there is never replaced.
    newcomer.interview(&["config", "init", "--output", &config], &[]).expect(2);
    newcomer.run(&["config", "init"]).expect(2).says("no terminal");
}

#[test]
fn what_is_shown_has_no_secret_in_it() {
    let newcomer = Newcomer::new();
    newcomer.write(
        "passphrase = \"hunter-one\"\n[[destination]]\nname = \"far\"\nurl = \"s3://b/c?region=eu\"\naccess_key_id = \"AKID\"\n\
         secret_access_key = \"hunter-two\"\n[[notify.channel]]\nname = \"a\"\nkind = \"discord\"\n\
         url = \"https://discord.example/hunter-three\"\n",
    );
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let shown = newcomer.run(arguments).expect(0);
        assert!(shown.out.contains("AKID") && shown.out.contains("********"), "{}", shown.out);
        assert!(!shown.out.contains("hunter") && !shown.err.contains("hunter"), "{shown:?}");
    }
    let readable = newcomer.world.path("home/.config/lifeboat/config.toml");
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    newcomer.run(&["config", "show"]).expect(2).says("chmod");
}

#[test]
fn a_validation_names_each_thing_that_is_wrong() {
    let newcomer = Newcomer::new();
    let (disk, source) = (newcomer.path("disk"), newcomer.path("source"));
    let text = format!(
        "[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n[[destination]]\nname = \"gone\"\nurl = \"/not/there/at/all\"\n\
         [[source]]\nname = \"web\"\npaths = [\"{source}\"]\n[[source]]\nname = \"bot\"\nkind = \"sqlite\"\npaths = [\"{source}/*.db\"]\n\
         [[source]]\nname = \"dump\"\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo half; exit 3\"]\n"
    );
    newcomer.write(&text);
    let checked = newcomer.run(&["config", "validate"]).expect_failure();
    for line in [
        "ok     file",
        "ok     destination disk",
        "error  destination gone",
        "ok     source web",
        "error  source bot",
        "error  source dump",
    ] {
        assert!(checked.out.contains(line), "{line} in\n{}", checked.out);
    }
    newcomer.run(&["config", "validate", "--offline"]).expect(0);
    newcomer.write(&text.replace("paths = ", "pahts = "));
    newcomer.run(&["config", "validate"]).expect(2).says("Did you mean `paths`");
}

#[test]
fn the_example_is_printed_whole() {
    let newcomer = Newcomer::new();
    let printed = newcomer.run(&["config", "example"]).expect(0).out;
    newcomer.write(&printed);
    newcomer.run(&["config", "validate", "--offline"]).expect(0);
    let schema = newcomer.run(&["config", "schema"]).expect(0);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    assert!(schema["properties"]["source"].is_object());
}
