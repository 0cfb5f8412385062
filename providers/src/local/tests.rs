//! The local store under attack and in trouble: links, damage, full disks, killed processes.

use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::root::Root;
use super::write::Writer;
use super::{LocalProvider, Step};
use crate::conformance::{self, Options};
use crate::{
    Body, ErrorKind, Key, Prefix, Provider, ProviderExt as _, PutMode, Receipt, Result, Sha256,
    SharedProvider,
};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn store() -> (TempDir, LocalProvider) {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalProvider::create(&folder.path().join("store")).unwrap();
    (folder, store)
}

/// The store as it is on kernels without `openat2` and file systems that cannot rename without replacing.
fn plain_store() -> (TempDir, LocalProvider) {
    let folder = tempfile::tempdir().unwrap();
    let root = Arc::new(Root::create(&folder.path().join("store")).unwrap().without_openat2());
    let writer = Arc::new(Writer::new(root.clone()).without_rename_new());
    (folder, LocalProvider { root, writer, buffers: Arc::default() })
}

async fn put(store: &LocalProvider, name: &str, text: &str, mode: PutMode) -> Result<Receipt> {
    let body = Body::from(Bytes::from(text.to_owned()));
    let digest = body.sha256();
    store.put(&key(name), body, digest, mode).await
}

/// Everything below the folder, temporary files included.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Only root can give files away: for others this is a store of their own.
#[tokio::test(flavor = "multi_thread")]
async fn what_root_puts_into_somebody_elses_store_is_theirs() {
    let (folder, _) = store();
    let root = folder.path().join("store");
    let is_root = rustix::process::geteuid().is_root();
    let own = std::fs::metadata(&root).unwrap();
    let theirs = if is_root { (4711, 4712) } else { (own.uid(), own.gid()) };
    if is_root {
        std::os::unix::fs::chown(&root, Some(theirs.0), Some(theirs.1)).unwrap();
        std::fs::remove_dir(root.join(".tmp")).unwrap();
    }
    let store = LocalProvider::open(&root).unwrap();
    put(&store, "packs/3f/one", "text", PutMode::CreateNew).await.unwrap();
    put(&store, "packs/3f/one", "other", PutMode::Replace).await.unwrap();
    for path in [".tmp", "packs", "packs/3f", "packs/3f/one"] {
        let found = std::fs::metadata(root.join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), theirs, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_passes_the_suite_and_leaves_nothing() {
    for (folder, store) in [store(), plain_store()] {
        let store: SharedProvider = Arc::new(store);
        let report = conformance::run(store.clone(), Options::default()).await;
        assert!(report.passed(), "{report}");
        assert_eq!(report.left_behind, Vec::<String>::new());
        // Nor what the puts bring that the suite abandons, nor folders.
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
        let kept: Vec<_> = std::fs::read_dir(folder.path().join("store")).unwrap().flatten().collect();
        assert_eq!(kept.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), [".tmp"]);
    }
}

#[tokio::test]
async fn files_and_folders_are_private() {
    let (folder, store) = store();
    put(&store, "packs/3f/one", "text", PutMode::CreateNew).await.unwrap();
    let root = folder.path().join("store");
    for (path, mode) in
        [("", 0o700), (".tmp", 0o700), ("packs", 0o700), ("packs/3f", 0o700), ("packs/3f/one", 0o600)]
    {
        let found = std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{path:?} has mode {found:o}");
    }
}

#[tokio::test]
async fn root_errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let kind = |result: Result<LocalProvider>| result.unwrap_err().kind();
    assert_eq!(kind(LocalProvider::open(&folder.path().join("none"))), ErrorKind::NotFound);
    assert_eq!(kind(LocalProvider::open(&file)), ErrorKind::Misconfigured);
    assert_eq!(kind(LocalProvider::create(&file)), ErrorKind::Misconfigured);
    let missing = LocalProvider::create(&folder.path().join("not/mounted")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Misconfigured);
    assert!(missing.to_string().contains("mount"), "{missing}");
}

