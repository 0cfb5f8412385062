//! A dry run: what would become of an entry, counted as a restore counts it.

use std::os::fd::BorrowedFd;

use super::Run;
use super::links::is_linked;
use super::walk::{Where, is_same_special, looks_equal};
use crate::events::{Counters, Event};
use crate::fs::{FileType, Stat};
use crate::tree::{Entry, EntryKind};

impl Run<'_> {
    /// Counts an entry that is no directory, in whose place is `there` (in this open directory).
    pub(super) fn plan(&self, here: Where<'_>, entry: &Entry, there: Option<(BorrowedFd<'_>, &Stat)>) {
        self.context.counters.pass(entry.bytes());
        if entry.kind == EntryKind::Socket {
            return self.note_socket(here.path);
        }
        let further = if is_linked(entry) {
            self.is_linked_to_first(here, entry, there.map(|(_, stat)| stat))
        } else {
            None
        };
        match (further, there) {
            (Some(true), _) => Counters::add(&self.tally.files_unchanged, 1),
            (None, Some((parent, stat))) if is_as_wanted(entry, stat, parent) => {
                let counter = if entry.is_file() { &self.tally.files_unchanged } else { &self.tally.others };
                Counters::add(counter, 1);
            }
            (_, Some((parent, stat)))
                if stat.kind != FileType::of(&entry.kind)
                    && !self.may_replace(parent, &entry.name, stat.kind) =>
            {
                self.failed(here.path, &self.in_the_way(stat.kind));
            }
            // A further name is a link, which has no bytes of its own.
            (Some(false), _) => self.count_planned(here.path, true, 0),
            (None, _) => self.count_planned(here.path, entry.is_file(), entry.bytes()),
        }
    }

    fn count_planned(&self, path: &[u8], is_file: bool, bytes: u64) {
        let counter = if is_file { &self.tally.files_restored } else { &self.tally.others };
        Counters::add(counter, 1);
        Counters::add(&self.tally.bytes_written, bytes);
        self.context.report(Event::Path { action: "would restore", path: path.to_vec(), bytes });
    }
}

/// Whether a dry run would leave the entry as it is.
fn is_as_wanted(entry: &Entry, stat: &Stat, parent: BorrowedFd<'_>) -> bool {
    if entry.is_file() { looks_equal(entry, stat) } else { is_same_special(entry, stat, parent) }
}
