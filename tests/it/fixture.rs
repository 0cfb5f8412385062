//! The frozen repositories below `fixtures/repository/v1`: every later version restores them. See the README there.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lifeboat_agent::browse::walk::{Next, Seen, walk};
use lifeboat_agent::events::Context;
use lifeboat_agent::fetch::ChunkReader;
use lifeboat_agent::pack::directory::{Codec, PackKind};
use lifeboat_agent::repository::create::CreateOptions;
use lifeboat_agent::repository::{Area, Repository, layout, slots};
use lifeboat_agent::restore::{self, RestoreOptions, Selection};
use lifeboat_agent::seal::slot::{Cost, Purpose, Secret};
use lifeboat_agent::seal::{Cipher, SecretKey};
use lifeboat_agent::tree::EntryKind;
use lifeboat_agent::{backup, check};
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::{Tree, see};
use lifeboat_tests::world::World;
use lifeboat_tests::{grow, proof, world};
use rustix::fs::{CWD, FileType, Mode};
use zeroize::Zeroizing;

const PASSPHRASE: &str = "correct horse battery staple";
/// Where the source lay when the fixtures were made.
const SOURCE: &str = "/tmp/lifeboat-fixture-source";
const CIPHERS: [(Cipher, &str); 2] =
    [(Cipher::XChaCha20Poly1305, "xchacha20-poly1305"), (Cipher::Aes256Gcm, "aes-256-gcm")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repository/v1")
}

fn passphrase() -> Secret {
    Secret::Passphrase(Zeroizing::new(PASSPHRASE.to_owned()))
}

fn key() -> Secret {
    Secret::Key(SecretKey::parse(&fs::read_to_string(folder().join("key")).unwrap()).unwrap())
}

/// A copy: opening a store may sweep it, and the original is never touched.
fn open(world: &World, name: &str, secret: &Secret) -> Repository {
    let copy = world.path(name);
    if !copy.exists() {
        let done = Command::new("cp").arg("-r").arg(folder().join(name)).arg(&copy).status().unwrap();
        assert!(done.success());
    }
    Repository::open(Arc::new(LocalProvider::open(&copy).unwrap()), secret, world.machine("fixture")).unwrap()
}

/// The expected tree as lines: what cannot be restored here (owners without root …) is compared by content alone.
fn expected(number: usize) -> String {
    fs::read_to_string(folder().join(format!("expected-{number}.txt"))).unwrap()
}

fn describe(tree: &Tree) -> String {
    let mut text = String::new();
    for (path, seen) in &tree.0 {
        let content: String = seen.content.iter().map(|byte| format!("{byte:02x}")).collect();
        let xattrs: Vec<String> = seen
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        text.push_str(&format!(
            "{}\t{}\t{:o}\t{}:{}\t{}.{:09}\t{}\t{:x}\t{}\t{}\t{}\n",
            path.escape_ascii(),
            seen.kind,
            seen.mode,
            seen.owner.0,
            seen.owner.1,
            seen.mtime.0,
            seen.mtime.1,
            seen.size,
            seen.device,
            content,
            seen.same_as.as_deref().unwrap_or_default().escape_ascii(),
            xattrs.join(" "),
        ));
    }
    text
}

/// Name, kind, size and content of each line alone.
fn contents(text: &str) -> Vec<Vec<&str>> {
    let field = |line: &'static [usize]| line;
    let wanted = field(&[0, 1, 5, 7]);
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            wanted.iter().map(|at| fields[*at]).collect()
        })
        // Devices need root.
        .filter(|fields: &Vec<&str>| !fields[1].ends_with("device"))
        .collect()
}

