//! The facts survive processes, torn lines and each other's company.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const FOLDER: &str = "Folder-1";

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn plan(id: &str) -> Plan {
    Plan { id: id.to_owned(), size: 7, sha256: Sha256::of(id.as_bytes()) }
}

fn stored(id: &str) -> Option<Entry> {
    Some(Entry::Stored(id.to_owned()))
}

#[test]
fn facts_survive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FOLDER).unwrap();
    let (a, b, c) = (key("packs/a"), key("packs/b"), key("config"));
    state.planned(&a, &plan("a1")).unwrap();
    state.session_began(&plan("a1"), "https://upload/1").unwrap();
    state.planned(&b, &plan("b1")).unwrap();
    state.stored(&b, "b1").unwrap();
    state.stored(&c, "c1").unwrap();
    state.forget(&c, "c1").unwrap();
    state.folder("packs", "f1").unwrap();
    state.folder("packs", "f2").unwrap();
    state.folder_gone("packs", "f1").unwrap();
    drop(state);
    for _ in 0..2 {
        let state = State::open(dir.path(), FOLDER).unwrap();
        assert_eq!(state.entry(&a).unwrap(), Some(Entry::Planned(plan("a1"))));
        assert_eq!(state.session(&plan("a1")).unwrap().as_deref(), Some("https://upload/1"));
        assert_eq!(state.entry(&b).unwrap(), stored("b1"));
        assert_eq!(state.entry(&c).unwrap(), None);
        assert_eq!(state.folders("packs").unwrap(), ["f2"]);
    }
    // Another folder's facts are others.
    assert_eq!(State::open(dir.path(), "Folder-2").unwrap().entry(&b).unwrap(), None);
}

#[test]
fn a_session_serves_the_same_bytes_only_and_ends_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), FOLDER).unwrap();
    let ours = plan("a1");
    state.session_began(&ours, "https://upload/1").unwrap();
    let other_bytes = Plan { sha256: Sha256::of(b"other"), ..ours.clone() };
    let other_size = Plan { size: 8, ..ours.clone() };
    assert_eq!(state.session(&other_bytes).unwrap(), None);
    assert_eq!(state.session(&other_size).unwrap(), None);
    assert!(state.session(&ours).unwrap().is_some());
    state.session_over("a1").unwrap();
    assert_eq!(state.session(&ours).unwrap(), None);
    state.session_began(&ours, "https://upload/2").unwrap();
    state.stored(&key("a"), "a1").unwrap();
    assert_eq!(state.session(&ours).unwrap(), None);
}

#[test]
fn what_is_out_of_date_is_dropped() {
    let mut facts = Facts::default();
    let digest = Sha256::of(b"x").to_string();
    facts.apply_line(&format!(
        r#"{{"fact":"session","id":"a","url":"u","size":7,"sha256":"{digest}","at":1000}}"#
    ));
    facts.apply_line(&format!(
        r#"{{"fact":"planned","name":"n","id":"a","size":7,"sha256":"{digest}","at":1000}}"#
    ));
    let plan = Plan { id: "a".to_owned(), size: 7, sha256: Sha256::of(b"x") };
    let (young, old) = (1000 + SESSION_LIFE.as_secs() - 1, 1000 + SESSION_LIFE.as_secs());
    assert!(facts.session(&plan, young).is_some() && facts.compact(young).len() == 2);
    assert!(facts.session(&plan, old).is_none() && facts.compact(old).is_empty());
    // A clock that was set back makes nothing old.
    assert!(facts.session(&plan, 0).is_some());
}

#[test]
fn two_processes_see_each_others_facts() {
    let dir = tempfile::tempdir().unwrap();
    let one = State::open(dir.path(), FOLDER).unwrap();
    one.stored(&key("a"), "a1").unwrap();
    let other = State::open(dir.path(), FOLDER).unwrap();
    assert_eq!(other.entry(&key("a")).unwrap(), stored("a1"));
    other.stored(&key("a"), "a2").unwrap();
    one.stored(&key("b"), "b1").unwrap();
    for state in [&one, &other] {
        assert_eq!(state.entry(&key("a")).unwrap(), stored("a2"));
        assert_eq!(state.entry(&key("b")).unwrap(), stored("b1"));
    }
    // What was forgotten of an older file does not touch the newer one.
    one.forget(&key("a"), "a1").unwrap();
    one.removed(&key("a"), "a0").unwrap();
    assert_eq!(other.entry(&key("a")).unwrap(), stored("a2"));
    assert!(other.was_removed("a0").unwrap() && !other.was_removed("a1").unwrap());
}

#[test]
fn torn_and_foreign_lines_spoil_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("drive-{FOLDER}.jsonl"));
    fs::write(&path, b"{\"fact\":\"stored\",\"name\":\"a\",\"id\":\"a1\"}\nnonsense\n\xff\xfe\n{}\n{\"fact\":\"stored\",\"name\":\"b\",\"id\":\"../b\"}\n{\"fact\":\"sto")
        .unwrap();
    let state = State::open(dir.path(), FOLDER).unwrap();
    assert_eq!(state.entry(&key("a")).unwrap(), stored("a1"));
    assert_eq!(state.entry(&key("b")).unwrap(), None);
    // Torn while it is open: by another process that was killed.
    fs::File::options().append(true).open(&path).unwrap().write_all(b"{\"fact\":\"stor").unwrap();
    assert_eq!(state.entry(&key("a")).unwrap(), stored("a1"));
    state.stored(&key("c"), "c1").unwrap();
    assert_eq!(state.entry(&key("c")).unwrap(), stored("c1"));
}

#[test]
fn it_is_short_again_when_it_is_opened_alone_and_always_private() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("made/on/demand");
    let path = inner.join(format!("drive-{FOLDER}.jsonl"));
    let state = State::open(&inner, FOLDER).unwrap();
    for number in 0..500 {
        state.stored(&key("a"), &format!("a{number}")).unwrap();
    }
    let long = fs::metadata(&path).unwrap().len();
    let second = State::open(&inner, FOLDER).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), long, "it was shortened while in use");
    drop((state, second));
    let state = State::open(&inner, FOLDER).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 100);
    assert_eq!(state.entry(&key("a")).unwrap(), stored("a499"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_place_that_cannot_be_used_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let error = State::open(&file.join("below"), FOLDER).unwrap_err();
    assert!(error.to_string().contains("a-file"), "{error}");
}
