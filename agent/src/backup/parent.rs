//! The snapshot to compare with, what of it may be trusted, and its directories in order.

use std::collections::VecDeque;

use super::{BackupOptions, Plan};
use crate::fetch::ChunkReader;
use crate::fs::Stat;
use crate::snapshot::History;
use crate::snapshot::history::Snapshot;
use crate::snapshot::select::Filter;
use crate::tree::{Content, Entry, EntryKind, Extent, Time};
use crate::{Error, Kind, Result};

/// File times tick more coarsely than the clock: what changed this shortly before a run may change again within the same tick.
const TICK_NANOSECONDS: i128 = 20_000_000;
/// File systems that only know seconds (or two of them, like FAT).
const COARSE_TICK_NANOSECONDS: i128 = 2_000_000_000;

/// The snapshot to compare with: the one named, or the newest of the same host and source, or host and paths.
///
/// # Errors
/// `Usage` if a named one is not there.
pub(super) fn choose<'h>(
    history: &'h History,
    plan: &Plan,
    options: &BackupOptions,
) -> Result<Option<&'h Snapshot>> {
    if let Some(name) = &options.parent {
        return history.find(name, &Filter::default()).map(Some);
    }
    let same = |snapshot: &&Snapshot| {
        let manifest = &snapshot.manifest;
        let alike = match (&options.source, &manifest.source) {
            (Some(source), Some(theirs)) => source == theirs,
            (None, None) => manifest.path_bytes() == plan.paths(),
            _ => false,
        };
        alike && manifest.host == options.host
    };
    Ok(history.snapshots.iter().rev().find(same))
}

/// Which entries of the parent may be taken for unchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    /// When the parent's run began, in nanoseconds since 1970; `None` trusts nothing.
    since: Option<i128>,
    /// When this run began, likewise.
    now: i128,
}

impl Trust {
    pub(super) fn since(parent: Option<&Snapshot>, rescan: bool) -> Self {
        let start = parent.filter(|_| !rescan).map(|parent| parent.manifest.time);
        let since = start.map(|start| {
            i128::from(start.timestamp()) * 1_000_000_000 + i128::from(start.timestamp_subsec_nanos())
        });
        let now = chrono::Utc::now();
        let now = i128::from(now.timestamp()) * 1_000_000_000 + i128::from(now.timestamp_subsec_nanos());
        Self { since, now }
    }

    /// Whether a time is so old that no later change can have the same.
    pub(super) fn is_settled(&self, time: Time) -> bool {
        self.since.is_some_and(|since| settled(time, since))
    }

    /// Whether a file is as it was: all that a change would move is equal, and the times are old enough that a later change in the
    /// same tick of the clock cannot hide (the racy-timestamp rule).
    pub(super) fn is_unchanged(&self, old: &Entry, stat: &Stat) -> bool {
        let Some(since) = self.since else { return false };
        let (then, now) = (&old.meta, &stat.meta);
        let same = then.inode == now.inode
            && then.mtime == now.mtime
            && then.ctime == now.ctime
            && then.device == now.device
            && then.mode == now.mode
            && then.uid == now.uid
            && then.gid == now.gid
            && then.links == now.links
            && !old.incomplete
            && same_kind(&old.kind, stat);
        // A time in the future cannot be made by a change: a file with a wrong mtime is not read again at every run.
        let mtime_settled = settled(then.mtime, since) || nanoseconds(then.mtime) > self.now;
        same && mtime_settled && settled(then.ctime, since)
    }
}

fn settled(time: Time, since: i128) -> bool {
    let tick = if time.nanoseconds == 0 { COARSE_TICK_NANOSECONDS } else { TICK_NANOSECONDS };
    nanoseconds(time) + tick < since
}

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

fn same_kind(old: &EntryKind, stat: &Stat) -> bool {
    use crate::fs::FileType;
    match old {
        EntryKind::File { size, .. } => stat.kind == FileType::File && *size == stat.size,
        EntryKind::Symlink { target } => stat.kind == FileType::Symlink && target.len() as u64 == stat.size,
        EntryKind::Fifo => stat.kind == FileType::Fifo,
        EntryKind::Socket => stat.kind == FileType::Socket,
        EntryKind::CharDevice { major, minor } => {
            stat.kind == FileType::CharDevice && (*major, *minor) == (stat.major, stat.minor)
        }
        EntryKind::BlockDevice { major, minor } => {
            stat.kind == FileType::BlockDevice && (*major, *minor) == (stat.major, stat.minor)
        }
        EntryKind::Directory { .. } => false,
    }
}

/// The entries of one of the parent's directories, in order, one node in memory at a time.
#[derive(Debug, Default)]
pub(super) struct OldEntries {
    nodes: VecDeque<Extent>,
    entries: std::vec::IntoIter<Entry>,
    /// Some node could not be read: what it held counts as new.
    pub(super) damaged: bool,
}

impl OldEntries {
    pub(super) fn open(reader: &ChunkReader, content: &Content) -> Result<Self> {
        let mut old = Self::default();
        let listed = reader.for_each_extent(content, &mut |extent| {
            old.nodes.push_back(extent);
            Ok(())
        });
        old.forgive(listed)?;
        Ok(old)
    }

    /// The entry of this name, if there is one; those before it are passed over. Names must be asked for in order.
    ///
    /// Returns the entry and whether any was passed over.
    pub(super) fn seek(&mut self, reader: &ChunkReader, name: &[u8]) -> Result<(Option<Entry>, bool)> {
        let mut passed = false;
        while let Some(next) = self.peek(reader)? {
            match (*next.name).cmp(name) {
                std::cmp::Ordering::Less => {
                    passed = true;
                    self.entries.next();
                }
                std::cmp::Ordering::Equal => return Ok((self.entries.next(), passed)),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok((None, passed))
    }

    /// Whether any entry is left.
    pub(super) fn has_more(&mut self, reader: &ChunkReader) -> Result<bool> {
        Ok(self.peek(reader)?.is_some())
    }

    fn peek(&mut self, reader: &ChunkReader) -> Result<Option<&Entry>> {
        while self.entries.as_slice().is_empty() {
            let Some(extent) = self.nodes.pop_front() else { return Ok(None) };
            let read = extent
                .id
                .ok_or_else(|| Error::damaged("a directory with a hole"))
                .and_then(|id| reader.node(&id, extent.length));
            match read {
                Ok(node) => self.entries = node.entries.into_iter(),
                Err(e) => self.forgive(Err(e))?,
            }
        }
        Ok(self.entries.as_slice().first())
    }

    /// A damaged parent costs time, not the backup: what cannot be read of it is read from the source.
    fn forgive(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(e) if e.kind() == Kind::Damaged => {
                self.damaged = true;
                Ok(())
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_shortly_before_the_last_run_is_looked_at_again() {
        let second = 1_000_000_000;
        let trust = Trust { since: Some(100 * second), now: 200 * second };
        let at = |seconds, nanoseconds| trust.is_settled(Time { seconds, nanoseconds });
        assert!(at(99, 900_000_000) && at(97, 0) && at(-5, 1));
        // Within the tick, or with a time that knows whole seconds only, or later.
        assert!(!at(99, 990_000_000) && !at(99, 0) && !at(98, 0) && !at(100, 1) && !at(150, 1));
        let nothing = Trust { since: None, ..trust };
        assert!(!nothing.is_settled(Time { seconds: 1, nanoseconds: 1 }));
    }
}
