//! The directory that entries land in: what is refused, and the mark of a restore that is not finished.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Overwrite, RestoreOptions};
use crate::events::{Context, Event};
use crate::fetch::ChunkReader;
use crate::fs::capture;
use crate::repository::state::{make_private_dir, write_atomically};
use crate::repository::{OwnDirectories, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Entry;
use crate::{Error, Kind, Result};

/// Beginning of the name of the mark, in this machine's state directory, that a restore into a target is under way: tells a second run that
/// it continues. Not in the target, which holds nothing but what is restored.
const MARK: &str = "restore-";

/// An open target.
pub(super) struct Target {
    /// `None` for a dry run into a directory that is not there.
    pub(super) directory: Option<OwnedFd>,
    /// The restore made it, so its metadata is the snapshot's to set.
    pub(super) made: bool,
    pub(super) overwrite: Overwrite,
    mark: Option<std::path::PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    snapshot: String,
    /// Of the target: another directory at its place is another target.
    inode: u64,
    /// The restore made the target.
    made: bool,
    /// What was asked for: another command does not continue this one, and what it may not touch it may not touch because of this one.
    command: String,
}

/// Opens the target, making it if there is none.
///
/// # Errors
/// `Usage` if it lies in the repository, is no directory, or is not empty and nothing says that this is meant; `Locked` if another restore
/// into it is under way.
pub(super) fn open(
    repository: &Repository,
    snapshot: &Snapshot,
    entry: &Entry,
    reader: &ChunkReader,
    (options, command): (&RestoreOptions, String),
    context: &Context,
) -> Result<Target> {
    let path = &options.target;
    let shown = path.display();
    refuse_own_repository(repository, path)?;
    let made = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => false,
        Ok(_) => {
            return Err(Error::usage(format_args!("the target {shown} is not a directory"))
                .with_hint("Name a directory; it is made if it is not there."));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && options.dry_run => {
            return Ok(Target { directory: None, made: false, overwrite: Overwrite::Always, mark: None });
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(|e| Error::io(format_args!("cannot make the target {shown}"), e))?;
            true
        }
        Err(e) => return Err(Error::io(format_args!("cannot look at the target {shown}"), e)),
    };
    let directory = capture::open_dir_path(path.as_os_str().as_bytes())
        .map_err(|e| Error::io(format_args!("cannot open the target {shown}"), e))?;
    if !options.dry_run {
        lock(&directory, path)?;
    }
    let mark_path = mark_path(repository, path)?;
    let inode = capture::stat_fd(std::os::fd::AsFd::as_fd(&directory))
        .map_err(|e| Error::io(format_args!("cannot look at the target {shown}"), e))?
        .meta
        .inode;
    let snapshot_id = snapshot.id.to_string();
    let begun = read_mark(&mark_path)
        .filter(|mark| mark.snapshot == snapshot_id && mark.inode == inode && mark.command == command);
    let continues = begun.is_some();
    let made = made || begun.is_some_and(|mark| mark.made);
    let own_mark = Mark { snapshot: snapshot_id, inode, made, command };
    let names = capture::read_names(std::os::fd::AsFd::as_fd(&directory))
        .map_err(|e| Error::io(format_args!("cannot list the target {shown}"), e))?;
    let occupied = !names.is_empty();
    if occupied && options.overwrite.is_none() && !continues && !options.dry_run {
        return Err(Error::usage(format_args!("the target {shown} is not empty")).with_hint(
            "Name an empty or new directory, or say with --overwrite what becomes of files that are there.",
        ));
    }
    if occupied && options.overwrite.is_none() && continues && !options.dry_run {
        context.report(Event::Notice(format!(
            "continuing a restore that was interrupted: what differs from the snapshot in {shown} is replaced"
        )));
    }
    let unread = snapshot.manifest.errors_total;
    if options.delete && occupied && !options.force && unread > 0 {
        return Err(Error::usage(format_args!(
            "{} could not be read when the snapshot was made: --delete would remove what is here of them",
            crate::words::count(unread, "path", "paths")
        ))
        .with_hint("Restore without --delete, or with --force if they may go."));
    }
    if options.delete && occupied && !options.force && snapshot.manifest.filtered {
        return Err(Error::usage(
            "files were left out by --exclude or the like when the snapshot was made: --delete would remove what is here of them",
        )
        .with_hint("Restore without --delete, or with --force if they may go; see what would go with --dry-run."));
    }
    if options.delete && occupied && !options.force && !continues {
        refuse_unrelated(entry, reader, &names, path)?;
    }
    let mark = if options.dry_run {
        None
    } else {
        let json = serde_json::to_vec(&own_mark).map_err(|e| Error::failed(e.to_string()))?;
        let written = make_private_dir(&repository.directories().state)
            .and_then(|()| write_atomically(&mark_path, &json));
        match written {
            Ok(()) => Some(mark_path),
            // On a rescue system nothing but the target may be writable: that must be enough.
            Err(e) => {
                context.report(Event::Warning(format!(
                    "{e}. If this restore is interrupted, it continues only with --overwrite always, or with another directory \
                     named by LIFEBOAT_STATE_DIR"
                )));
                None
            }
        }
    };
    let overwrite = match options.overwrite.unwrap_or(Overwrite::Always) {
        // What a killed run left may have the right size and time and not its bytes: it is looked at.
        Overwrite::IfChanged if continues => Overwrite::Always,
        overwrite => overwrite,
    };
    Ok(Target { directory: Some(directory), made, overwrite, mark })
}

/// Keeps other restores out of the target for as long as it is open: they would write the same names. A kill ends that too, and nothing is
/// left of it.
///
/// # Errors
/// `Locked` if another restore is under way.
fn lock(directory: &OwnedFd, path: &Path) -> Result<()> {
    use rustix::fs::{FlockOperation, flock};
    match rustix::io::retry_on_intr(|| flock(directory, FlockOperation::NonBlockingLockExclusive)) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
            Kind::Locked,
            format_args!("the target {} is locked: another restore into it is under way", path.display()),
        )
        .with_hint("Wait until it has ended, or name another target.")),
        // Some file systems of other machines have no locks: then nobody is kept out, as with any other program.
        _ => Ok(()),
    }
}

