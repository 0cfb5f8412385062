//! Which temporary files are swept, and which never.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::{Writer, host, temp_name};
use crate::local::LocalProvider;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A process id that was in use and is not any more.
fn dead_process() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn names_say_whose_they_are() {
    let name = temp_name();
    let process = std::process::id() as i32;
    assert_eq!(Writer::parse(&name), Some(Writer { host: host(), process }));
    assert_ne!(temp_name(), name);
    assert!(!Writer::parse(&name).unwrap().is_dead());
    for foreign in [
        "",
        ".",
        "..",
        ".x",
        ".nfs0000",
        "0123456789abcdef-1-0",
        ".0123456789abcdef-1",
        ".short-1-0",
        ".0123456789abcdef-1-0-0",
    ] {
        assert_eq!(Writer::parse(foreign), None, "{foreign}");
    }
}

#[test]
fn only_what_is_stale_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    LocalProvider::create(&root).unwrap();
    let (dead, alive, other_host) = (dead_process(), std::process::id(), "0123456789abcdef");
    let files = [
        // name, age, swept
        (format!(".{}-{dead}-1", host()), Duration::ZERO, true),
        (format!(".{}-{alive}-2", host()), Duration::ZERO, false),
        (format!(".{}-{alive}-3", host()), DAY * 2, true),
        (format!(".{other_host}-{dead}-4"), Duration::ZERO, false),
        (format!(".{other_host}-{dead}-5"), DAY - Duration::from_secs(600), false),
        (format!(".{other_host}-{dead}-6"), DAY + Duration::from_secs(600), true),
        (".something-else".to_owned(), DAY * 9, false),
        ("notes.txt".to_owned(), DAY * 9, false),
    ];
    for (name, age, _) in &files {
        let file = File::create(root.join(".tmp").join(name)).unwrap();
        file.set_modified(SystemTime::now() - *age).unwrap();
    }
    LocalProvider::open(&root).unwrap();
    for (name, _, swept) in &files {
        assert_eq!(!root.join(".tmp").join(name).exists(), *swept, "{name}");
    }
    assert_eq!(std::fs::read_dir(root.join(".tmp")).unwrap().count(), 5);
}
