//! Tasks for all worker threads.
//!
//! Blocks of large files come first, then files, then directories, the newest first: so what is begun is finished before
//! more is begun, and memory stays bounded by the depth of the tree, not its size.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::directory::Directory;
use super::file::Files;
use super::large::{Block, Large};
use crate::{Error, Result};

/// Blocks that wait at most; whoever reads a large file works on the next one himself when there are as many.
const BLOCKS_MAX: usize = 3;
/// Buffers that are kept for reuse.
const SPARE_MAX: usize = 3;

/// A piece of work.
pub(super) enum Task {
    /// List a directory, or the next part of a huge one.
    Directory(Arc<Directory>),
    /// Read small files of one directory.
    Files(Files),
    /// Read a large file.
    Large(Large),
    /// Hash and store a block of a large file.
    Block(Block),
}

/// The queue of tasks.
pub(super) struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    spare: Mutex<Vec<Vec<u8>>>,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<Block>,
    large: VecDeque<Large>,
    files: VecDeque<Files>,
    directories: Vec<Arc<Directory>>,
    /// Tasks queued or running: at zero the run is over.
    outstanding: usize,
    stopped: bool,
    error: Option<Error>,
}

impl Scheduler {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), spare: Mutex::default() }
    }

    pub(super) fn push_directory(&self, directory: Arc<Directory>) {
        self.push(|state| state.directories.push(directory));
    }

    pub(super) fn push_files(&self, files: Files) {
        self.push(|state| state.files.push_back(files));
    }

    pub(super) fn push_large(&self, large: Large) {
        self.push(|state| state.large.push_back(large));
    }

    /// Queues a block, or gives it back if enough are waiting.
    pub(super) fn offer_block(&self, block: Block) -> Option<Block> {
        {
            let mut state = self.state.lock();
            if state.blocks.len() >= BLOCKS_MAX {
                return Some(block);
            }
            state.outstanding += 1;
            state.blocks.push_back(block);
        }
        self.changed.notify_one();
        None
    }

    /// The next task; waits while others may still make some. `None` when all is done or the run has ended otherwise.
    pub(super) fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if state.stopped || state.outstanding == 0 {
                return None;
            }
            if let Some(task) = state.pop() {
                return Some(task);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the run early.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Ends the run early because of an error; the first is kept.
    pub(super) fn fail(&self, error: Error) {
        {
            let mut state = self.state.lock();
            state.error.get_or_insert(error);
            state.stopped = true;
        }
        self.changed.notify_all();
    }

    /// The first error, if there was one.
    pub(super) fn outcome(&self) -> Result<()> {
        match self.state.lock().error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// A buffer for a block, used before if possible.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }

    fn push(&self, add: impl FnOnce(&mut State)) {
        {
            let mut state = self.state.lock();
            state.outstanding += 1;
            add(&mut state);
        }
        self.changed.notify_one();
    }

    fn finished_one(&self) {
        let over = {
            let mut state = self.state.lock();
            state.outstanding -= 1;
            state.outstanding == 0
        };
        if over {
            self.changed.notify_all();
        }
    }
}

impl State {
    fn pop(&mut self) -> Option<Task> {
        if let Some(block) = self.blocks.pop_front() {
            return Some(Task::Block(block));
        }
        if let Some(large) = self.large.pop_front() {
            return Some(Task::Large(large));
        }
        if let Some(files) = self.files.pop_front() {
            return Some(Task::Files(files));
        }
        self.directories.pop().map(Task::Directory)
    }
}

/// Counts a task as finished when it is dropped, however its work ended.
pub(super) struct Running<'a>(pub(super) &'a Scheduler);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.finished_one();
    }
}

/// Ends the run if a worker panics; to be forgotten when it does not.
pub(super) struct FailOnPanic<'a>(pub(super) &'a Scheduler);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.fail(crate::threads::broke_down());
    }
}
