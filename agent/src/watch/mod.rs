//! Says when files change, a moment after they did. Linux's inotify tells of it; where it cannot, the tree is looked at every minute, and that is said.
//!
//! | module | job |
//! |---|---|
//! | [`debounce`] | when many changes are one |
//! | `tree` | the directories that are watched, and what their events mean |
//! | `look` | what a tree looks like, to be compared a minute later |
//!
//! - **What counts**: names that come, go or are changed; content and attributes that change. Reading counts never, nor does opening for writing
//!   without a write: a backup must not lead to the next one. So `-shm` files of SQLite, which readers write to as well, and the coming and going of
//!   `-wal` files do not count; what is written to a `-wal` or a database does.
//! - **What is missed**: changes through memory maps, and on network file systems by other machines. The schedule finds those.
//! - A path need not be there: when it comes, or comes again, it is watched again, and that counts as a change.
//! - When the kernel has more to tell than it can keep, that counts as a change.
//!
//! All that changed before [`Watch::start`] returns is not told: whoever starts a watch makes a backup of what is there, or has one.

pub mod debounce;
mod look;
#[cfg(test)]
mod tests;
mod tree;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{Error, Result};
use debounce::Debounce;
use look::Look;
use tree::Tree;

/// How often it is looked whether what is watched is still what its path names, and, where the kernel does not tell, whether anything changed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looking takes at most one part in so many of the time.
const LOOK_SHARE: u32 = 20;
/// Nobody needs more of them; what finds no room is sent later.
const SIGNALS_MAX: usize = 16;
/// When a signal that found no room is tried again.
const SEND_AGAIN: Duration = Duration::from_millis(200);

/// Which paths do not count, with all below them.
pub type Ignore = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Something changed, and then was quiet for a while, or was not quiet for long.
    Changed,
    /// Some changes are seen late or not at all; the text says which, why, and what to do.
    Trouble(String),
}

/// Files that are watched, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    signals: Receiver<Signal>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches directories with all below them, and files. A signal comes when nothing changed for `debounce`, or after ten times that.
    ///
    /// # Errors
    /// If there is nothing to be watched, or the system has no thread or file handle left. What the kernel has no room to watch is a [`Signal::Trouble`].
    pub fn start(paths: Vec<PathBuf>, debounce: Duration, ignore: Ignore) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::usage("there is no path to watch"));
        }
        let cannot = |e: std::io::Error| Error::io("cannot watch files", e);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| cannot(e.into()))?);
        let (sender, signals) = bounded(SIGNALS_MAX);
        let tree = Tree::of(paths, ignore);
        let mut worker = Worker {
            stop: stop.clone(),
            sender,
            debounce: Debounce::new(debounce),
            tree,
            look: None,
            trouble: None,
        };
        worker.note_trouble();
        let thread =
            thread::Builder::new().name("watch".to_owned()).spawn(move || worker.run()).map_err(cannot)?;
        Ok(Self { signals, stop, thread: Some(thread) })
    }

    /// What is told.
    pub const fn signals(&self) -> &Receiver<Signal> {
        &self.signals
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    stop: Arc<OwnedFd>,
    sender: Sender<Signal>,
    debounce: Debounce,
    tree: Tree,
    /// What the tree looked like, where the kernel cannot tell what changes.
    look: Option<Look>,
    /// What was told of, so that it is told once.
    trouble: Option<String>,
}

impl Worker {
    fn run(&mut self) {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            let now = Instant::now();
            let wake = self.debounce.due().map_or(look_at, |due| due.min(look_at));
            match self.wait(wake.saturating_duration_since(now)) {
                Awake::Stop => return,
                Awake::Events => {
                    if self.tree.read_events() {
                        self.debounce.changed(Instant::now());
                        self.note_trouble();
                    }
                }
                Awake::Time => {}
            }
            let now = Instant::now();
            if now >= look_at {
                self.look_around();
                look_at = Instant::now() + LOOK_EVERY.max(now.elapsed() * LOOK_SHARE);
            }
            self.tell(Instant::now());
        }
    }

    fn wait(&self, time: Duration) -> Awake {
        let time = Timespec::try_from(time).ok();
        let mut files = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        files.extend(self.tree.events().map(|events| PollFd::new(events, PollFlags::IN)));
        if let Err(error) = poll(&mut files, time.as_ref())
            && error != rustix::io::Errno::INTR
        {
            return Awake::Stop;
        }
        let ready: Vec<bool> = files.iter().map(|file| !file.revents().is_empty()).collect();
        match (ready.first(), ready.get(1)) {
            (Some(true), _) => Awake::Stop,
            (_, Some(true)) => Awake::Events,
            _ => Awake::Time,
        }
    }

    /// What no event tells of.
    fn look_around(&mut self) {
        if self.tree.is_elsewhere() {
            self.tree.watch_again();
            self.debounce.changed(Instant::now());
        }
        self.note_trouble();
        if let Some(before) = &self.look {
            let after = self.tree.look();
            if *before != after {
                self.debounce.changed(Instant::now());
            }
            self.look = Some(after);
        }
    }

    /// Tells of what cannot be watched, once, and looks at the tree from now on where nothing else helps.
    fn note_trouble(&mut self) {
        let trouble = self.tree.trouble();
        if self.tree.is_blind() && self.look.is_none() {
            self.look = Some(self.tree.look());
        } else if !self.tree.is_blind() {
            self.look = None;
        }
        if trouble != self.trouble
            && let Some(text) = &trouble
        {
            let _ = self.sender.try_send(Signal::Trouble(text.clone()));
        }
        self.trouble = trouble;
    }

    fn tell(&mut self, now: Instant) {
        if !self.debounce.is_due(now) {
            return;
        }
        match self.sender.try_send(Signal::Changed) {
            Err(TrySendError::Full(_)) => self.debounce.postpone(now + SEND_AGAIN),
            _ => self.debounce.told(),
        }
    }
}

enum Awake {
    Stop,
    Events,
    Time,
}
