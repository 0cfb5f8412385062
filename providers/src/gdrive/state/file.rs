//! The file behind the facts: appended to by whole lines, read on by all who have it open, made short when it is
//! opened by nobody else.
//!
//! A second file beside it is locked (`flock`) as long as it is open: shared by all, or alone by the one who makes it
//! short. The addresses of unfinished uploads in it let whoever has one write to it, so it is 0600.

use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::facts::{Fact, Facts};
use crate::{Error, ErrorKind, Result};

/// How much is read at once.
const READ_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: File,
    /// Up to where it was read; always the end of a line.
    read_to: u64,
    /// Held while the file is open.
    _lock: File,
}

impl StateFile {
    /// Opens the file of `folder` in `dir` and takes its lines into `facts`.
    pub(super) fn open(dir: &Path, folder: &str, facts: &mut Facts, now: u64) -> Result<Self> {
        let failed = |error: std::io::Error| failed(dir, error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let path = dir.join(format!("drive-{folder}.jsonl"));
        let lock = private(&dir.join(format!("drive-{folder}.lock"))).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            shorten(&path, now).map_err(failed)?;
        }
        // Not atomic: another process may come in between, and shortens before it is let go on as we are.
        flock(&lock, FlockOperation::LockShared).map_err(|errno| failed(errno.into()))?;
        let file = private(&path).map_err(failed)?;
        let mut state = Self { path, file, read_to: 0, _lock: lock };
        state.catch_up(facts)?;
        Ok(state)
    }

    /// Appends the lines of facts, by one write. An empty line goes before them, so that the torn line of a process
    /// that was killed spoils none of them.
    pub(super) fn append(&mut self, facts: &[Fact]) -> Result<()> {
        let text = lines(facts).map_err(|error| failed(&self.path, error))?;
        self.file.write_all(&text).map_err(|error| failed(&self.path, error))
    }

    /// Takes in what was appended since, by whomever.
    pub(super) fn catch_up(&mut self, facts: &mut Facts) -> Result<()> {
        let path = self.path.clone();
        self.read_on(facts).map_err(|error| failed(&path, error))
    }

    fn read_on(&mut self, facts: &mut Facts) -> std::io::Result<()> {
        let mut rest = Vec::new();
        while self.file.metadata()?.len() > self.read_to + rest.len() as u64 {
            self.file.seek(SeekFrom::Start(self.read_to + rest.len() as u64))?;
            let before = rest.len();
            (&mut self.file).take(READ_BYTES).read_to_end(&mut rest)?;
            if rest.len() == before {
                break;
            }
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let whole = rest.drain(..=end).collect::<Vec<u8>>();
            for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if let Ok(line) = std::str::from_utf8(line) {
                    facts.apply_line(line);
                }
            }
            self.read_to += whole.len() as u64;
        }
        Ok(())
    }
}

/// Replaces the file by one with the same facts and no more. Nobody else has it open.
fn shorten(path: &Path, now: u64) -> std::io::Result<()> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut facts = Facts::default();
    for line in text.split(|byte| *byte == b'\n') {
        if let Ok(line) = std::str::from_utf8(line) {
            facts.apply_line(line);
        }
    }
    let temporary = path.with_extension("tmp");
    // Left by a process that was killed here.
    let _ = fs::remove_file(&temporary);
    let mut file = private(&temporary)?;
    file.write_all(&lines(&facts.compact(now))?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn lines(facts: &[Fact]) -> std::io::Result<Vec<u8>> {
    let mut text = vec![b'\n'];
    for fact in facts {
        serde_json::to_writer(&mut text, fact)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Opens a file for reading and appending, made with mode 0600 if it is not there.
fn private(path: &Path) -> std::io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o600).open(path)
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => ErrorKind::Misconfigured,
        _ => ErrorKind::Other,
    };
    let reason = format_args!(
        "{error}; the local state of Google Drive is kept in {}, which must be writable",
        path.display()
    );
    Error::new(kind, "open", path.display(), reason)
}
