//! `lifeboat stats`: how much snapshots stand for, and how little of it is stored.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::opened::Opened;
use crate::browse::stats::{self, Bytes, Group, StoreStats};
use crate::cli::session::{FilterArgs, Session};
use crate::cli::text::{Align, Table, count, local_time};
use crate::fs::size::human;
use crate::snapshot::Snapshot;
use crate::tree::path_text;
use crate::{Error, Result};

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Show these snapshots one by one: id, latest, latest~N; without any, all by machine and source
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Stats {
    /// Measures and prints.
    ///
    /// # Errors
    /// `Usage` for a snapshot that is not there; `Damaged` if not all could be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let opened = Opened::open(session)?;
        let groups = self.groups(&opened)?;
        let mut damage = opened.damage();
        // "Only here" is compared with all snapshots of the repository, shown or not.
        let shown: HashSet<_> = groups.iter().flat_map(|group| &group.snapshots).map(|s| s.id).collect();
        let others: Vec<&Snapshot> =
            opened.history.snapshots.iter().filter(|snapshot| !shown.contains(&snapshot.id)).collect();
        let measured = stats::measure(&opened.reader, opened.context(), &groups, &others, &mut |path, e| {
            damage.note(path, &e);
            Ok(())
        })?;
        let store = stats::measure_store(&opened.reader)?;
        if session.output.json() {
            for group in &measured.groups {
                let mut object = json_bytes(&group.bytes);
                object["name"] = json!(group.name);
                object["snapshots"] = json!(group.snapshots);
                session.output.object("group", &object)?;
            }
            session.output.object("store", &json_store(&store))?;
            session.output.object("summary", &json_bytes(&measured.all))?;
        } else {
            print_groups(session, &measured)?;
            print_store(session, &store, &measured.all)?;
        }
        if measured.all.missing_chunks > 0 {
            let chunks = count(measured.all.missing_chunks, "chunk", "chunks");
            return Err(Error::damaged(format_args!("the index does not know {chunks} that snapshots need"))
                .with_hint(
                    "Run `lifeboat check`; `lifeboat repair index` makes the index anew from the packs.",
                ));
        }
        damage.finish()
    }

    fn groups<'o>(&self, opened: &'o Opened<'_>) -> Result<Vec<Group<'o>>> {
        let filter = self.filter.filter()?;
        if self.snapshots.is_empty() {
            let mut groups: BTreeMap<String, Vec<&Snapshot>> = BTreeMap::new();
            for snapshot in opened.history.snapshots.iter().filter(|snapshot| filter.matches(snapshot)) {
                groups.entry(group_name(snapshot)).or_default().push(snapshot);
            }
            return Ok(groups.into_iter().map(|(name, snapshots)| Group { name, snapshots }).collect());
        }
        let mut groups = Vec::new();
        for text in &self.snapshots {
            let snapshot = opened.history.find(text, &filter)?;
            if groups.iter().flat_map(|group: &Group<'_>| &group.snapshots).any(|s| s.id == snapshot.id) {
                continue;
            }
            let time = local_time(&snapshot.manifest.time);
            groups.push(Group { name: format!("{} {time}", snapshot.short_id()), snapshots: vec![snapshot] });
        }
        Ok(groups)
    }
}

/// The machine, and the source or else the paths.
fn group_name(snapshot: &Snapshot) -> String {
    let manifest = &snapshot.manifest;
    let what = manifest.source.as_ref().map_or_else(
        || manifest.path_bytes().iter().map(|path| path_text::display(path)).collect::<Vec<_>>().join(" "),
        |source| path_text::display(source.as_bytes()),
    );
    format!("{} {what}", path_text::display(manifest.host.as_bytes()))
}

/// From here on a ratio says that files have holes, not how well they were compressed.
const RATIO_MAX: u64 = 1000;

/// `3.4×`; `>1000×` of files with large holes; a dash where there is nothing to compare.
fn ratio(large: u64, small: u64) -> String {
    match large.checked_div(small) {
        None => "-".to_owned(),
        Some(RATIO_MAX..) => format!(">{RATIO_MAX}×"),
        Some(_) => format!("{:.1}×", large as f64 / small as f64),
    }
}

