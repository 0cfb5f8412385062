//! Whether a repository is whole, by reading all of it: independent of `check`, which is itself under test.

use std::collections::HashMap;
use std::sync::Arc;

use lifeboat_agent::Result;
use lifeboat_agent::browse::walk::{Next, walk};
use lifeboat_agent::check::{self, CheckOptions, ReadData, Report};
use lifeboat_agent::chunk::ChunkId;
use lifeboat_agent::events::Context;
use lifeboat_agent::fetch::ChunkReader;
use lifeboat_agent::pack::directory::PackKind;
use lifeboat_agent::repository::{Area, Repository, layout, state};
use lifeboat_agent::snapshot::chain;
use lifeboat_agent::tree::{Entry, EntryKind};

/// Everything that is wrong, in words; empty if all snapshots can be restored in full and none is missing.
pub fn problems(repository: &Repository) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(e) = look(repository, &mut problems) {
        problems.push(e.to_string());
    }
    problems
}

/// Panics unless the repository is whole, and `check` says so too.
pub fn assert_whole(repository: &Repository, when: &str) {
    let problems = problems(repository);
    assert!(problems.is_empty(), "{when}: {problems:#?}");
    let report = check(repository);
    // A snapshot that counts and is not put yet is said: the next run puts it.
    let is_borne = |warning: &String| warning.contains("or its backup was cut off in the last step");
    assert!(report.verdict().is_ok() && report.warnings.iter().all(is_borne), "{when}: {report:#?}");
}

/// The most thorough check.
pub fn check(repository: &Repository) -> Report {
    let options = CheckOptions { read_data: ReadData::All, threads: 0 };
    check::run(repository, &options, &Context::silent()).unwrap()
}

fn look(repository: &Repository, problems: &mut Vec<String>) -> Result<()> {
    let history = repository.load_history()?;
    problems.extend(history.damaged.iter().map(|unsound| unsound.error.to_string()));
    let memory = state::peek(repository.directories());
    let chain = chain::examine(&history, memory.as_ref(), &repository.directories().place);
    problems.extend(chain.missing.iter().map(|missing| format!("{missing:?}")));
    problems.extend(chain.forks.iter().map(|fork| format!("{fork:?}")));
    let catalog = repository.load_catalog()?;
    problems.extend(catalog.damaged.iter().map(ToString::to_string));
    let reader = ChunkReader::new(repository, Arc::new(catalog.index));
    for snapshot in &history.snapshots {
        let root = snapshot.manifest.root()?;
        let mut found = Vec::new();
        let mut damaged = Vec::new();
        let Some(content) = root.content() else { continue };
        walk(
            &reader,
            &Context::silent(),
            &mut Vec::new(),
            content,
            &mut |seen| {
                if let Err(e) = read(&reader, seen.entry) {
                    found.push(format!("{}: {e}", seen.path.escape_ascii()));
                }
                Ok(Next::Descend)
            },
            &mut |path, e| {
                damaged.push(format!("{}: {e}", path.escape_ascii()));
                Ok(())
            },
        )?;
        problems.append(&mut found);
        problems.append(&mut damaged);
    }
    Ok(())
}

fn read(reader: &ChunkReader, entry: &Entry) -> Result<()> {
    let EntryKind::File { content, .. } = &entry.kind else { return Ok(()) };
    reader.for_each_extent(content, &mut |extent| match extent.id {
        Some(id) => reader.data(&id, extent.length).map(drop),
        None => Ok(()),
    })
}

/// In how many packs each chunk lies, by the packs' own directories, those that no index names included.
pub fn places(repository: &Repository) -> HashMap<ChunkId, Vec<String>> {
    let mut places: HashMap<ChunkId, Vec<String>> = HashMap::new();
    for kind in [PackKind::Data, PackKind::Metadata] {
        for info in repository.store().list(&Area::of_packs(kind).prefix()).unwrap() {
            let id = layout::sha256_of(&info.key).unwrap();
            let entry = repository.read_pack_entry(kind, &id, info.size).unwrap();
            for chunk in entry.directory.segments.iter().flat_map(|segment| &segment.chunks) {
                places.entry(chunk.id).or_default().push(info.key.to_string());
            }
        }
    }
    places
}
