//! The operations on small real repositories.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use lifeboat_providers::local::LocalProvider;

use super::diff::{Change, diff};
use super::dump::{Format, dump_archive, dump_content};
use super::find::{Query, find};
use super::pattern::Pattern;
use super::place::Place;
use super::stats::{Group, measure};
use crate::backup::{self, BackupOptions, Plan};
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::repository::create::CreateOptions;
use crate::repository::{Directories, Repository};
use crate::seal::SecretKey;
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::snapshot::{History, Snapshot};
use crate::tree::EntryKind;

struct World {
    dir: tempfile::TempDir,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let provider = Arc::new(LocalProvider::create(&path("repository")).unwrap());
        let secret = Secret::Key(SecretKey::from_bytes([7; 32]));
        let options = CreateOptions {
            cipher: Default::default(),
            purpose: Purpose::KeyFile,
            label: "test".into(),
            cost: Cost::DEFAULT,
            pack_bytes: None,
        };
        let directories = Directories::new(path("cache"), path("state"));
        let repository = Repository::create(provider, &secret, &options, directories).unwrap();
        fs::create_dir(path("src")).unwrap();
        Self { dir, repository }
    }

    fn src(&self) -> std::path::PathBuf {
        self.dir.path().join("src")
    }

    fn backup(&self) {
        let plan = Plan::new(&[self.src().as_os_str().as_bytes().to_vec()]).unwrap();
        let options = BackupOptions { host: "h".into(), ..Default::default() };
        let context = Context::silent();
        backup::run(&self.repository, plan, &Default::default(), &options, &context).unwrap();
    }

    fn open(&self) -> (History, ChunkReader) {
        let history = self.repository.load_history().unwrap();
        let index = self.repository.load_catalog().unwrap().index;
        (history, ChunkReader::new(&self.repository, Arc::new(index)))
    }

    fn place(&self, reader: &ChunkReader, snapshot: &Snapshot, path: &str) -> Place {
        Place::find(reader, snapshot, self.src().join(path).as_os_str().as_bytes()).unwrap()
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn no_damage(_: &[u8], error: crate::Error) -> crate::Result<()> {
    Err(error)
}

#[test]
fn a_file_that_stayed_the_same_is_found_once() {
    let world = World::new();
    write(&world.src().join("a/same.conf"), b"same");
    write(&world.src().join("a/other.conf"), b"1");
    for round in 0..3 {
        write(&world.src().join("a/other.conf"), format!("round {round}").as_bytes());
        world.backup();
    }
    let (history, reader) = world.open();
    let snapshots: Vec<&Snapshot> = history.snapshots.iter().collect();
    let query = Query { pattern: Pattern::parse(b"*.CONF", true).unwrap(), types: Vec::new() };
    let mut found = Vec::new();
    let mut note = |hit: &super::find::Found<'_>| {
        found.push((hit.listed.entry.name.to_vec(), hit.snapshots.clone()));
        Ok(())
    };
    find(&reader, &Context::silent(), &snapshots, &query, &mut note, &mut no_damage).unwrap();
    let expected: [(&[u8], &[usize]); 4] =
        [(b"other.conf", &[2]), (b"other.conf", &[1]), (b"other.conf", &[0]), (b"same.conf", &[0, 1, 2])];
    let found: Vec<(&[u8], &[usize])> = found.iter().map(|(name, at)| (&**name, &**at)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_large_directory_is_searched_and_compared_node_by_node() {
    let world = World::new();
    for n in 0..5_000 {
        write(&world.src().join(format!("{n:05}-{}", "x".repeat(60))), b"");
    }
    world.backup();
    fs::remove_file(world.src().join(format!("02500-{}", "x".repeat(60)))).unwrap();
    write(&world.src().join("02500-new"), b"new");
    world.backup();
    let (history, reader) = world.open();
    let (old, new) = (&history.snapshots[0], &history.snapshots[1]);
    for n in [0, 1, 2_499, 2_501, 4_999] {
        world.place(&reader, new, &format!("{n:05}-{}", "x".repeat(60)));
    }
    let gone = world.src().join(format!("02500-{}", "x".repeat(60)));
    assert!(Place::find(&reader, new, gone.as_os_str().as_bytes()).is_err());
    let mut changes = Vec::new();
    let mut note = |difference: &super::diff::Difference<'_>| {
        if difference.change != Change::Metadata {
            changes.push((difference.change, difference.path.to_vec()));
        }
        Ok(())
    };
    let (a, b) = (world.place(&reader, old, ""), world.place(&reader, new, ""));
    let (a, b) = (&a.listed.entry, &b.listed.entry);
    diff(&reader, &Context::silent(), a, b, &mut note, &mut no_damage).unwrap();
    let expected = [
        (Change::Added, b"/02500-new".to_vec()),
        (Change::Removed, format!("/02500-{}", "x".repeat(60)).into_bytes()),
    ];
    changes.sort_by_key(|(_, path)| path.clone());
    assert_eq!(changes, expected);
}

#[test]
fn an_archive_that_breaks_off_has_no_end() {
    let world = World::new();
    let noise: Vec<u8> =
        (0..600_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    write(&world.src().join("d/noise"), &noise);
    world.backup();
    let (history, reader) = world.open();
    let snapshot = &history.snapshots[0];
    let place = world.place(&reader, snapshot, "d");
    let archive = |format: Format, reader: &ChunkReader| {
        let mut out = Vec::new();
        let context = Context::silent();
        let done = dump_archive(reader, &context, &place, format, &mut out, &mut no_damage);
        (done.map(|dumped| dumped.bytes), out)
    };
    let (done, tar) = archive(Format::Tar, &reader);
    assert_eq!((done.unwrap(), tar.len() % 10_240), (noise.len() as u64, 0));
    assert!(tar.ends_with(&[0; 1024]));

    let file = world.place(&reader, snapshot, "d/noise");
    let EntryKind::File { content, .. } = &file.listed.entry.kind else { panic!("not a file") };
    let mut bytes = Vec::new();
    dump_content(&reader, &Context::silent(), content, &mut bytes).unwrap();
    assert!(bytes == noise);

    damage_packs(&world.dir.path().join("repository/packs"));
    let (_, reader) = world.open();
    for format in [Format::Tar, Format::Zip] {
        let (done, out) = archive(format, &reader);
        assert_eq!(done.unwrap_err().kind(), crate::Kind::Damaged);
        assert!(!out.ends_with(&[0; 512]) && !out.windows(4).any(|four| four == b"PK\x05\x06"));
    }
}

/// Flips a bit in the middle of every pack.
fn damage_packs(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            damage_packs(&entry);
        } else {
            let mut bytes = fs::read(&entry).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(&entry).unwrap();
            fs::write(&entry, bytes).unwrap();
        }
    }
}