fn print_groups(session: &Session, measured: &stats::Stats) -> Result<()> {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("Snapshots", Align::Right),
        ("Original", Align::Right),
        ("Deduplicated", Align::Right),
        ("Stored", Align::Right),
        ("Ratio", Align::Right),
        ("Only here", Align::Right),
    ]);
    let row = |name: String, snapshots: u64, bytes: &Bytes, exclusive: String| {
        [
            name,
            snapshots.to_string(),
            human(bytes.logical),
            human(bytes.unique),
            human(bytes.stored),
            ratio(bytes.logical, bytes.stored),
            exclusive,
        ]
    };
    for group in &measured.groups {
        table.row(row(
            group.name.clone(),
            group.snapshots,
            &group.bytes,
            human(group.bytes.exclusive_stored),
        ));
    }
    if measured.groups.len() != 1 {
        let snapshots = measured.groups.iter().map(|group| group.snapshots).sum();
        table.row(row("All".to_owned(), snapshots, &measured.all, human(measured.all.exclusive_stored)));
    }
    table.lines().iter().try_for_each(|line| session.output.line(line))
}

fn print_store(session: &Session, store: &StoreStats, used: &Bytes) -> Result<()> {
    let whole = total_bytes(store);
    let metadata = store.metadata_bytes + store.index_bytes + store.snapshot_bytes;
    let share = 100.0 * metadata as f64 / whole.max(1) as f64;
    let line = |name: &str, text: String| session.output.line(format_args!("{name:<16}{text}"));
    session.output.line("")?;
    line("Store", format!("{} in all, {} of it metadata ({share:.1} %)", human(whole), human(metadata)))?;
    line(
        "Data packs",
        format!("{} in {}", human(store.data_bytes), count(store.data_packs, "pack", "packs")),
    )?;
    line(
        "Metadata packs",
        format!("{} in {}", human(store.metadata_bytes), count(store.metadata_packs, "pack", "packs")),
    )?;
    line(
        "Index",
        format!("{} in {}", human(store.index_bytes), count(store.index_shards, "shard", "shards")),
    )?;
    line(
        "Snapshots",
        format!("{} in {}", human(store.snapshot_bytes), count(store.snapshots, "object", "objects")),
    )?;
    let chunks = count(store.chunks, "chunk", "chunks");
    let segments = count(store.segments, "segment", "segments");
    line("Chunks", format!("{chunks} in {segments}, {} of plain bytes", human(store.plain_bytes)))?;
    let needed = used.stored + used.metadata_stored;
    let unused = (store.data_bytes + store.metadata_bytes).saturating_sub(needed);
    line(
        "Other bytes",
        format!("{} in packs: other snapshots' data, forgotten data, packs' directories", human(unused)),
    )
}

const fn total_bytes(store: &StoreStats) -> u64 {
    store.data_bytes + store.metadata_bytes + store.index_bytes + store.snapshot_bytes
}

fn json_bytes(bytes: &Bytes) -> serde_json::Value {
    json!({
        "logical_bytes": bytes.logical,
        "unique_bytes": bytes.unique,
        "stored_bytes": bytes.stored,
        "metadata_stored_bytes": bytes.metadata_stored,
        "exclusive_stored_bytes": bytes.exclusive_stored,
        "chunks": bytes.chunks,
        "metadata_chunks": bytes.metadata_chunks,
        "missing_chunks": bytes.missing_chunks,
    })
}

fn json_store(store: &StoreStats) -> serde_json::Value {
    json!({
        "total_bytes": total_bytes(store),
        "data_packs": store.data_packs,
        "data_bytes": store.data_bytes,
        "metadata_packs": store.metadata_packs,
        "metadata_bytes": store.metadata_bytes,
        "segments": store.segments,
        "chunks": store.chunks,
        "plain_bytes": store.plain_bytes,
        "index_shards": store.index_shards,
        "index_bytes": store.index_bytes,
        "snapshots": store.snapshots,
        "snapshot_bytes": store.snapshot_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_no_more_than_it_means() {
        assert_eq!(ratio(1, 0), "-");
        assert_eq!(ratio(34, 10), "3.4×");
        assert_eq!(ratio(999_900, 1000), "999.9×");
        assert_eq!(ratio(3 << 40, 900_000), ">1000×");
    }
}
