//! `lifeboat source`: the sources of the configuration, and putting them back where they were.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitCode};

use clap::{Args, Subcommand};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::EXIT_INCOMPLETE;
use super::progress::Work;
use super::session::Session;
use super::text::{local_time, not_empty};
use crate::browse::Place;
use crate::browse::dump::dump_content;
use crate::config::Source;
use crate::config::source::{CommandSource, SourceKind};
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::fs::size::human;
use crate::snapshot::Snapshot;
use crate::snapshot::select::Filter;
use crate::source::process::Run;
use crate::source::sqlite::restore::{Restoring, refuse_held};
use crate::tree::{EntryKind, path_text};
use crate::{Error, Result};

/// How long a stop may go unnoticed.
const LOOK_AT_STOP_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Look at sources, and put them back.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// List the sources of the configuration
    List,
    /// Put databases back in their place, or give a dump to the program that takes it in
    Restore(RestoreSource),
}

/// Arguments of `source restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "A database is written beside its place, checked, and then takes the place of the old one, which stays as \
                        NAME.lifeboat-before-TIME. It is refused while a program has the old one open.\n\n\
                        Exit code 3: some databases were restored, and the snapshot lacks others."
)]
pub struct RestoreSource {
    /// Name of the source
    #[arg(value_name = "SOURCE")]
    name: String,
    /// Which: id, latest, latest~N, of the source's snapshots
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    snapshot: String,
    /// Only the database of this path
    #[arg(long, value_name = "PATH")]
    path: Option<PathBuf>,
    /// Snapshots of this machine [default: this one]
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    host: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl SourceCommand {
    /// Runs it.
    ///
    /// # Errors
    /// The command's.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::List => list(session),
            Self::Restore(command) => command.run(session),
        }
    }
}

fn list(session: &Session) -> Result<ExitCode> {
    let output = &session.output;
    let sources = &session.settings.sources;
    for source in sources {
        let what = match &source.kind {
            SourceKind::Files(kind) => paths_text(&kind.paths),
            SourceKind::Sqlite(kind) => paths_text(&kind.paths),
            SourceKind::Command(kind) => kind.command.first().cloned().unwrap_or_default(),
        };
        if output.json() {
            let object = json!({
                "name": source.name,
                "kind": source.kind_word(),
                "what": what,
                "to": source.to,
                "classes": source.classes,
                "tags": source.tags,
                "on_change": source.on_change.is_some(),
                "priority": source.priority,
            });
            output.object("source", &object)?;
        } else {
            output.line(format_args!("{}  {}  {what}", source.name, source.kind_word()))?;
        }
    }
    if sources.is_empty() {
        output.notice("The configuration has no [[source]]; config.example.toml shows how to write one.");
    }
    Ok(ExitCode::SUCCESS)
}

fn paths_text(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path_text::display(path.as_os_str().as_bytes())).collect::<Vec<_>>().join(", ")
}

