//! Trees that no writer should make, authentic all the same: what a restore refuses a check must not call sound.

use std::sync::Arc;

use lifeboat_agent::events::Context;
use lifeboat_agent::ingest::{ChunkSink, Ingest, IngestOptions};
use lifeboat_agent::repair;
use lifeboat_agent::repository::Repository;
use lifeboat_agent::restore::{self, RestoreOptions, Selection};
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::{Manifest, Snapshot};
use lifeboat_agent::tree::node::{Names, NodeBuilder};
use lifeboat_agent::tree::{Content, Entry, EntryKind, Extent, Meta};
use lifeboat_agent::{Kind, check};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::world::{World, append, backup_all, create};

const CHUNK: &[u8] = b"the bytes of a file";

fn entry(name: &str, kind: EntryKind) -> Entry {
    let meta = Meta { mode: 0o755, links: 1, ..Meta::default() };
    Entry { name: name.as_bytes().into(), meta, kind, incomplete: false }
}

fn file(name: &str, extents: Vec<Extent>) -> Entry {
    let content = Content::flat(extents);
    entry(name, EntryKind::File { size: content.bytes(), content })
}

fn directory(name: &str, content: Content) -> Entry {
    entry(name, EntryKind::Directory { content, entries: 0, bytes: 0 })
}

/// Stores a node of these entries.
fn node(sink: &mut ChunkSink<'_>, entries: &[Entry]) -> Extent {
    let mut nodes = NodeBuilder::new(0);
    entries.iter().for_each(|entry| nodes.push(entry, &Names::new(), &Names::new()));
    let bytes = nodes.take();
    Extent { length: bytes.len() as u64, id: Some(sink.metadata(&bytes).unwrap()) }
}

