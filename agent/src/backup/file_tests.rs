//! Files that changed between the listing of their directory and their being read.
//!
//! The listing's `stat` is handed over as a job; here it is one of before the change, so that no clock decides.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use lifeboat_providers::memory::MemoryProvider;
use parking_lot::Mutex;

use super::super::directory::{Directory, Finished, taken};
use super::super::parent::Trust;
use super::super::record::Record;
use super::super::schedule::Scheduler;
use super::super::{BackupOptions, Run};
use super::*;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::fs::Owners;
use crate::index::Index;
use crate::ingest::{Ingest, IngestOptions};
use crate::repository::OwnDirectories;
use crate::repository::create::CreateOptions;
use crate::repository::{Directories, Repository};
use crate::scan::exclude::ExcludeRules;
use crate::seal::SecretKey;
use crate::seal::slot::{Cost, Purpose, Secret};

/// Bytes that differ everywhere and from seed to seed.
fn bytes(len: usize, seed: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// Lists a file of `before`, changes it by `change`, reads it, and returns what is stored of it and the errors.
fn stored_after(before: &[u8], change: impl FnOnce(&Path)) -> (Entry, Vec<u8>, u64) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), before).unwrap();
    stored(folder.path(), b"file", change)
}

/// As [`stored_after`], of a file that is there.
fn stored(folder: &Path, name: &[u8], change: impl FnOnce(&Path)) -> (Entry, Vec<u8>, u64) {
    let world = tempfile::tempdir().unwrap();
    let secret = Secret::Key(SecretKey::from_bytes([7; 32]));
    let create = CreateOptions {
        cipher: Default::default(),
        purpose: Purpose::KeyFile,
        label: String::new(),
        cost: Cost::LOWEST,
        pack_bytes: Some(1 << 20),
    };
    let directories = Directories::new(world.path().join("cache"), world.path().join("state"));
    let repository =
        Repository::create(Arc::new(MemoryProvider::new()), &secret, &create, directories).unwrap();
    let (context, index) = (Context::silent(), Arc::new(Index::in_memory()));
    let ingest = Ingest::start(&repository, index.clone(), IngestOptions::default(), &context).unwrap();
    let reader = ChunkReader::new(&repository, index);
    let (options, exclude) = (BackupOptions::default(), ExcludeRules::default());
    let run = Run {
        options: &options,
        exclude: &exclude,
        ingest: &ingest,
        reader: &reader,
        context: &context,
        scheduler: Scheduler::new(),
        record: Record::new(context.clone()),
        owners: Mutex::new(Owners::new()),
        trust: Trust::since(None, false),
        own: OwnDirectories::default(),
        left_out: Mutex::default(),
    };
    let finished = Finished::default();
    let handle = capture::open_dir_path(folder.as_os_str().as_bytes()).unwrap();
    let directory = Arc::new(Directory {
        target: Target::Root(finished.clone()),
        name: (*b"folder").into(),
        path: folder.as_os_str().as_bytes().into(),
        stat: capture::stat_fd(handle.as_fd()).unwrap(),
        plan: None,
        whole: true,
        made_up: false,
        old: None,
        stay_on: None,
        handle: OnceLock::new(),
        state: Mutex::default(),
    });
    let stat = capture::stat(handle.as_fd(), name).unwrap();
    directory.handle.set(handle).unwrap();
    directory.set_window(vec![None], 1, false);
    change(&folder.join(std::ffi::OsStr::from_bytes(name)));
    let job = FileJob { slot: 0, name: name.into(), stat, old: None };
    let mut sink = ChunkSink::new(&ingest).unwrap();
    run.read_files(Files::new(directory, job), &mut sink, &mut Vec::new()).unwrap();
    // What turned out to be large was handed on.
    run.run_workers();
    run.scheduler.outcome().unwrap();
    sink.flush().unwrap();
    ingest.finish().unwrap();
    let EntryKind::Directory { content, .. } = taken(&finished).unwrap().kind else { panic!("no directory") };
    let entry = reader.directory(&content).unwrap().remove(0);
    let mut found = Vec::new();
    reader
        .for_each_extent(entry.content().unwrap(), &mut |extent| {
            match extent.id {
                Some(id) => found.extend_from_slice(&reader.data(&id, extent.length)?),
                None => found.resize(found.len() + extent.length as usize, 0),
            }
            Ok(())
        })
        .unwrap();
    (entry, found, run.record.errors_total())
}

const LARGE: usize = LARGE_BYTES_MIN as usize;

#[test]
fn a_file_that_grew_before_it_was_read_is_stored_as_it_is_now() {
    let small = bytes(5_000, b"small");
    // Still small, exactly at the limit, far beyond it.
    for len in [5_001, 100_000, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 17] {
        let now = bytes(len, b"now");
        let (entry, found, errors) = stored_after(&small, |path| fs::write(path, &now).unwrap());
        assert_eq!((entry.bytes(), entry.incomplete, errors), (len as u64, false, 0), "{len}");
        assert!(found == now, "{len}: other bytes are stored than the file has");
    }
}

#[test]
fn a_file_that_shrank_before_it_was_read_is_stored_as_it_is_now() {
    let before = bytes(3 * LARGE / 4, b"before");
    for len in [0, 1, 70_000] {
        let now = bytes(len, b"now");
        let (entry, found, errors) = stored_after(&before, |path| fs::write(path, &now).unwrap());
        assert_eq!((entry.bytes(), errors), (len as u64, 0), "{len}");
        assert!(found == now, "{len}: other bytes are stored than the file has");
    }
}

/// A name that now is another file's: what is stored is of one file, metadata and content.
#[test]
fn a_file_that_was_replaced_by_a_large_one_is_stored_whole() {
    let now = bytes(LARGE + 5, b"other");
    let (entry, found, errors) = stored_after(b"before", |path| {
        let other = path.with_extension("new");
        fs::write(&other, &now).unwrap();
        fs::rename(&other, path).unwrap();
    });
    assert_eq!((entry.bytes(), errors), (now.len() as u64, 0));
    assert!(found == now);
}

/// Grown by a hole alone: no byte is read for it.
#[test]
fn a_file_that_grew_by_a_hole_is_stored_with_it() {
    let before = bytes(10_000, b"before");
    let (entry, found, errors) = stored_after(&before, |path| {
        fs::File::options().write(true).open(path).unwrap().set_len(2 * LARGE as u64).unwrap();
    });
    assert_eq!((entry.bytes(), errors), (2 * LARGE as u64, 0));
    assert!(found.starts_with(&before) && found[before.len()..].iter().all(|byte| *byte == 0));
}

/// Of a file that says that it is empty only so much is read: the rest was missing in silence.
#[test]
fn a_file_that_says_it_is_empty_is_never_cut_off_in_silence() {
    let (entry, found, errors) = stored(Path::new("/proc/self"), b"status", |_| {});
    assert_eq!((entry.incomplete, errors), (false, 0));
    assert!(found.starts_with(b"Name:") && entry.bytes() == found.len() as u64);
    // All symbols of the kernel: more than is read, where it shows them.
    let symbols = fs::read("/proc/kallsyms").map_or(0, |symbols| symbols.len());
    if symbols <= SIZELESS_BYTES_MAX {
        println!("skipped: /proc/kallsyms has {symbols} bytes here");
        return;
    }
    let (entry, found, errors) = stored(Path::new("/proc"), b"kallsyms", |_| {});
    assert_eq!((entry.incomplete, errors, found.len()), (true, 1, SIZELESS_BYTES_MAX));
}