/// The user may reach the root by a link; `create` of what is there opens it.
#[tokio::test]
async fn root_may_be_reached_by_a_link() {
    let (folder, store) = store();
    put(&store, "one", "text", PutMode::CreateNew).await.unwrap();
    symlink(folder.path().join("store"), folder.path().join("link")).unwrap();
    for store in [
        LocalProvider::open(&folder.path().join("link")),
        LocalProvider::create(&folder.path().join("store")),
    ] {
        assert_eq!(store.unwrap().get(&key("one"), None).await.unwrap(), "text");
    }
}

#[tokio::test]
async fn links_in_the_store_are_never_followed() {
    for (folder, store) in [store(), plain_store()] {
        let (root, outside) = (folder.path().join("store"), folder.path().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        put(&store, "packs/3f/one", "text", PutMode::CreateNew).await.unwrap();
        symlink(&outside, root.join("packs/aa")).unwrap();
        symlink(&outside, root.join("index")).unwrap();
        symlink("../packs", root.join("packs/up")).unwrap();
        symlink(outside.join("secret"), root.join("packs/3f/two")).unwrap();
        symlink(outside.join("new"), root.join("packs/3f/dangling")).unwrap();

        for name in
            ["packs/aa/secret", "index/secret", "packs/up/3f/one", "packs/3f/two", "packs/3f/dangling"]
        {
            let key = key(name);
            let denied = |error: crate::Error| {
                assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
                assert!(error.to_string().contains("symbolic link"), "{error}");
            };
            denied(store.get(&key, None).await.unwrap_err());
            denied(store.head(&key).await.unwrap_err());
            denied(store.delete(&key).await.unwrap_err());
            denied(put(&store, name, "evil", PutMode::CreateNew).await.unwrap_err());
            denied(put(&store, name, "evil", PutMode::Replace).await.unwrap_err());
        }
        let in_link = put(&store, "index/deep/er", "evil", PutMode::CreateNew).await.unwrap_err();
        assert_eq!(in_link.kind(), ErrorKind::Denied, "{in_link}");
        assert_eq!(
            store.list_all(&Prefix::folder("index").unwrap()).await.unwrap_err().kind(),
            ErrorKind::Denied
        );

        let listed = store.list_all(&Prefix::all()).await.unwrap();
        assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["packs/3f/one"]);
        assert_eq!(files(&outside), [outside.join("secret")]);
        assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        assert_eq!(files(&root.join(".tmp")), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn temporary_folder_that_is_a_link_is_refused() {
    let (folder, store) = store();
    let root = folder.path().join("store");
    std::fs::remove_dir(root.join(".tmp")).unwrap();
    symlink(folder.path(), root.join(".tmp")).unwrap();
    let error = put(&store, "one", "text", PutMode::CreateNew).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn what_is_no_object_is_left_out_of_listings() {
    let (folder, store) = store();
    let root = folder.path().join("store");
    put(&store, "packs/one", "text", PutMode::CreateNew).await.unwrap();
    for name in ["lost+found", ".hidden"] {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("file"), "").unwrap();
    }
    for name in [".tmp/.leftover", "README.TXT", "packs/.nfs0001", "packs/ümlaut"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    assert!(Command::new("mkfifo").arg(root.join("packs/fifo")).status().unwrap().success());
    let listed = store.list_all(&Prefix::all()).await.unwrap();
    assert_eq!(listed.iter().map(|info| info.key.as_str()).collect::<Vec<_>>(), ["packs/one"]);
    // Reading a pipe that nobody writes to must not hang.
    assert_eq!(store.get(&key("packs/fifo"), None).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn folder_that_cannot_be_read_breaks_the_listing() {
    let (folder, store) = store();
    put(&store, "packs/one", "text", PutMode::CreateNew).await.unwrap();
    let packs = folder.path().join("store/packs");
    std::fs::set_permissions(&packs, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(&packs).is_ok() {
        eprintln!("skipped: permissions mean nothing to root");
        return;
    }
    assert_eq!(store.list_all(&Prefix::all()).await.unwrap_err().kind(), ErrorKind::Denied);
}

/// What the disk gives back differs from what was written: no receipt, no object, no temporary file.
#[tokio::test]
async fn damage_on_the_disk_is_noticed_before_the_object_exists() {
    let flip = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"X", 2).unwrap();
    };
    let shorten = |path: &Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_len(3).unwrap();
    };
    let lengthen = |path: &Path| {
        std::fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap();
    };
    for damage in [flip as fn(&Path), shorten, lengthen] {
        for step in [Step::Written, Step::Synced] {
            let (folder, store) = store();
            put(&store, "old", "old text", PutMode::CreateNew).await.unwrap();
            let store = store.with_step_hook(Arc::new(move |at, path| {
                if at == step {
                    damage(path);
                }
            }));
            for (name, mode) in [("old", PutMode::Replace), ("new", PutMode::CreateNew)] {
                let error = put(&store, name, "new text", mode).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.to_string().contains("the disk gave back other bytes"), "{error}");
            }
            assert_eq!(store.get(&key("old"), None).await.unwrap(), "old text");
            assert_eq!(files(folder.path()), [folder.path().join("store/old")]);
        }
    }
}

#[tokio::test]
async fn every_put_goes_through_every_step() {
    let (folder, store) = store();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let store = {
        let (seen, root) = (seen.clone(), folder.path().join("store"));
        store.with_step_hook(Arc::new(move |step, path| {
            let published = root.join("a/b").exists();
            seen.lock().push((step, published));
            assert!(path.exists(), "no file at {}", path.display());
        }))
    };
    put(&store, "a/b", "text", PutMode::CreateNew).await.unwrap();
    let expected: Vec<_> = Step::ALL.into_iter().map(|step| (step, step >= Step::Published)).collect();
    assert_eq!(*seen.lock(), expected);
}

/// Somebody else creates the object while ours is being written: theirs stays, ours is refused.
#[tokio::test]
async fn create_new_loses_to_whoever_publishes_first() {
    for (folder, store) in [store(), plain_store()] {
        let path = folder.path().join("store/one");
        let writer = Writer::new(store.root.clone()).with_hook(Arc::new(move |step, _| {
            if step == Step::Proved {
                std::fs::write(&path, "theirs").unwrap();
            }
        }));
        let body = Body::from(Bytes::from_static(b"ours"));
        let digest = body.sha256();
        let error = writer.put(&key("one"), &body, digest, PutMode::CreateNew).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(store.get(&key("one"), None).await.unwrap(), "theirs");
        assert_eq!(files(&folder.path().join("store/.tmp")), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn object_that_was_cut_short_is_corrupt_where_it_is_missing() {
    let (folder, store) = store();
    put(&store, "one", "0123456789", PutMode::CreateNew).await.unwrap();
    let path = folder.path().join("store/one");
    std::fs::File::options().write(true).open(path).unwrap().set_len(5).unwrap();
    assert_eq!(store.get(&key("one"), Some(0..5)).await.unwrap(), "01234");
    assert_eq!(store.get(&key("one"), Some(4..6)).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A file system of 1 MiB, gone when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "none"]).arg(folder.path());
        mount.stdout(Stdio::null()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.path().display());
    }
}

#[tokio::test]
async fn full_disk_is_quota_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: mounting a small file system is not permitted here");
        return;
    };
    let store = LocalProvider::create(&disk.0.path().join("store")).unwrap();
    assert_eq!(store.usage().await.unwrap().limit_bytes, Some(1 << 20));
    let mut stored = 0;
    let error = loop {
        let body = Body::from(vec![stored as u8; 300_000]);
        let digest = body.sha256();
        match store.put(&key(&format!("packs/{stored}")), body, digest, PutMode::CreateNew).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    assert_eq!(stored, 3);
    let listed = store.list_all(&Prefix::all()).await.unwrap();
    assert_eq!(listed.len(), 3);
    for info in &listed {
        let bytes = store.get(&info.key, None).await.unwrap();
        let digest = Sha256::of(&vec![bytes[0]; 300_000]);
        store.get_verified(&info.key, digest).await.unwrap();
    }
    assert_eq!(files(&disk.0.path().join("store/.tmp")), Vec::<PathBuf>::new());
    // Space that was made can be used.
    store.delete(&key("packs/0")).await.unwrap();
    put(&store, "packs/0", "small", PutMode::CreateNew).await.unwrap();
}

#[tokio::test]
async fn read_only_disk_can_be_read() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: mounting a small file system is not permitted here");
        return;
    };
    let path = disk.0.path().join("store");
    put(&LocalProvider::create(&path).unwrap(), "one", "text", PutMode::CreateNew).await.unwrap();
    std::fs::write(path.join(".tmp/.0123456789abcdef-1-0"), "left behind").unwrap();
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status();
    assert!(remount.unwrap().success());
    let store = LocalProvider::open(&path).unwrap();
    assert_eq!(store.get(&key("one"), None).await.unwrap(), "text");
    for result in [
        put(&store, "two", "text", PutMode::CreateNew).await.map(|_| ()),
        put(&store, "one", "text", PutMode::Replace).await.map(|_| ()),
        store.delete(&key("one")).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("read-only"), "{error}");
    }
}