/// A snapshot with one directory of this content, beside a file that is well.
fn snapshot_of(
    repository: &Repository,
    template: &Snapshot,
    content: impl FnOnce(&mut ChunkSink<'_>) -> Content,
) -> Snapshot {
    let index = Arc::new(repository.load_catalog().unwrap().index);
    let ingest = Ingest::start(repository, index, IngestOptions::default(), &Context::silent()).unwrap();
    let mut sink = ChunkSink::new(&ingest).unwrap();
    let whole = Extent { length: CHUNK.len() as u64, id: Some(sink.data(CHUNK).unwrap()) };
    let hostile = directory("hostile", content(&mut sink));
    let top = node(&mut sink, &[hostile, file("well", vec![whole])]);
    let root = directory("", Content::flat(vec![top]));
    sink.flush().unwrap();
    ingest.finish().unwrap();
    let root = Manifest::encode_root(&root, &Names::new(), &Names::new());
    append(repository, Manifest { root, ..template.manifest.clone() })
}

#[test]
fn what_a_restore_refuses_no_check_calls_sound() {
    let name = |name: &str| file(name, Vec::new());
    type Make<'m> = Box<dyn FnOnce(&mut ChunkSink<'_>) -> Content + 'm>;
    let cases: Vec<(&str, bool, Make<'_>)> = vec![
        (
            "two nodes in order",
            true,
            Box::new(|sink| {
                Content::flat(vec![node(sink, &[name("a"), name("b")]), node(sink, &[name("c")])])
            }),
        ),
        (
            "a node that is shorter than its directory says",
            false,
            Box::new(|sink| {
                let extent = node(sink, &[name("a")]);
                Content::flat(vec![Extent { length: extent.length + 1, ..extent }])
            }),
        ),
        (
            "a node that is longer",
            false,
            Box::new(|sink| {
                let extent = node(sink, &[name("a")]);
                Content::flat(vec![Extent { length: extent.length - 1, ..extent }])
            }),
        ),
        (
            "a directory with a hole",
            false,
            Box::new(|sink| Content::flat(vec![node(sink, &[name("a")]), Extent { length: 5, id: None }])),
        ),
        (
            "two nodes out of order",
            false,
            Box::new(|sink| {
                Content::flat(vec![node(sink, &[name("c")]), node(sink, &[name("a"), name("b")])])
            }),
        ),
        (
            "a name in two nodes",
            false,
            Box::new(|sink| {
                Content::flat(vec![node(sink, &[name("a"), name("b")]), node(sink, &[name("b"), name("c")])])
            }),
        ),
        (
            "the same node twice",
            false,
            Box::new(|sink| {
                let extent = node(sink, &[name("a")]);
                Content::flat(vec![extent, extent])
            }),
        ),
        (
            "a file's chunk of another length",
            false,
            Box::new(|sink| {
                let id = sink.data(CHUNK).unwrap();
                let wrong = file("wrong", vec![Extent { length: CHUNK.len() as u64 - 1, id: Some(id) }]);
                Content::flat(vec![node(sink, &[wrong])])
            }),
        ),
        (
            "a list that is no list",
            false,
            Box::new(|sink| {
                let extent = node(sink, &[name("a")]);
                Content { level: 1, extents: vec![extent] }
            }),
        ),
    ];
    for (what, is_sound, make) in cases {
        let world = World::new();
        std::fs::write(world.source().join("file"), "content").unwrap();
        let repository = create(Arc::new(MemoryProvider::new()), &world.machine("own"), Cipher::default());
        let template = backup_all(&repository, &world.source());
        let snapshot = snapshot_of(&repository, &template, make);
        let options = RestoreOptions::into_directory(world.path("target"));
        let restored =
            restore::run(&repository, &snapshot, None, &Selection::default(), &options, &Context::silent());
        let restored = restored.and_then(|outcome| outcome.verdict());
        assert_eq!(restored.is_ok(), is_sound, "{what}: restore: {restored:?}");
        assert_eq!(std::fs::read(world.path("target/well")).unwrap(), CHUNK, "{what}");
        let report = check::run(&repository, &Default::default(), &Context::silent()).unwrap();
        assert_eq!(report.verdict().is_ok(), is_sound, "{what}: check: {report:?}");
        if is_sound {
            continue;
        }
        assert_eq!(restored.unwrap_err().kind(), Kind::Damaged, "{what}");
        let touched: Vec<_> =
            report.touched.iter().map(|touched| touched.path.escape_ascii().to_string()).collect();
        assert!(
            touched.iter().all(|path| path.starts_with("/hostile")) && !touched.is_empty(),
            "{what}: {touched:?}"
        );
        // A repair keeps every entry that there is, and what it writes is sound.
        let repaired = repair::snapshots(&repository, &Default::default(), &Context::silent()).unwrap();
        let [(_, Some(copy))] = &repaired.repaired[..] else { panic!("{what}: {repaired:?}") };
        let options = RestoreOptions::into_directory(world.path("repaired"));
        restore::run(&repository, copy, None, &Selection::default(), &options, &Context::silent())
            .and_then(|outcome| outcome.verdict())
            .unwrap_or_else(|e| panic!("{what}: the repaired snapshot: {e:?}"));
        // Whatever could not be kept is named; where all was kept nothing is.
        let complete =
            ["two nodes out of order", "a name in two nodes", "the same node twice"].contains(&what);
        let lost: Vec<_> = repaired.lost.iter().map(|(_, path)| path.escape_ascii().to_string()).collect();
        assert_eq!(lost.is_empty(), complete, "{what}: {lost:?}");
        assert!(lost.iter().all(|path| path.starts_with("/hostile")), "{what}: {lost:?}");
        let count = std::fs::read_dir(world.path("repaired/hostile")).unwrap().count();
        let wanted = match what {
            "a directory with a hole" | "a file's chunk of another length" => 1,
            "two nodes out of order" => 3,
            "a name in two nodes" => 4,
            "the same node twice" => 2,
            _ => 0,
        };
        assert_eq!(count, wanted, "{what}: entries kept by the repair");
    }
}
