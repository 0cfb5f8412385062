//! From the place that a person names to the store there, with retries of what may pass.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_providers::layer::{self, StackOptions};
use lifeboat_providers::local::LocalProvider;
use lifeboat_providers::{ErrorKind, SharedProvider};

use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// A place for a repository, as named by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Local(PathBuf),
}

/// Whether a place must be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It must.
    Open,
    /// It is made if it is not.
    Create,
}

impl Location {
    /// Understands a path or a URL.
    ///
    /// # Errors
    /// `Usage` for a scheme or form that this version does not know.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let shown = path_text::display(bytes);
        if bytes.is_empty() {
            return Err(Error::usage("the repository's name is empty"));
        }
        let Some((scheme, rest)) = split_scheme(bytes) else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        if !scheme.eq_ignore_ascii_case("file") {
            return Err(Error::usage(format_args!("{shown}: lifeboat knows no store `{scheme}:`"))
                .with_hint(format_args!(
                    "Name a directory or file:///a/directory; a directory that is called so is ./{shown}."
                )));
        }
        let path = rest.strip_prefix(b"//localhost/").map(|path| [b"/", path].concat());
        let path =
            path.or_else(|| rest.strip_prefix(b"//").map(<[u8]>::to_vec)).unwrap_or_else(|| rest.to_vec());
        match percent_decoded(&path) {
            Some(path) if path.starts_with(b"/") && !path.contains(&0) => {
                Ok(Self::Local(PathBuf::from(std::ffi::OsString::from_vec(path))))
            }
            _ => Err(Error::usage(format_args!("{shown} is not the URL of a directory on this machine"))
                .with_hint("Write file:///the/whole/path.")),
        }
    }

    /// The store at this place.
    ///
    /// # Errors
    /// `NoRepository` if it is not there and is not to be made; errors of the store.
    pub fn connect(&self, mode: Mode) -> Result<SharedProvider> {
        let Self::Local(path) = self;
        let provider: SharedProvider = match mode {
            Mode::Open => Arc::new(LocalProvider::open(path).map_err(|e| explain(e, path))?),
            Mode::Create => Arc::new(LocalProvider::create(path).map_err(|e| explain(e, path))?),
        };
        Ok(layer::stack(provider, StackOptions::default()))
    }

    /// The directory, where it is one of this machine.
    pub fn local_path(&self) -> Option<&Path> {
        let Self::Local(path) = self;
        Some(path)
    }
}

fn explain(error: lifeboat_providers::Error, path: &Path) -> Error {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = path_text::display(whole.as_os_str().as_bytes());
    match error.kind() {
        ErrorKind::NotFound => {
            Error::new(Kind::NoRepository, format_args!("there is no repository at {shown}"))
                .with_hint("Check the path, or make one with `lifeboat init`.")
        }
        ErrorKind::Misconfigured => Error::new(Kind::NoRepository, &error).with_source(error),
        _ => Error::from(error),
    }
}

/// `scheme:rest`, if the text begins like a URL: no slash comes before the colon.
fn split_scheme(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let scheme = std::str::from_utf8(bytes.get(..colon)?).ok()?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    is_scheme.then(|| (scheme, bytes.get(colon + 1..).unwrap_or_default()))
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |c: u8| char::from(c).to_digit(16);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(byte);
                tail
            }
        };
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> Option<PathBuf> {
        let Location::Local(path) = Location::parse(OsStr::new(text)).ok()?;
        Some(path)
    }

    #[test]
    fn paths_and_file_urls_are_directories() {
        for (text, path) in [
            ("/srv/backup", "/srv/backup"),
            ("backup", "backup"),
            ("./a:b", "./a:b"),
            ("/a:b", "/a:b"),
            ("file:///srv/my%20backup", "/srv/my backup"),
            ("file://localhost/srv", "/srv"),
            ("FILE:/srv", "/srv"),
        ] {
            assert_eq!(local(text).as_deref(), Some(Path::new(path)), "{text}");
        }
    }

    #[test]
    fn other_schemes_and_forms_are_usage_errors() {
        for text in
            ["s3://bucket", "sftp:me@host:/x", "memory:", "file://host/x", "file:x", "file:///%zz", ""]
        {
            let error = Location::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
        }
    }
}