#[test]
fn the_frozen_repositories_are_restored() {
    for (cipher, name) in CIPHERS {
        for (how, secret) in [("passphrase", passphrase()), ("key", key())] {
            let world = World::new();
            let repository = open(&world, name, &secret);
            assert_eq!(repository.config().cipher, cipher);
            let history = repository.load_history().unwrap();
            assert_eq!(history.snapshots.len(), 3, "{name}");
            for (number, snapshot) in history.snapshots.iter().enumerate() {
                let target = world.path(&format!("{how} {number}"));
                let options = RestoreOptions::into_directory(target.clone());
                let silent = Context::silent();
                let outcome =
                    restore::run(&repository, snapshot, None, &Selection::default(), &options, &silent)
                        .unwrap();
                let restored = describe(&see(&target.join(SOURCE.trim_start_matches('/'))));
                if grow::is_root() {
                    outcome.verdict().unwrap();
                    assert_eq!(restored, expected(number), "{name} by {how}, snapshot {number}");
                } else {
                    assert_eq!(
                        contents(&restored),
                        contents(&expected(number)),
                        "{name} by {how}, snapshot {number}"
                    );
                }
            }
            proof::assert_whole(&repository, name);
        }
    }
}

#[test]
fn the_frozen_repositories_are_read_by_the_independent_reader() {
    let Some(python) = super::reader::python() else { return };
    for (_, name) in CIPHERS {
        let world = World::new();
        let out = world.path("out");
        let arguments: [&Path; 4] = ["restore".as_ref(), &folder().join(name), "latest".as_ref(), &out];
        super::reader::succeeded(&super::reader::read(&python, Some(PASSPHRASE), &arguments));
        let restored = describe(&see(&out.join(SOURCE.trim_start_matches('/'))));
        assert_eq!(contents(&restored), contents(&expected(2)), "{name}");
    }
}

/// Backing up into a frozen repository works and stores nothing twice.
#[test]
fn the_frozen_repositories_can_be_written_to() {
    for (_, name) in CIPHERS {
        let world = World::new();
        let repository = open(&world, name, &key());
        let before = repository.load_history().unwrap().snapshots.len();
        grow::grow(&world.source(), 10, &mut Random::new(1));
        world::backup_all(&repository, &world.source());
        assert_eq!(repository.load_history().unwrap().snapshots.len(), before + 1);
        proof::assert_whole(&repository, name);
    }
}

/// Every feature of the format that this version writes occurs in the fixtures.
#[test]
fn the_frozen_repositories_are_complete() {
    for (_, name) in CIPHERS {
        let world = World::new();
        let repository = open(&world, name, &key());
        let found = features(&repository);
        let wanted = [
            "area forgotten",
            "area index",
            "area keys",
            "area meta",
            "area packs",
            "area snapshots",
            "codec raw",
            "codec zstd",
            "content hole",
            "content level 0",
            "content level 1",
            "directory of several nodes",
            "empty file",
            "entry block device",
            "entry character device",
            "entry directory",
            "entry fifo",
            "entry file",
            "entry socket",
            "entry symlink",
            "hard link",
            "name not UTF-8",
            "negative time",
            "second writer",
            "several packs",
            "slot key file",
            "slot passphrase",
            "slot recovery key",
            "tags",
            "user names",
            "xattrs",
        ];
        let missing: Vec<_> = wanted.iter().filter(|feature| !found.contains(**feature)).collect();
        assert!(missing.is_empty(), "{name} has no {missing:?}; it has {found:?}");
    }
}

