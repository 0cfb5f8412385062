//! Bringing data back: walk the snapshot, make directories, write each segment's chunks to all places at once.
//!
//! | module | job |
//! |---|---|
//! | [`selection`] | which entries |
//! | [`target`] | the place they land in: refusals, the mark of an unfinished restore |
//! | [`place`] | directories of the target, made when needed |
//! | [`walk`] | the snapshot's tree, entry by entry |
//! | [`links`] | files with several names |
//! | [`planned`] | a dry run |
//! | [`delete`] | `--delete`, and what is never deleted |
//! | [`file`](mod@file) | one file on its way |
//! | [`landing`] | how a file's data gets under its name |
//! | [`window`] | chunks in the order of the packs they lie in |
//! | [`crew`] | the threads that work off windows |
//!
//! Nothing is followed out of the target, no chunk is written that does not have its id, and a second run of the same restore writes
//! only what is missing.

mod crew;
mod delete;
mod file;
mod landing;
mod links;
mod place;
mod planned;
pub mod selection;
mod target;
mod walk;
mod window;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::events::{Context, Counters, Event};
use crate::fetch::ChunkReader;
use crate::fs::apply::Applier;
use crate::fs::owners::OwnerMap;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::{Error, Kind, Result};

pub use selection::Selection;

/// More next steps than this help nobody.
const ADVICE_MAX: usize = 3;

/// What becomes of files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// They become as in the snapshot; data that is equal is not written.
    Always,
    /// As [`Overwrite::Always`], but files of the same size and time are taken for equal without reading them.
    IfChanged,
    /// Only files that are older than in the snapshot.
    IfNewer,
    /// They stay.
    Never,
}

/// How to restore.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The directory below which entries land.
    pub target: PathBuf,
    /// What becomes of files that are there; `None` refuses a target that is not empty, unless an interrupted restore of the same
    /// snapshot is continued.
    pub overwrite: Option<Overwrite>,
    /// Remove what is in restored directories and not in the snapshot.
    pub delete: bool,
    /// Delete even in a target that has nothing in common with the snapshot.
    pub force: bool,
    /// Change nothing: only report.
    pub dry_run: bool,
    /// Wait until everything is on the disk, read it back and compare, at the end.
    pub verify: bool,
    /// Owners by name instead of by number.
    pub owners_by_name: bool,
    /// Worker threads; 0 for one a core.
    pub threads: usize,
}

impl RestoreOptions {
    /// Into `target`, with all else as people expect.
    pub const fn into_directory(target: PathBuf) -> Self {
        Self {
            target,
            overwrite: None,
            delete: false,
            force: false,
            dry_run: false,
            verify: false,
            owners_by_name: false,
            threads: 0,
        }
    }

    /// Tells this command from others on the same snapshot and target.
    fn fingerprint(&self, path: Option<&[u8]>, selection: &Selection) -> String {
        let said = format!("{path:?} {selection:?} {:?} {} {}", self.overwrite, self.delete, self.force);
        blake3::hash(said.as_bytes()).to_hex().to_string()
    }
}

/// Counts of a restore.
#[derive(Debug, Default)]
pub struct Tally {
    /// Files written, wholly or in part.
    pub files_restored: AtomicU64,
    /// Files whose content was there already.
    pub files_unchanged: AtomicU64,
    /// Files left alone because of `--overwrite`.
    pub files_skipped: AtomicU64,
    /// Directories, links, devices, fifos.
    pub others: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Bytes of all files that are now as in the snapshot.
    pub bytes_total: AtomicU64,
    /// Entries removed by `--delete`.
    pub deleted: AtomicU64,
    /// Entries that could not be restored as they are.
    pub failed: AtomicU64,
    /// Failures because the target is full.
    pub full: AtomicU64,
    /// Failures because stored data is damaged or missing.
    pub damaged: AtomicU64,
    /// Files that were read back and compared.
    pub verified: AtomicU64,
}

/// What a restore came to.
#[derive(Debug)]
pub struct Outcome {
    /// Counts.
    pub tally: Tally,
    /// What could not be put back of owners, attributes and so on; empty if all was.
    pub shortfalls: String,
    /// Some of that was the snapshot's, and root should have been able to put it back.
    pub is_short: bool,
    /// Next steps that failures named, each once.
    pub advice: BTreeSet<String>,
}

impl Outcome {
    /// The error that this outcome deserves, if it was not a full success.
    ///
    /// # Errors
    /// `Damaged` if stored data is damaged; `Failed` if other entries could not be restored.
    pub fn verdict(&self) -> Result<()> {
        let (failed, damaged) = (Counters::get(&self.tally.failed), Counters::get(&self.tally.damaged));
        if damaged > 0 {
            let error = Error::damaged(format_args!(
                "{} could not be restored, {damaged} because stored data is damaged or missing",
                entries(failed)
            ));
            let check = "`lifeboat check --read-data` shows the extent of the damage.";
            return Err(
                error.with_hint(format_args!("What could be read was restored. {}{check}", self.advice()))
            );
        }
        if Counters::get(&self.tally.full) > 0 {
            return Err(Error::new(
                Kind::Quota,
                format_args!("{} could not be restored: the target is full", entries(failed)),
            )
            .with_hint("Make room and run the same command again, with --overwrite if-changed: it restores what is missing."));
        }
        if failed > 0 {
            let when = if self.advice.contains(window::COMPARES_BYTES) { "always" } else { "if-changed" };
            return Err(Error::failed(format_args!("{} could not be restored", entries(failed))).with_hint(
                format_args!(
                    "What could be restored was. {}Run the same command again, with --overwrite {when}, to try the rest once more.",
                    self.advice()
                ),
            ));
        }
        Ok(())
    }

