//! Files that are given, between ordinary ones: backed up, listed, read back.

use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use lifeboat_providers::memory::MemoryProvider;

use super::*;
use crate::events::Context;
use crate::repository::create::CreateOptions;
use crate::repository::{Directories, Repository};
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{Cipher, SecretKey};
use crate::tree::{EntryKind, Meta};

struct Scene {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = Secret::Key(SecretKey::from_bytes([7; 32]));
        let options = CreateOptions {
            cipher: Cipher::default(),
            purpose: Purpose::KeyFile,
            label: "test".to_owned(),
            cost: Cost::LOWEST,
            pack_bytes: Some(64 << 10),
        };
        let directories = Directories::new(folder.path().join("cache"), folder.path().join("state"));
        let store = Arc::new(MemoryProvider::default());
        let repository = Repository::create(store, &secret, &options, directories).unwrap();
        Self { folder, repository }
    }

    fn path(&self, name: &str) -> Vec<u8> {
        self.folder.path().join(name).as_os_str().as_bytes().to_vec()
    }

    fn run(&self, plan: Plan, guards: Guards) -> Result<Outcome> {
        let options = BackupOptions {
            host: "h".to_owned(),
            source: Some("s".to_owned()),
            guards,
            threads: 2,
            ..BackupOptions::default()
        };
        run(&self.repository, plan, &ExcludeRules::default(), &options, &Context::silent())
    }

    /// The entry at a path of a snapshot.
    fn entry(&self, outcome: &Outcome, path: &[u8]) -> Option<Entry> {
        let index = self.repository.load_catalog().unwrap().index;
        let reader = ChunkReader::new(&self.repository, Arc::new(index));
        let mut entry = outcome.snapshot.as_ref().unwrap().manifest.root().unwrap();
        for name in crate::fetch::walk::components(path) {
            let EntryKind::Directory { content, .. } = &entry.kind else { return None };
            entry = reader.directory(content).unwrap().into_iter().find(|entry| &*entry.name == name)?;
        }
        Some(entry)
    }
}

fn given(path: &[u8], bytes: &[u8]) -> Given {
    Given { path: path.to_vec(), meta: None, bytes: Box::new(Cursor::new(bytes.to_vec())) }
}

#[test]
fn given_files_lie_between_real_ones_and_in_directories_that_are_not_there() {
    let scene = Scene::new();
    let real = scene.folder.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o710)).unwrap();
    std::fs::write(real.join("beside"), "beside").unwrap();
    std::fs::write(real.join("same"), "of the disk").unwrap();
    let mut plan = Plan::new(&[scene.path("real")]).unwrap();
    let original = Meta { mode: 0o640, uid: 7, gid: 8, links: 3, inode: 5, ..Meta::default() };
    plan.give(Given { meta: Some(original), ..given(&scene.path("real/same"), b"given, and longer") })
        .unwrap();
    plan.give(given(&scene.path("real/made/up/new"), b"new")).unwrap();
    plan.give(given(b"/no/such/place/dump", &vec![9; 9 << 20])).unwrap();
    let outcome = scene.run(plan, Guards::default()).unwrap();
    assert_eq!(outcome.errors_total, 0);
    let entry =
        |path: &[u8]| scene.entry(&outcome, path).unwrap_or_else(|| panic!("{}", path.escape_ascii()));
    assert_eq!(entry(&scene.path("real")).meta.mode, 0o710);
    assert_eq!(entry(&scene.path("real/beside")).bytes(), 6);
    let same = entry(&scene.path("real/same"));
    assert_eq!((same.bytes(), same.meta.mode, same.meta.uid, same.meta.links), (17, 0o640, 7, 1));
    assert_eq!(entry(&scene.path("real/made/up")).meta.mode, 0o755);
    assert_eq!(entry(&scene.path("real/made/up/new")).bytes(), 3);
    let dump = entry(b"/no/such/place/dump");
    assert_eq!((dump.bytes(), dump.meta.mode), (9 << 20, 0o600));
    assert_eq!(outcome.summary.files_new, 4);
    let EntryKind::Directory { entries, bytes, .. } = entry(b"/no").kind else { panic!("no directory") };
    assert_eq!((entries, bytes), (3, 9 << 20));
}

#[test]
fn a_way_through_a_file_or_link_of_the_disk_is_made_up() {
    let scene = Scene::new();
    std::fs::write(scene.folder.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", scene.folder.path().join("link")).unwrap();
    let mut plan = Plan::default();
    plan.give(given(&scene.path("file/dump"), b"1")).unwrap();
    plan.give(given(&scene.path("link/dump"), b"22")).unwrap();
    let outcome = scene.run(plan, Guards::default()).unwrap();
    assert_eq!(scene.entry(&outcome, &scene.path("file/dump")).unwrap().bytes(), 1);
    assert_eq!(scene.entry(&outcome, &scene.path("link/dump")).unwrap().bytes(), 2);
}

#[test]
fn a_reader_that_fails_ends_the_run_with_its_own_words() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if std::mem::replace(&mut self.0, false) {
                buffer.fill(1);
                return Ok(buffer.len());
            }
            Err(std::io::Error::other(Error::failed("the dump broke").with_hint("do this")))
        }
    }
    let scene = Scene::new();
    let mut plan = Plan::default();
    plan.give(given(b"/dump/good", b"good")).unwrap();
    plan.give(Given { path: b"/dump/bad".to_vec(), meta: None, bytes: Box::new(Broken(true)) }).unwrap();
    let error = scene.run(plan, Guards::default()).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.hint()), ("the dump broke", Some("do this")));
    assert!(scene.repository.load_history().unwrap().snapshots.is_empty());
}

#[test]
fn paths_in_each_others_way_are_refused() {
    let mut plan = Plan::default();
    plan.give(given(b"/a/b", b"")).unwrap();
    for path in ["/a/b", "/a", "/a/b/c", "/", "relative", "/x/", "/x/../y"] {
        let error = plan.give(given(path.as_bytes(), b"")).unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Usage, "{path}");
    }
    assert_eq!(plan.paths(), [b"/a/b".to_vec()]);
}

#[test]
fn guards_compare_with_the_last_snapshot_of_the_source() {
    let scene = Scene::new();
    let plan = |bytes: usize| {
        let mut plan = Plan::default();
        plan.give(given(b"/dump", &vec![1; bytes])).unwrap();
        plan
    };
    let guards = Guards { bytes_min: Some(10), shrink_max: Some(0.5), expect_all: true };
    assert!(scene.run(plan(9), guards).unwrap_err().to_string().contains("no snapshot was made"));
    scene.run(plan(1000), guards).unwrap();
    let error = scene.run(plan(499), guards).unwrap_err();
    assert!(error.hint().unwrap().contains("lifeboat run s --accept-shrink"), "{error:?}");
    scene.run(plan(500), guards).unwrap();
    scene.run(plan(10), Guards { shrink_max: None, ..guards }).unwrap();
    assert_eq!(scene.repository.load_history().unwrap().snapshots.len(), 3);
}
