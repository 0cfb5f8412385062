//! The file in which a person's refresh token is kept: 0600, written whole or not at all, refused if others can
//! read it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// Much longer than a token file is.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a login left.
#[derive(Serialize, Deserialize)]
pub(in crate::gdrive) struct StoredToken {
    /// The app it was granted to: it is of no use to another.
    pub(in crate::gdrive) client_id: String,
    pub(in crate::gdrive) refresh_token: Zeroizing<String>,
}

fn failed(kind: ErrorKind, path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::new(kind, "open", path.display(), reason)
}

/// Reads the file.
///
/// # Errors
/// `Denied` if it is not there, readable by others, or not readable; `Misconfigured` if it is something else.
pub(in crate::gdrive) fn read(path: &Path) -> Result<StoredToken> {
    let text = read_secret(path, 0o077, "run `lifeboat provider login gdrive`")?;
    serde_json::from_slice(&text).map_err(|_| {
        failed(ErrorKind::Misconfigured, path, "it is not a token file; run `lifeboat provider login gdrive`")
    })
}

/// The bytes of a file that holds a secret: it may have none of the mode bits `forbidden`.
pub(in crate::gdrive) fn read_secret(
    path: &Path,
    forbidden: u32,
    if_missing: &str,
) -> Result<Zeroizing<Vec<u8>>> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => if_missing,
            _ => "check its owner and mode",
        };
        failed(ErrorKind::Denied, path, format_args!("{error}; {hint}"))
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if mode & forbidden != 0 {
        let reason = format_args!(
            "others can read this secret (mode {:03o}); run `chmod 600 {}`, and if they may have read it, revoke it",
            mode & 0o777,
            path.display()
        );
        return Err(failed(ErrorKind::Denied, path, reason));
    }
    let mut text = Zeroizing::new(Vec::new());
    (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(ErrorKind::Misconfigured, path, "it is too long to be what it should be"));
    }
    Ok(text)
}

/// Writes the file: a crash leaves the old one or the new one. Its folder must be there.
///
/// # Errors
/// `Denied` if it cannot be written.
pub(in crate::gdrive) fn write(path: &Path, token: &StoredToken) -> Result<()> {
    let text = serde_json::to_vec(token)
        .map(Zeroizing::new)
        .map_err(|error| failed(ErrorKind::Other, path, error))?;
    let number = getrandom::u64().unwrap_or_default();
    let temporary = path.with_extension(format!("{number:016x}.tmp"));
    let result = write_and_rename(path, &temporary, &text);
    if result.is_err() {
        // Whatever is there of it is of no use; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|error| failed(ErrorKind::Denied, path, format_args!("it cannot be written: {error}")))
}

fn write_and_rename(path: &Path, temporary: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(text: &str) -> StoredToken {
        StoredToken { client_id: "id".to_owned(), refresh_token: Zeroizing::new(text.to_owned()) }
    }

    #[test]
    fn it_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.json");
        for text in ["one", "two"] {
            write(&path, &token(text)).unwrap();
            assert_eq!(read(&path).unwrap().refresh_token.as_str(), text);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.json");
        write(&path, &token("hidden")).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read(&path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(
                error.to_string().contains("chmod 600") && !error.to_string().contains("hidden"),
                "{error}"
            );
        }
    }

    #[test]
    fn one_that_is_missing_or_something_else_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.json");
        let missing = read(&path).err().unwrap();
        assert_eq!(missing.kind(), ErrorKind::Denied);
        assert!(missing.to_string().contains("lifeboat provider login gdrive"), "{missing}");
        let long = "x".repeat(100_000);
        for other in ["", "{}", "{\"client_id\":1}", "hidden", &long] {
            fs::write(&path, other).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = read(&path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(!error.to_string().contains("hidden"));
        }
    }
}
