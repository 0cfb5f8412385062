//! What the commands share: the repository opened for reading, and the damage met on the way.

use std::ffi::OsStr;
use std::process::ExitCode;

use crate::browse::Place;
use crate::cli::progress::{Running, Work};
use crate::cli::session::{FilterArgs, Session, argument_bytes};
use crate::cli::text::count;
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::snapshot::select::Selector;
use crate::snapshot::{History, Snapshot};
use crate::tree::path_text;
use crate::{Error, Result};

/// A repository that is looked into.
pub(super) struct Opened<'a> {
    pub(super) session: &'a Session,
    pub(super) history: History,
    pub(super) reader: ChunkReader,
    pub(super) running: Running,
}

/// What could not be read and was passed over.
pub(super) struct Damage<'a> {
    context: &'a Context,
    count: u64,
    /// The next step that the first of it names.
    hint: Option<String>,
}

impl<'a> Opened<'a> {
    /// Opens the repository that is configured, and its history and index.
    pub(super) fn open(session: &'a Session) -> Result<Self> {
        let repository = session.open_any()?;
        let history = session.history(&repository)?;
        let reader = session.reader(&repository)?;
        Ok(Self { session, history, reader, running: session.begin(Work::Quiet) })
    }

    pub(super) const fn context(&self) -> &Context {
        self.running.context()
    }

    pub(super) const fn damage(&self) -> Damage<'_> {
        Damage { context: self.context(), count: 0, hint: None }
    }

    /// The snapshot of `SNAP[:PATH]`, and the path if one was named.
    pub(super) fn select(&self, named: &OsStr, filter: &FilterArgs) -> Result<(&Snapshot, Option<Vec<u8>>)> {
        let selector = Selector::parse(argument_bytes(named));
        let snapshot = filter.find(&self.history, &selector.snapshot, selector.path.as_deref())?;
        Ok((snapshot, selector.path))
    }

    pub(super) fn place(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Place> {
        Place::find(&self.reader, snapshot, path)
    }
}

impl Damage<'_> {
    /// Says which directory cannot be read, and lets the command go on.
    pub(super) fn note(&mut self, path: &[u8], error: &Error) {
        self.count += 1;
        self.hint = self.hint.take().or_else(|| error.hint().map(str::to_owned));
        let path = if path.is_empty() { "/".to_owned() } else { path_text::display(path) };
        self.context.report(Event::Damage(format!("cannot read all of {path}: {error}")));
    }

    /// The command's end: damage is an error of its own.
    pub(super) fn finish(self) -> Result<ExitCode> {
        if self.count == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let places = count(self.count, "directory", "directories");
        let own = self.hint.map(|hint| format!("{hint} ")).unwrap_or_default();
        Err(Error::damaged(format_args!("{places} could not be read: what is shown is not all")).with_hint(
            format_args!("{own}`lifeboat check` lists what is damaged and which snapshots it touches."),
        ))
    }
}