#[test]
fn bytes_are_counted_once_and_what_only_one_group_has_is_known() {
    let world = World::new();
    write(&world.src().join("both"), &[1; 50_000]);
    world.backup();
    write(&world.src().join("new"), b"only in the second");
    world.backup();
    let (history, reader) = world.open();
    let groups: Vec<Group<'_>> = history
        .snapshots
        .iter()
        .map(|snapshot| Group { name: snapshot.short_id(), snapshots: vec![snapshot] })
        .collect();
    let stats = measure(&reader, &Context::silent(), &groups, &[], &mut no_damage).unwrap();
    assert_eq!((stats.all.logical, stats.all.unique, stats.all.missing_chunks), (100_018, 50_018, 0));
    let unique: Vec<u64> = stats.groups.iter().map(|group| group.bytes.unique).collect();
    assert_eq!(unique, [50_000, 50_018]);
    assert!(stats.groups[1].bytes.exclusive_stored > 0);
    // The first alone: what the second has too is not the first's, though the second is not measured.
    let (first, others) = (&groups[..1], [&history.snapshots[1]]);
    let alone = measure(&reader, &Context::silent(), first, &others, &mut no_damage).unwrap();
    assert_eq!((alone.all.logical, alone.all.unique), (50_000, 50_000));
    assert_eq!(alone.groups[0].bytes, stats.groups[0].bytes);
    assert_eq!(alone.all.exclusive_stored, alone.groups[0].bytes.exclusive_stored);
}