/// The process is killed at every step of a put: the object is there whole or not at all, and the next opening
/// sweeps what it left.
#[tokio::test]
async fn killed_at_every_step() {
    for step in Step::ALL {
        for mode in ["create", "replace"] {
            let (folder, store) = store();
            if mode == "replace" {
                put(&store, "packs/3f/one", "old text", PutMode::CreateNew).await.unwrap();
            }
            let root = folder.path().join("store");
            killed_child(&format!("{}\n{step:?}\n{mode}", root.display()));
            let left = files(&root.join(".tmp")).len();
            assert_eq!(left, usize::from(step < Step::Published), "{step:?}");

            let store = LocalProvider::open(&root).unwrap();
            assert_eq!(files(&root.join(".tmp")), Vec::<PathBuf>::new(), "not swept after {step:?}");
            let found = store.get(&key("packs/3f/one"), None).await;
            match (step >= Step::Published, mode) {
                (true, _) => assert_eq!(found.unwrap(), "new text"),
                (false, "replace") => assert_eq!(found.unwrap(), "old text"),
                (false, _) => assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound),
            }
            let again = put(&store, "packs/3f/one", "new text", PutMode::Replace).await;
            assert_eq!(again.unwrap().size, 8);
        }
    }
}

/// Runs [`child_that_is_killed`] in a process of its own, which must die.
fn killed_child(order: &str) {
    use std::io::Write as _;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local::tests::child_that_is_killed", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(order.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child was not killed: {status}");
}

#[tokio::test]
#[ignore = "run by killed_at_every_step, with its order on standard input"]
async fn child_that_is_killed() {
    let mut order = String::new();
    std::io::stdin().read_to_string(&mut order).unwrap();
    let [root, step, mode] = order.lines().collect::<Vec<_>>()[..] else { return };
    let (step, mode) =
        (step.to_owned(), if mode == "create" { PutMode::CreateNew } else { PutMode::Replace });
    let hook = Arc::new(move |at: Step, _: &Path| {
        if format!("{at:?}") == step {
            std::process::abort();
        }
    });
    let store = LocalProvider::open(Path::new(root)).unwrap().with_step_hook(hook);
    put(&store, "packs/3f/one", "new text", mode).await.unwrap();
}
