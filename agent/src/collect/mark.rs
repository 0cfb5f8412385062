//! What is live: every chunk that a snapshot reaches gets its mark. Only metadata is read, by several threads, and each directory and list once,
//! whatever the number of snapshots.
//!
//! Anything that cannot be read ends it: nobody knows what lies behind that.

use parking_lot::{Condvar, Mutex};

use crate::chunk::ChunkId;
use crate::events::{Context, Counters};
use crate::fetch::ChunkReader;
use crate::index::{self, Mark, Marks};
use crate::snapshot::Snapshot;
use crate::threads;
use crate::tree::{Content, EntryKind, Extent};
use crate::{Error, Kind, Result};

/// Where marks are kept.
pub(super) trait Reached: Sync {
    /// Takes note of a chunk; says whether it is the first time.
    ///
    /// # Errors
    /// `Damaged` if no pack has it.
    fn reach(&self, id: &ChunkId) -> Result<bool>;
}

impl Reached for Marks {
    fn reach(&self, id: &ChunkId) -> Result<bool> {
        match self.mark(id)? {
            Mark::New => Ok(true),
            Mark::Known => Ok(false),
            Mark::Absent => Err(index::unknown(id)),
        }
    }
}

/// Marks all that these snapshots reach.
///
/// # Errors
/// `Damaged`, which names the snapshot, if a directory, a list or a chunk is missing or cannot be read; `Interrupted`; errors of the store.
pub(super) fn mark(
    reader: &ChunkReader,
    snapshots: &[&Snapshot],
    reached: &impl Reached,
    context: &Context,
) -> Result<()> {
    let workers = threads::count_for_reading(0);
    for snapshot in snapshots {
        let root = snapshot.manifest.root().map_err(|e| refuse(snapshot, e))?;
        let Some(content) = root.content() else { continue };
        let walk = Walk { reader, reached, context, state: Mutex::default(), changed: Condvar::new() };
        // The top is looked at here: nearly all of another snapshot is known by then, and no thread is needed for the rest.
        walk.directory(content).map_err(|e| refuse(snapshot, e))?;
        let few = walk.state.lock().waiting.len() < 2;
        let walked = if few { walk.work() } else { threads::run(workers, || walk.work()) };
        // What every thread meets is what the first of them met.
        let walked = walk.state.lock().error.take().map_or(walked, Err);
        walked.map_err(|e| refuse(snapshot, e))?;
        Counters::add(&context.counters.files, 1);
    }
    Ok(())
}

/// The error of a snapshot of which something cannot be had: nothing is deleted while it is there.
fn refuse(snapshot: &Snapshot, error: Error) -> Error {
    if error.kind() != Kind::Damaged {
        return error;
    }
    let id = snapshot.short_id();
    error.context(format_args!("snapshot {id} cannot be read in full, so that nobody knows what it needs")).with_hint(format_args!(
        "Nothing was deleted. `lifeboat check` says what is damaged, `lifeboat check --repair` heals it from another destination, and \
         `lifeboat repair index` finds packs that the index does not name. What is lost for good ends with `lifeboat repair snapshots \
         --forget`, or `lifeboat forget {id}`."
    ))
}

/// One walk by several threads.
struct Walk<'a, R> {
    reader: &'a ChunkReader,
    reached: &'a R,
    context: &'a Context,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Directories that are still to be looked at; the newest first, as its neighbours were read just now.
    waiting: Vec<Content>,
    /// Threads that are looking at one.
    busy: usize,
    error: Option<Error>,
    failed: bool,
}

impl<R: Reached> Walk<'_, R> {
    /// One thread: directories until there are none.
    fn work(&self) -> Result<()> {
        while let Some(directory) = self.next() {
            // Also if this thread breaks down: the others would wait for ever.
            let ended = Ended(self);
            let looked = self.context.check_stop().and_then(|()| self.directory(&directory));
            if let Err(error) = looked {
                let mut state = self.state.lock();
                state.failed = true;
                state.error.get_or_insert(error);
            }
            drop(ended);
        }
        Ok(())
    }

    fn next(&self) -> Option<Content> {
        let mut state = self.state.lock();
        loop {
            if state.failed {
                return None;
            }
            if let Some(directory) = state.waiting.pop() {
                state.busy += 1;
                return Some(directory);
            }
            if state.busy == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// A directory's lists and nodes. Directories in it are left to be looked at.
    fn directory(&self, content: &Content) -> Result<()> {
        for extent in &content.extents {
            // A restore refuses it, and it reaches nothing.
            let Some(id) = extent.id else { continue };
            if !self.reached.reach(&id)? {
                continue;
            }
            match content.level.checked_sub(1) {
                Some(level) => self.directory(&self.reader.list(&id, level, extent.length)?)?,
                None => self.node(extent)?,
            }
        }
        Ok(())
    }

    fn node(&self, extent: &Extent) -> Result<()> {
        let mut below = Vec::new();
        for entry in self.reader.node_of(extent)?.entries {
            match entry.kind {
                EntryKind::Directory { content, .. } if !content.extents.is_empty() => below.push(content),
                EntryKind::File { content, .. } => self.file(&content)?,
                _ => {}
            }
        }
        if !below.is_empty() {
            self.state.lock().waiting.append(&mut below);
            self.changed.notify_all();
        }
        Ok(())
    }

    fn file(&self, content: &Content) -> Result<()> {
        for extent in &content.extents {
            let Some(id) = extent.id else { continue };
            let is_new = self.reached.reach(&id)?;
            if let (true, Some(level)) = (is_new, content.level.checked_sub(1)) {
                self.file(&self.reader.list(&id, level, extent.length)?)?;
            }
        }
        Ok(())
    }
}

/// A thread that has looked at its directory.
struct Ended<'w, 'a, R>(&'w Walk<'a, R>);

impl<R> Drop for Ended<'_, '_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.busy -= 1;
        state.failed |= std::thread::panicking();
        self.0.changed.notify_all();
    }
}
