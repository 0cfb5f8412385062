//! Sources as they are written, and the mistakes in them.

use super::*;
use crate::config::{ConfigFile, Environment, destination};

fn read(text: &str) -> Result<Vec<Source>> {
    let places = Places::of(&Environment { home: Some("/home/me".into()), ..Environment::default() })?;
    let text = format!("{text}\n[[destination]]\nname = \"disk\"\nurl = \"/mnt\"\n");
    let file = ConfigFile::parse(&text, "c")?;
    let base = Path::new("/etc/lifeboat");
    let destinations = destination::check(file.destination, &places, base, None)?;
    check(file.source, &places, base, &destinations)
}

fn one(fields: &str) -> Result<Source> {
    read(&format!("[[source]]\nname = \"app\"\n{fields}")).map(|mut sources| sources.remove(0))
}

#[test]
fn every_kind_is_read_with_its_defaults() {
    let files = one("paths = \"~/data\"").unwrap();
    assert_eq!(files.kind_word(), "files");
    let SourceKind::Files(kind) = &files.kind else { panic!("{files:?}") };
    assert_eq!(kind.paths, [Path::new("/home/me/data")]);
    assert!(
        files.on_change.is_none()
            && files.guards == Guards { expect_all: true, ..Guards::default() }
            && files.to.is_empty()
    );
    let sqlite = one("kind = \"sqlite\"\npaths = [\"/srv/*.db\"]\non_change = true\nto = \"disk\"").unwrap();
    assert_eq!(sqlite.on_change, Some(OnChange { debounce: DEBOUNCE, minimum_interval: MINIMUM_INTERVAL }));
    let text = "kind = \"command\"\ncommand = [\"pg_dump\"]\nminimum_size = \"1KiB\"\nmaximum_shrink = \"25%\"\ntimeout = \"2h\"";
    let command = one(text).unwrap();
    assert_eq!(command.guards, Guards { bytes_min: Some(1024), shrink_max: Some(0.25), expect_all: true });
    let SourceKind::Command(kind) = &command.kind else { panic!("{command:?}") };
    assert_eq!(
        (kind.file.as_path(), kind.timeout),
        (Path::new("/app.dump"), Some(Duration::from_secs(7200)))
    );
}

#[test]
fn hooks_are_lists_of_words_or_tables() {
    let hooks = one("paths = \"/x\"\n[source.hooks]\nbefore = [[\"stop\", \"it\"]]\n\
        finally = [{ command = [\"start\"], timeout = \"30s\", on_failure = \"error\" }]")
    .unwrap()
    .hooks;
    let before = Hook {
        command: vec!["stop".to_owned(), "it".to_owned()],
        timeout: HOOK_TIMEOUT,
        on_failure: OnFailure::Error,
    };
    assert_eq!(hooks.before, [before]);
    let finally = &hooks.finally[0];
    assert_eq!((finally.timeout, finally.on_failure), (Duration::from_secs(30), OnFailure::Error));
}

#[test]
fn mistakes_name_the_source_and_the_key() {
    let sqlite = "kind = \"sqlite\"\npaths = \"/x\"\n";
    for (fields, words) in [
        ("", "source app: `paths` is missing"),
        ("paths = []", "`paths` is missing"),
        ("paths = \"/x\"\nto = \"cellar\"", "source app: there is no destination cellar"),
        (
            &format!("{sqlite}exclude = \"*.o\""),
            "`exclude` is a key of sources of kind files, and this one is of kind sqlite",
        ),
        ("paths = \"/x\"\ncommand = [\"a\"]", "`command` is a key of sources of kind command"),
        ("kind = \"command\"", "`command` is missing"),
        ("kind = \"command\"\ncommand = []", "`command` names no program"),
        ("kind = \"command\"\ncommand = [\"a\"]\nfile = \"x\"", "no absolute path of a file"),
        ("kind = \"command\"\ncommand = [\"a\"]\nfile = \"/x/../y\"", "no absolute path of a file"),
        ("kind = \"command\"\ncommand = [\"a\"]\non_change = true", "`on_change` watches files"),
        ("kind = \"comand\"", "unknown variant `comand`"),
        ("paths = \"/x\"\nmaximum_shrink = \"half\"", "write \"50%\""),
        ("paths = \"/x\"\non_change = { debounce = \"soon\" }", "no length of time"),
        ("paths = \"/x\"\non_change = \"yes\"", "true, false, or a table"),
        ("paths = \"/x\"\nexclude = \"a[\"", "source app"),
        ("paths = \"/x/[\"", "the pattern /x/["),
        ("paths = \"/x\"\n[source.hooks]\nbefore = [\"systemctl stop\"]", "a list of words"),
        ("paths = \"/x\"\n[source.hooks]\nbefore = [[]]", "`hooks.before` names no program"),
    ] {
        let error = one(fields).unwrap_err().to_string();
        assert!(error.contains(words), "{fields}: {error}");
    }
    let error = one("pahts = \"/x\"").unwrap_err();
    assert_eq!(error.hint(), Some("Did you mean `paths`?"));
    let error = one("paths = \"/x\"\n[source.hooks]\nbefor = []").unwrap_err();
    assert_eq!(error.hint(), Some("Did you mean `before`?"));
}

#[test]
fn names_are_plain_unique_and_no_classes() {
    let named = |name: &str| format!("[[source]]\nname = \"{name}\"\npaths = \"/x\"\n");
    let long = "x".repeat(65);
    for (name, words) in [
        ("a b", "letters, digits"),
        ("", "letters, digits"),
        (&long, "up to 64"),
        ("daily", "name of a class"),
    ] {
        let error = read(&named(name)).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
    }
    assert!(read(&(named("a") + &named("a"))).unwrap_err().to_string().contains("two sources are called a"));
    let error = Source::named(&read(&named("a")).unwrap(), "b").unwrap_err();
    assert_eq!(error.hint(), Some("The configuration has these: a."));
}
