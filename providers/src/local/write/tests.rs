//! How a temporary file gets its name, where somebody may be faster by an instant.

use std::sync::Arc;

use rustix::fs::{AtFlags, linkat};

use super::{Temp, Writer, ancestors};
use crate::local::root::Root;
use crate::{Body, ErrorKind, Key, PutMode, Sha256};

/// Both ways of naming: a rename that does not replace, and a hard link.
fn each_way(case: impl Fn(&Writer, &std::path::Path)) {
    for has_rename_new in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let writer = Writer::new(Arc::new(Root::create(&path).unwrap()));
        case(&if has_rename_new { writer } else { writer.without_rename_new() }, &path);
    }
}

#[test]
fn name_that_is_free_is_taken_once() {
    each_way(|writer, path| {
        let root = writer.root.open_folder("").unwrap();
        let key = Key::new("one").unwrap();
        for winner in [true, false] {
            let mut temp = Temp::create(&writer.root).unwrap();
            assert_eq!(writer.name_new(&mut temp, &root, "one", &key).unwrap(), winner);
        }
        assert!(path.join("one").exists());
        assert_eq!(std::fs::read_dir(path.join(".tmp")).unwrap().count(), 0);
    });
}

#[test]
fn name_that_another_took_stays_theirs() {
    each_way(|writer, path| {
        let root = writer.root.open_folder("").unwrap();
        std::fs::write(path.join("one"), "theirs").unwrap();
        let mut temp = Temp::create(&writer.root).unwrap();
        assert!(!writer.name_new(&mut temp, &root, "one", &Key::new("one").unwrap()).unwrap());
        assert_eq!(std::fs::read(path.join("one")).unwrap(), b"theirs");
    });
}

/// A file server links the file, its answer is lost, and the repeated call says that the name is taken.
#[test]
fn link_whose_answer_was_lost_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::create(&folder.path().join("store")).unwrap();
    let writer = Writer::new(Arc::new(root)).without_rename_new();
    let root = writer.root.open_folder("").unwrap();
    let mut temp = Temp::create(&writer.root).unwrap();
    linkat(&temp.folder, temp.name.as_str(), &root, "one", AtFlags::empty()).unwrap();
    assert!(writer.name_new(&mut temp, &root, "one", &Key::new("one").unwrap()).unwrap());
}

#[test]
fn ancestors_go_up_to_the_root() {
    assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b", "a", ""]);
    assert_eq!(ancestors("a").collect::<Vec<_>>(), [""]);
    assert_eq!(ancestors("").count(), 0);
}

/// No acknowledged name may be lost with the power: each changed folder is synced, and those above it until they
/// are known to be on the disk.
#[test]
fn changed_folders_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::new(Arc::new(Root::create(&folder.path().join("store")).unwrap()));
    let key = |name: &str| Key::new(name).unwrap();
    let put = |name: &str, mode| {
        writer.put(&key(name), &Body::from(vec![1]), Sha256::of(&[1]), mode).map_err(|error| error.kind())
    };
    let synced = || std::mem::take(&mut *writer.synced.lock());

    put("packs/3f/one", PutMode::CreateNew).unwrap();
    assert_eq!(synced(), ["packs/3f", "packs", ""], "a folder that is new");
    put("packs/3f/two", PutMode::Replace).unwrap();
    assert_eq!(synced(), ["packs/3f"], "a folder that is known");
    put("config", PutMode::CreateNew).unwrap();
    assert_eq!(synced(), [""], "the root");
    assert_eq!(put("packs/3f/one", PutMode::CreateNew), Err(ErrorKind::Exists));
    assert_eq!(synced(), ["packs/3f", "packs", ""], "what another writer may not have synced yet");
    writer.delete(&key("config")).unwrap();
    assert_eq!(synced(), [""], "a removal");
    writer.delete(&key("config")).unwrap();
    assert_eq!(synced(), Vec::<String>::new(), "nothing changed");
    for name in ["packs/3f/three", "packs/4a/four", "packs/4a/five"] {
        put(name, PutMode::CreateNew).unwrap();
    }
    synced();
    let keys = ["packs/3f/one", "packs/4a/four", "packs/3f/none", "packs/3f/two", "packs/4a/five"].map(key);
    assert!(writer.delete_many(&keys).iter().all(Result::is_ok));
    assert_eq!(synced(), ["packs/4a", "packs/3f"], "a batch, each folder once");
}