impl Target {
    /// An interruption with the next step.
    pub(super) fn says_how_to_go_on(&self, error: Error) -> Error {
        if error.kind() != Kind::Interrupted {
            return error;
        }
        match &self.mark {
            Some(_) => error.with_hint(
                "What is restored so far stays. Run the same command again: it continues from there.",
            ),
            None => error.with_hint(
                "What is restored so far stays. Run the same command again with --overwrite always: it restores what is missing.",
            ),
        }
    }

    /// Waits until all that was restored is on the disk. Without it the system writes in its own time, as after `cp` or `tar`: the store
    /// still has everything.
    pub(super) fn sync(&self) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        rustix::fs::syncfs(directory).map_err(|e| Error::io("cannot write the target to its disk", e))
    }

    /// Removes the target, if this restore made it and nothing is in it.
    pub(super) fn discard(&self, path: &Path) {
        if self.made && self.directory.is_some() {
            // What is in it keeps it; else it is of no use to anybody.
            let _ = std::fs::remove_dir(path);
        }
    }

    /// Removes the mark: this restore is over, and what is in the target from now on is the user's.
    pub(super) fn finish(&self) -> Result<()> {
        let Some(mark) = &self.mark else { return Ok(()) };
        match std::fs::remove_file(mark) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format_args!("cannot remove {}", mark.display()), e))
            }
            _ => Ok(()),
        }
    }
}

/// Where the mark for a target is kept.
fn mark_path(repository: &Repository, target: &Path) -> Result<std::path::PathBuf> {
    let real = std::fs::canonicalize(target)
        .map_err(|e| Error::io(format_args!("cannot use the target {}", target.display()), e))?;
    let name = blake3::hash(real.as_os_str().as_bytes()).to_hex();
    let short: String = name.chars().take(32).collect();
    Ok(repository.directories().state.join(format!("{MARK}{short}.json")))
}

fn read_mark(path: &Path) -> Option<Mark> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Restoring into a destination would damage what is restored from, now or later.
fn refuse_own_repository(repository: &Repository, target: &Path) -> Result<()> {
    let shown = target.display();
    let around = OwnDirectories::destination_around(repository, target)
        .map_err(|e| Error::io(format_args!("cannot use the target {shown}"), e))?;
    match around {
        Some(what) => Err(Error::usage(format_args!("the target {shown} lies in the repository: in {what}"))
            .with_hint("Name a directory outside of it.")),
        None => Ok(()),
    }
}

/// `--delete` in a directory that has nothing in common with the snapshot is most likely a mistyped target.
fn refuse_unrelated(
    entry: &Entry,
    reader: &ChunkReader,
    names: &[capture::DirEntry],
    target: &Path,
) -> Result<()> {
    let entries = match entry.content() {
        Some(content) if entry.is_directory() => reader.directory(content)?,
        _ => vec![entry.clone()],
    };
    if entries.iter().any(|entry| names.iter().any(|name| name.name == entry.name)) {
        return Ok(());
    }
    Err(Error::usage(format_args!(
        "--delete would remove all that is in {}, which has nothing in common with the snapshot",
        target.display()
    ))
    .with_hint("Check the target; --force says that it is meant."))
}
