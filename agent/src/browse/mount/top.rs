//! The directories above the snapshots.
//!
//! ```text
//! ids/ab12cd34      times/2026-11-20_14-00-00      hosts/HOST/2026-11-20_14-00-00
//! ```
//! Each of them is a directory with the snapshot's tree, and beside them the link `latest`.

use std::collections::BTreeMap;

use chrono::Local;

use crate::Result;
use crate::snapshot::Snapshot;
use crate::tree::{Entry, Time};

/// Place of a directory in [`Top::nodes`].
pub(super) type TopIndex = usize;

/// All of them; the first is the root.
pub(super) struct Top {
    pub(super) nodes: Vec<TopNode>,
}

pub(super) struct TopNode {
    pub(super) parent: TopIndex,
    pub(super) kind: TopKind,
    pub(super) mtime: Time,
}

pub(super) enum TopKind {
    Directory(BTreeMap<Vec<u8>, TopIndex>),
    Link(Vec<u8>),
    /// The root directory of a snapshot.
    Snapshot(Entry),
}

impl Top {
    /// For snapshots, oldest first.
    pub(super) fn new(snapshots: &[&Snapshot]) -> Result<Self> {
        let mut top = Self { nodes: Vec::new() };
        let root = top.add(0, TopKind::Directory(BTreeMap::new()), newest_time(snapshots));
        let ids = top.directory(root, b"ids");
        let times = top.directory(root, b"times");
        let hosts = top.directory(root, b"hosts");
        for snapshot in snapshots {
            let host = top.directory(hosts, &file_name(&snapshot.manifest.host));
            let time = snapshot.manifest.time.with_timezone(&Local).format("%Y-%m-%d_%H-%M-%S").to_string();
            top.snapshot(ids, &snapshot.short_id(), snapshot)?;
            top.snapshot(times, &time, snapshot)?;
            top.snapshot(host, &time, snapshot)?;
        }
        Ok(top)
    }

    fn add(&mut self, parent: TopIndex, kind: TopKind, mtime: Time) -> TopIndex {
        self.nodes.push(TopNode { parent, kind, mtime });
        self.nodes.len() - 1
    }

    /// The subdirectory of this name, made if it is not there.
    fn directory(&mut self, parent: TopIndex, name: &[u8]) -> TopIndex {
        if let Some(known) = self.child(parent, name) {
            return known;
        }
        let mtime = self.nodes.get(parent).map_or(Time::default(), |node| node.mtime);
        let index = self.add(parent, TopKind::Directory(BTreeMap::new()), mtime);
        self.link(parent, name.to_vec(), index);
        index
    }

    /// A snapshot's directory, which `latest` then leads to. Two of the same second get numbers.
    fn snapshot(&mut self, parent: TopIndex, name: &str, snapshot: &Snapshot) -> Result<()> {
        let mut free = name.to_owned();
        let mut number = 1;
        while self.child(parent, free.as_bytes()).is_some() {
            number += 1;
            free = format!("{name}_{number}");
        }
        let root = snapshot.manifest.root()?;
        let mtime = time_of(snapshot);
        let index = self.add(parent, TopKind::Snapshot(root), mtime);
        self.link(parent, free.clone().into_bytes(), index);
        match self.child(parent, b"latest").and_then(|latest| self.nodes.get_mut(latest)) {
            Some(latest) => *latest = TopNode { parent, kind: TopKind::Link(free.into_bytes()), mtime },
            None => {
                let latest = self.add(parent, TopKind::Link(free.into_bytes()), mtime);
                self.link(parent, b"latest".to_vec(), latest);
            }
        }
        Ok(())
    }

    fn link(&mut self, parent: TopIndex, name: Vec<u8>, index: TopIndex) {
        if let Some(TopNode { kind: TopKind::Directory(names), .. }) = self.nodes.get_mut(parent) {
            names.insert(name, index);
        }
    }

    /// The directory or link of this name in a directory above the snapshots.
    pub(super) fn child(&self, parent: TopIndex, name: &[u8]) -> Option<TopIndex> {
        match &self.nodes.get(parent)?.kind {
            TopKind::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }
}

fn time_of(snapshot: &Snapshot) -> Time {
    let time = snapshot.manifest.time;
    Time { seconds: time.timestamp(), nanoseconds: time.timestamp_subsec_nanos().min(999_999_999) }
}

fn newest_time(snapshots: &[&Snapshot]) -> Time {
    snapshots.last().map_or(Time::default(), |snapshot| time_of(snapshot))
}

/// A host's name as that of a directory.
fn file_name(host: &str) -> Vec<u8> {
    match host {
        "" | "." | ".." | "latest" => format!("_{host}").into_bytes(),
        _ => host.replace(['/', '\0'], "_").into_bytes(),
    }
}