impl RestoreSource {
    fn run(self, session: &Session) -> Result<ExitCode> {
        let source = Source::named(&session.settings.sources, &self.name)?;
        if let SourceKind::Files(_) = source.kind {
            let name = &source.name;
            return Err(Error::usage(format_args!(
                "source {name} is of files, which are restored into a directory"
            ))
            .with_hint(format_args!("lifeboat restore {} --source {name} --target DIR", self.snapshot)));
        }
        let repository = session.open_any()?;
        let history = session.history(&repository)?;
        let host = self.host.clone().unwrap_or_else(|| session.settings.host.clone());
        let filter = Filter { host: Some(host), source: Some(source.name.clone()), ..Filter::default() };
        let snapshot = history.find(&self.snapshot, &filter)?;
        let reader = session.reader(&repository)?;
        let (of, time) = (&snapshot.manifest.host, local_time(&snapshot.manifest.time));
        session.output.say(format_args!("Snapshot {} of {of} ({time})", snapshot.short_id()));
        let running = session.begin(Work::Restore);
        let context = running.context();
        let restored = match &source.kind {
            SourceKind::Command(kind) => {
                self.command(session, kind, snapshot, &reader, context).map(|()| true)
            }
            _ => self.databases(session, snapshot, &reader, context),
        };
        running.end();
        Ok(if restored? { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
    }

    /// Restores databases; `false` if the snapshot lacks some.
    fn databases(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        reader: &ChunkReader,
        context: &Context,
    ) -> Result<bool> {
        let manifest = &snapshot.manifest;
        let mut paths = manifest.path_bytes();
        if let Some(path) = &self.path {
            let real = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
            let wanted = real.map_err(|e| Error::io(path.display(), e))?.as_os_str().as_bytes().to_vec();
            if !paths.contains(&wanted) {
                let all: Vec<String> = paths.iter().map(|path| path_text::display(path)).collect();
                return Err(Error::usage(format_args!("{} is not in this snapshot", path.display()))
                    .with_hint(format_args!("It has these: {}.", all.join(", "))));
            }
            paths = vec![wanted];
        }
        let mut is_whole = true;
        let mut places = Vec::new();
        for path in paths {
            match manifest.error_of(&path) {
                Some(error) => {
                    is_whole = false;
                    let path = path_text::display(&path);
                    session.output.warning(format_args!("the snapshot lacks {path}: {}", error.message));
                }
                None => places.push(Place::find(reader, snapshot, &path)?),
            }
        }
        if places.is_empty() {
            return Err(Error::failed("the snapshot has none of the databases")
                .with_hint("An older one may have them: `lifeboat snapshots --source NAME`."));
        }
        // Before anything is changed.
        for place in &places {
            refuse_held(database_path(place))?;
        }
        for place in &places {
            self.database(session, place, reader, context)?;
        }
        Ok(is_whole)
    }

    fn database(
        &self,
        session: &Session,
        place: &Place,
        reader: &ChunkReader,
        context: &Context,
    ) -> Result<()> {
        let EntryKind::File { size, content } = &place.listed.entry.kind else {
            return Err(Error::failed(format_args!("{} is no file in the snapshot", place.display())));
        };
        let database = database_path(place);
        let bytes = human(*size);
        if self.dry_run {
            return session.output.line(format_args!("{} would be restored ({bytes})", place.display()));
        }
        let (restoring, mut file) = Restoring::begin(database)?;
        dump_content(reader, context, content, &mut file).map_err(|e| e.context(place.display()))?;
        let written = file.metadata().map_err(|e| Error::io(place.display(), e))?.len();
        if written != *size {
            return Err(Error::damaged(format_args!(
                "{} has {written} bytes and not {size}",
                place.display()
            )));
        }
        let swapped = restoring.finish(&file, &place.listed.entry.meta, context)?;
        let before = swapped.before.map(|path| path_text::display(path.as_os_str().as_bytes()));
        if session.output.json() {
            let object = json!({ "path": path_text::to_text(&place.path), "bytes": size, "before": before });
            return session.output.object("restored", &object);
        }
        let kept = before.map(|path| format!("; the old one is {path}")).unwrap_or_default();
        session.output.line(format_args!("{} restored and checked ({bytes}){kept}", place.display()))
    }

    fn command(
        &self,
        session: &Session,
        source: &CommandSource,
        snapshot: &Snapshot,
        reader: &ChunkReader,
        context: &Context,
    ) -> Result<()> {
        let Some(command) = &source.restore else {
            let file = path_text::display(source.file.as_os_str().as_bytes());
            return Err(Error::usage(format_args!(
                "source {} has no `restore`: no program takes its dump in",
                self.name
            ))
            .with_hint(format_args!(
                "Add it to the configuration, or: lifeboat dump {}:{file} --output FILE",
                snapshot.short_id()
            )));
        };
        if let Some(path) = self.path.as_ref().filter(|path| **path != source.file) {
            return Err(Error::usage(format_args!(
                "{} is not the file of source {}",
                path.display(),
                self.name
            )));
        }
        let place = Place::find(reader, snapshot, source.file.as_os_str().as_bytes())?;
        let EntryKind::File { size, content } = &place.listed.entry.kind else {
            return Err(Error::failed(format_args!("{} is no file in the snapshot", place.display())));
        };
        let program = command.first().map_or("", String::as_str);
        if self.dry_run {
            return session.output.line(format_args!(
                "{} ({}) would go to {program}",
                place.display(),
                human(*size)
            ));
        }
        let mut running = Run { command, takes_input: true, ..Run::default() }.start()?;
        let input = running.child.stdin.take();
        let input = input.ok_or_else(|| Error::failed("a program was started without its input"))?;
        let mut input = Input { input, context, is_closed: false };
        match dump_content(reader, context, content, &mut input) {
            Ok(()) => {}
            // Why it takes no more, it says itself.
            Err(_) if input.is_closed => {}
            Err(e) => {
                // Ended before its input does: it must not take half a dump for a whole one.
                running.end();
                return Err(e.context(format_args!("{program} was ended before it had all")));
            }
        }
        let is_closed = input.is_closed;
        drop(input);
        running.finish(None, context)?;
        if is_closed {
            return Err(Error::failed(format_args!(
                "{program} ended well, and did not read all of the dump"
            )));
        }
        session.output.line(format_args!("{} ({}) taken in by {program}", place.display(), human(*size)))
    }
}

fn database_path(place: &Place) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(&place.path))
}

/// A program's input that can be interrupted.
struct Input<'a> {
    input: ChildStdin,
    context: &'a Context,
    /// The program reads no more.
    is_closed: bool,
}

impl Write for Input<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A pipe that can be written to takes at least this much without waiting.
        const PIPE_BYTES: usize = 4096;
        loop {
            if self.context.stopped() {
                return Err(io::Error::other("interrupted"));
            }
            match poll(&mut [PollFd::new(&self.input, PollFlags::OUT)], Some(&LOOK_AT_STOP_EVERY)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        let piece = bytes.get(..PIPE_BYTES).unwrap_or(bytes);
        let written = self.input.write(piece);
        self.is_closed |= written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}