    /// The next steps as sentences, with a blank behind each.
    fn advice(&self) -> String {
        self.advice.iter().map(|sentence| format!("{sentence} ")).collect()
    }
}

fn entries(count: u64) -> String {
    crate::words::count(count, "entry", "entries")
}

/// What the parts of one restore share.
struct Run<'a> {
    reader: &'a ChunkReader,
    /// What is restored.
    snapshot: &'a Snapshot,
    selection: &'a Selection,
    options: &'a RestoreOptions,
    overwrite: Overwrite,
    context: &'a Context,
    applier: Applier,
    tally: Tally,
    /// Next steps that failures named.
    advice: Mutex<BTreeSet<String>>,
    /// Works off windows.
    crew: crew::Crew,
    /// What is never deleted.
    spared: delete::Spared,
    /// Compare only: a difference is a failure.
    verifying: bool,
    /// Hashes of the paths of what was there and had to stay as it is, sorted when verifying: that is not compared.
    kept: Mutex<Vec<u64>>,
    /// Names that files with several names were restored under, by device, inode and content in the snapshot. The content is part of it:
    /// an inode may have been used again for another file while the backup ran.
    links: Mutex<std::collections::HashMap<links::LinkKey, links::FirstName>>,
}

/// Restores `snapshot`, or the entry at `path` of it, below the target.
///
/// Without a path entries land under the target with their whole path; with one, a directory's entries or the file itself land directly
/// in it.
///
/// # Errors
/// `Usage` for a target or path that cannot be, or if the selection picks nothing; `Locked` if another restore into the target is under way;
/// `Interrupted`; errors of the store. What cannot be restored of single entries is no error here: see [`Outcome::verdict`].
pub fn run(
    repository: &Repository,
    snapshot: &Snapshot,
    path: Option<&[u8]>,
    selection: &Selection,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Outcome> {
    context.report(Event::Phase("loading the index"));
    let catalog = repository.load_catalog()?;
    catalog.warn(|text| context.report(Event::Warning(text)));
    let listener = context.clone();
    let reader = ChunkReader::new(repository, Arc::new(catalog.index))
        .with_rescue(move |text| listener.report(Event::Warning(text)));
    let root = snapshot.manifest.root()?;
    let entry = reader.entry_at(&root, path.unwrap_or_default())?;
    let command = options.fingerprint(path, selection);
    let target = target::open(repository, snapshot, &entry, &reader, (options, command), context)?;
    context.counters.expect(entry.bytes());
    let owners = if options.owners_by_name { OwnerMap::by_name() } else { OwnerMap::Numeric };
    let mut run = Run {
        reader: &reader,
        snapshot,
        selection,
        options,
        overwrite: target.overwrite,
        context,
        applier: Applier::new(owners),
        tally: Tally::default(),
        advice: Mutex::default(),
        crew: crew::Crew::default(),
        spared: delete::Spared::of(repository),
        verifying: false,
        kept: Mutex::default(),
        links: Mutex::default(),
    };
    context.report(Event::Phase(if options.dry_run { "comparing" } else { "restoring" }));
    let interrupted = |e: Error| if options.dry_run { e } else { target.says_how_to_go_on(e) };
    run.tree(&entry, path, &target).map_err(interrupted)?;
    if options.verify && !options.dry_run {
        context.report(Event::Phase("verifying"));
        context.counters.expect(entry.bytes());
        run.kept.lock().sort_unstable();
        target.sync()?;
        run.verifying = true;
        run.overwrite = Overwrite::Always;
        run.links.lock().clear();
        run.tree(&entry, path, &target).map_err(interrupted)?;
    }
    target.finish()?;
    if selection.is_partial() && run.has_done_nothing() {
        target.discard(&options.target);
        return Err(Error::usage(format_args!(
            "nothing in snapshot {} matches --include {}",
            snapshot.short_id(),
            selection.included()
        ))
        .with_hint("Patterns have the syntax of .gitignore; `lifeboat find` and `lifeboat ls -R` show what there is."));
    }
    Ok(Outcome {
        shortfalls: run.applier.shortfalls.to_string(),
        is_short: run.applier.shortfalls.are_losses() && rustix::process::geteuid().is_root(),
        tally: run.tally,
        advice: run.advice.into_inner(),
    })
}

impl Run<'_> {
    /// Whether no entry was so much as looked at.
    fn has_done_nothing(&self) -> bool {
        let tally = &self.tally;
        let touched = [
            &tally.files_restored,
            &tally.files_unchanged,
            &tally.files_skipped,
            &tally.others,
            &tally.failed,
        ];
        self.applier.shortfalls.is_empty() && touched.into_iter().all(|counter| Counters::get(counter) == 0)
    }

    /// Counts and reports an entry that could not be restored.
    fn failed(&self, path: &[u8], error: &Error) {
        Counters::add(&self.tally.failed, 1);
        let message = error.to_string();
        Counters::add(&self.tally.full, u64::from(error.kind() == Kind::Quota));
        if let Some(hint) = error.hint() {
            let mut advice = self.advice.lock();
            if advice.len() < ADVICE_MAX {
                advice.insert(hint.to_owned());
            }
        }
        if error.kind() == Kind::Damaged {
            Counters::add(&self.tally.damaged, 1);
            let path = crate::tree::path_text::display(if path.is_empty() { b"/" } else { path });
            self.context.report(Event::Damage(format!("{path}: {message}")));
        } else {
            let kind = crate::snapshot::manifest::FileErrorKind::Other;
            self.context.report(Event::FileError { path: path.to_vec(), kind, message });
        }
    }

    fn failed_io(&self, path: &[u8], what: &str, error: std::io::Error) {
        self.failed(path, &Error::io(what, error));
    }
}
