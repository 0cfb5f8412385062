//! Files that hold a secret: read if nobody else can read them, refused otherwise, with the command that mends it.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::tree::path_text;
use crate::{Error, Result};

/// No secret is longer: more is a mistaken path.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Who sees to it that only the right ones read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Its mode, which is checked.
    Mode,
    /// systemd.
    System,
}

/// The text of a file of secrets, which messages call `what`.
///
/// # Errors
/// `Usage` if it cannot be read, is no text or too long, or if others can read it.
pub fn read(path: &Path, what: &str, guard: Guard) -> Result<Zeroizing<String>> {
    let cannot = |e: std::io::Error| {
        let why = crate::error::describe_io(&e);
        let error = Error::usage(format_args!("cannot read the {what} {}: {why}", name(path)));
        match e.kind() {
            std::io::ErrorKind::NotFound => error.with_hint("Check the path."),
            std::io::ErrorKind::PermissionDenied => {
                error.with_hint("It must be readable by the user who runs lifeboat, and by no other.")
            }
            _ => error,
        }
    };
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err(Error::usage(format_args!("the {what} {} is a directory", name(path))));
    }
    if guard == Guard::Mode {
        refuse_readable_by_others(&metadata, path, what)?;
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::usage(format_args!("the {what} {} is not text", name(path))))
        }
        Err(e) => Err(cannot(e)),
        Ok(bytes) if bytes as u64 > SECRET_BYTES_MAX => {
            Err(Error::usage(format_args!("the {what} {} is too long to be one", name(path))))
        }
        Ok(_) => Ok(text),
    }
}

/// Refuses a regular file that its group or all can read. A group is fine where it is how this user gets to read it.
///
/// # Errors
/// `Usage` with the command to run.
pub fn refuse_readable_by_others(metadata: &Metadata, path: &Path, what: &str) -> Result<()> {
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    let forbidden = if own { 0o077 } else { 0o007 };
    if !metadata.is_file() || metadata.mode() & forbidden == 0 {
        return Ok(());
    }
    let quoted = path.to_string_lossy();
    Err(Error::usage(format_args!("the {what} {} can be read by others", name(path)))
        .with_hint(format_args!("Run: chmod 600 {}", shell_words::quote(&quoted))))
}

fn name(path: &Path) -> String {
    path_text::display(path.as_os_str().as_bytes())
}