fn features(repository: &Repository) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for area in Area::ALL {
        let count = repository.store().list(&area.prefix()).unwrap().len();
        if count > 0 {
            found.insert(format!("area {}", area.name()));
        }
        if area == Area::Packs && count > 1 {
            found.insert("several packs".to_owned());
        }
    }
    for slot in slots::list(repository.store(), repository.id()).unwrap().0 {
        found.insert(format!("slot {}", slot.purpose));
    }
    for kind in [PackKind::Data, PackKind::Metadata] {
        for info in repository.store().list(&Area::of_packs(kind).prefix()).unwrap() {
            let id = layout::sha256_of(&info.key).unwrap();
            for segment in repository.read_pack_entry(kind, &id, info.size).unwrap().directory.segments {
                found.insert(if segment.codec == Codec::Raw { "codec raw" } else { "codec zstd" }.to_owned());
            }
        }
    }
    let history = repository.load_history().unwrap();
    let reader = ChunkReader::new(repository, Arc::new(repository.load_catalog().unwrap().index));
    for snapshot in &history.snapshots {
        let manifest = &snapshot.manifest;
        let mut when = |condition: bool, what: &str| {
            if condition {
                found.insert(what.to_owned());
            }
        };
        when(!manifest.heads.is_empty(), "second writer");
        when(!manifest.tags.is_empty(), "tags");
        let look = &mut |seen: &Seen<'_>| {
            let (path, entry) = (seen.path, seen.entry);
            when(std::str::from_utf8(path).is_err(), "name not UTF-8");
            when(!entry.meta.xattrs.is_empty(), "xattrs");
            when(entry.meta.links > 1, "hard link");
            when(entry.meta.mtime.seconds < 0, "negative time");
            when(true, &format!("entry {}", kind_of(&entry.kind)));
            if let Some(content) = entry.content() {
                when(true, &format!("content level {}", content.level));
                when(entry.is_file() && entry.bytes() == 0, "empty file");
                when(content.extents.iter().any(|extent| extent.id.is_none()), "content hole");
                if entry.is_directory() {
                    let mut nodes = 0;
                    reader.for_each_node(content, &mut |node| {
                        nodes += 1;
                        when(!node.users.is_empty(), "user names");
                        Ok(())
                    })?;
                    when(nodes > 1, "directory of several nodes");
                }
            }
            Ok(Next::Descend)
        };
        let root = manifest.root().unwrap();
        let content = root.content().unwrap();
        let silent = Context::silent();
        walk(&reader, &silent, &mut Vec::new(), content, look, &mut |_, e| Err(e)).unwrap();
    }
    found
}

fn kind_of(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory { .. } => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
    }
}

/// Not a test: makes frozen repositories, for a new version of the format: those that are there stay as they are. Needs root, for devices.
#[test]
#[ignore = "writes fixtures/repository/v1"]
fn make_it_anew() {
    assert!(grow::is_root(), "devices and owners need root");
    assert!(!folder().exists(), "what is frozen is never written again");
    fs::create_dir_all(folder()).unwrap();
    fs::write(folder().join("key"), "# The key of a fixture: it opens nothing else.\n").unwrap();
    let text = SecretKey::from_bytes([0x42; 32]).to_text();
    fs::File::options().append(true).open(folder().join("key")).unwrap().write_all(text.as_bytes()).unwrap();
    for (cipher, name) in CIPHERS {
        let _ = fs::remove_dir_all(SOURCE);
        make(cipher, &folder().join(name));
    }
    fs::remove_dir_all(SOURCE).unwrap();
}

fn make(cipher: Cipher, place: &Path) {
    let world = World::new();
    let source = Path::new(SOURCE);
    let options = CreateOptions {
        cipher,
        purpose: Purpose::KeyFile,
        label: "key file".to_owned(),
        cost: Cost::LOWEST,
        pack_bytes: Some(64 << 10),
    };
    let provider = Arc::new(LocalProvider::create(place).unwrap());
    let repository = Repository::create(provider.clone(), &key(), &options, world.machine("one")).unwrap();
    repository.add_slot(&passphrase(), Purpose::Passphrase, "", Cost::LOWEST).unwrap();
    let paper = Secret::Key(SecretKey::from_bytes([0x43; 32]));
    repository.add_slot(&paper, Purpose::Recovery, "päper", Cost::LOWEST).unwrap();
    fill(source);
    let run = |repository: &Repository, tag: &str, number: usize| {
        let plan = backup::Plan::new(&[SOURCE.as_bytes().to_vec()]).unwrap();
        let options = backup::BackupOptions {
            tags: vec![tag.to_owned()],
            source: Some("fixture".to_owned()),
            ..world::options()
        };
        let outcome =
            backup::run(repository, plan, &Default::default(), &options, &Context::silent()).unwrap();
        fs::write(folder().join(format!("expected-{number}.txt")), describe(&see(source))).unwrap();
        outcome.snapshot.unwrap()
    };
    let gone = run(&repository, "to be forgotten", 0);
    run(&repository, "first", 0);
    repository.forget(&[&gone], "test").unwrap();
    fs::write(source.join("later"), "came with the second snapshot").unwrap();
    grow::set_mtime(&source.join("later"), 1_700_000_001, 1);
    grow::set_mtime(source, 1_700_000_002, 2);
    let other = Repository::open(provider, &passphrase(), world.machine("two")).unwrap();
    run(&other, "of another writer", 1);
    fs::remove_file(source.join("later")).unwrap();
    grow::set_mtime(source, 1_700_000_003, 3);
    run(&repository, "last", 2);
    let report = check::run(&repository, &Default::default(), &Context::silent()).unwrap();
    report.verdict().unwrap();
    let _ = fs::remove_dir(place.join(".tmp"));
}

/// One of everything, the same on every run.
fn fill(source: &Path) {
    let mut random = Random::new(64);
    fs::create_dir(source).unwrap();
    let at = |name: &[u8]| source.join(std::ffi::OsStr::from_bytes(name));
    fs::write(at(b"empty"), b"").unwrap();
    fs::write(at(b"text"), random.text(30_000)).unwrap();
    fs::write(at(b"random"), random.bytes(30_000)).unwrap();
    fs::write(at(b"not \xff UTF-8\n"), b"named oddly").unwrap();
    let mut database = b"SQLite format 3\0\x10\0".to_vec();
    for page in 0..60_u16 {
        database.resize(usize::from(page) * 4096 + 20, 0);
        database.extend_from_slice(format!("page {page}").as_bytes());
    }
    database.resize(60 * 4096, 0);
    fs::write(at(b"database"), database).unwrap();
    fs::write(at(b"cut by content"), random.text(900_000)).unwrap();
    let mut sparse = fs::File::create(at(b"sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.seek(SeekFrom::Start(2 << 20)).unwrap();
    sparse.write_all(b"an island").unwrap();
    fs::hard_link(at(b"text"), at(b"text too")).unwrap();
    std::os::unix::fs::symlink("text", at(b"link")).unwrap();
    let nodes = [
        ("fifo", FileType::Fifo, 0),
        ("socket", FileType::Socket, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("loop", FileType::BlockDevice, rustix::fs::makedev(7, 9)),
    ];
    for (name, kind, device) in nodes {
        rustix::fs::mknodat(CWD, source.join(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
    }
    let many = source.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..1200 {
        let file = many.join(format!("entry {number:05}"));
        fs::write(&file, b"").unwrap();
        grow::set_mtime(&file, 1_600_000_000 + number, 1);
    }
    fs::set_permissions(at(b"random"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(at(b"random"), Some(1000), Some(65534)).unwrap();
    fs::set_permissions(at(b"random"), fs::Permissions::from_mode(0o4751)).unwrap();
    assert!(grow::set_xattr(&at(b"text"), "user.comment", b"an \xff attribute"));
    assert!(grow::set_xattr(&at(b"text"), "system.posix_acl_access", &grow::acl()));
    assert!(grow::set_xattr(&many, "system.posix_acl_default", &grow::acl()));
    for (number, entry) in [
        "empty",
        "text",
        "random",
        "database",
        "cut by content",
        "sparse",
        "link",
        "fifo",
        "socket",
        "null",
        "loop",
        "many",
    ]
    .iter()
    .enumerate()
    {
        grow::set_mtime(&source.join(entry), 1_500_000_000 - number as i64 * 200_000_000, 123_456_789);
    }
    grow::set_mtime(&at(b"not \xff UTF-8\n"), -1, 1);
    grow::set_mtime(source, 1_700_000_000, 1);
}
