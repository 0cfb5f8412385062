//! From the place that a person names to the store there, with retries of what may pass.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(feature = "gdrive")]
use lifeboat_providers::gdrive::{
    ClientSecret, Credentials, DriveAddress, DriveOptions, DriveProvider, KeySource,
};
#[cfg(any(feature = "s3", feature = "gdrive"))]
use lifeboat_providers::http::HttpSettings;
#[cfg(feature = "gdrive")]
use lifeboat_providers::http::{Connector, connector};
use lifeboat_providers::layer::limit::LimitPolicy;
use lifeboat_providers::layer::retry::RetryNotify;
use lifeboat_providers::layer::{self, CancelProvider, Operation, StackOptions};
use lifeboat_providers::local::LocalProvider;
use lifeboat_providers::pace::{Limits, Pace};
#[cfg(feature = "s3")]
use lifeboat_providers::s3::{AccessKey, S3Address, S3Options, S3Provider};
use lifeboat_providers::{ErrorKind, SharedProvider};

use super::Area;
#[cfg(any(feature = "s3", feature = "gdrive"))]
use super::runtime;
#[cfg(feature = "gdrive")]
use crate::private_file::{self, Guard};
use crate::tree::path_text;
use crate::{Error, Kind, Result};

/// A place for a repository, as named by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Local(PathBuf),
    /// A folder of a bucket.
    #[cfg(feature = "s3")]
    S3(S3Address),
    /// A folder on Google Drive.
    #[cfg(feature = "gdrive")]
    Drive(DriveAddress),
}

/// What a store is opened with besides its place.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// Where this machine keeps what it finds out about stores; `None` for nowhere.
    pub state: Option<PathBuf>,
    /// The access key of an S3 store; `None` for what AWS's tools would use.
    #[cfg(feature = "s3")]
    pub access_key: Option<AccessKey>,
    /// Whose Google account.
    #[cfg(feature = "gdrive")]
    pub google: Google,
    /// Bytes a second and objects a second.
    pub limits: Limits,
    /// Who watches its calls.
    pub watch: Watch,
}

/// Who watches the calls of a store.
#[derive(Clone, Default)]
pub struct Watch {
    /// Ends calls of a distant store when it is set.
    pub stop: Option<Arc<AtomicBool>>,
    /// Told of every attempt that failed.
    pub notify: Option<RetryNotify>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("stop", &self.stop).field("notify", &self.notify.is_some()).finish()
    }
}

/// Where the credentials of a Google account are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Google {
    /// The JSON of the app that was registered with Google.
    pub client: PathBuf,
    /// What `lifeboat provider login gdrive` left.
    pub token: PathBuf,
    /// The key of a service account, which goes before the two others.
    pub service_account: Option<PathBuf>,
    /// The person that the service account acts for.
    pub subject: Option<String>,
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
        #[cfg(feature = "s3")]
        if scheme.eq_ignore_ascii_case("s3") {
            let address = S3Address::parse(&text.to_string_lossy()).map_err(|e| {
                Error::usage(&e).with_hint(
                    "The form is s3://bucket/folder?endpoint=https://…&region=…; docs/operations/cloud-setup.md has examples.",
                )
            })?;
            return Ok(Self::S3(address));
        }
        #[cfg(feature = "gdrive")]
        if scheme.eq_ignore_ascii_case("gdrive") {
            let address = DriveAddress::parse(&text.to_string_lossy()).map_err(|e| {
                Error::usage(&e).with_hint("The form is gdrive://FOLDER-ID; `lifeboat provider login gdrive` makes a folder and prints it.")
            })?;
            return Ok(Self::Drive(address));
        }
        if !scheme.eq_ignore_ascii_case("file") {
            return Err(Error::usage(format_args!("{shown}: lifeboat knows no store `{scheme}:`"))
                .with_hint(format_args!(
                    "Name a directory, file:///a/directory, s3://bucket/folder or gdrive://FOLDER-ID; a directory that is called so is ./{shown}."
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
    pub fn connect(&self, mode: Mode, options: &StoreOptions) -> Result<SharedProvider> {
        let pace = Pace::new(options.limits.clone());
        let provider: SharedProvider = match self {
            Self::Local(path) => match mode {
                Mode::Open => Arc::new(LocalProvider::open(path).map_err(|e| explain(e, path))?),
                Mode::Create => Arc::new(LocalProvider::create(path).map_err(|e| explain(e, path))?),
            },
            #[cfg(feature = "s3")]
            Self::S3(address) => Arc::new(connect_s3(address, options, &pace)?),
            #[cfg(feature = "gdrive")]
            Self::Drive(address) => Arc::new(connect_drive(address, options, &pace)?),
        };
        let is_far = self.local_path().is_none();
        let stack = StackOptions {
            limit: LimitPolicy { transport_is_paced: is_far, ..LimitPolicy::default() },
            pace,
            notify: options.watch.notify.clone(),
            ..StackOptions::default()
        };
        let provider = layer::stack(provider, stack);
        // A disk of this machine is quick enough to finish what it was given.
        let stop = options.watch.stop.as_ref().filter(|_| is_far);
        Ok(match stop {
            Some(stop) => Arc::new(CancelProvider::new(provider, stop.clone(), puts_in_order)),
            None => provider,
        })
    }

    /// The place in words, as [`lifeboat_providers::Provider::location`] of its store says it, without a connection.
    pub fn place(&self) -> String {
        match self {
            Self::Local(path) => {
                let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                absolute.display().to_string()
            }
            #[cfg(feature = "s3")]
            Self::S3(address) => address.to_string(),
            #[cfg(feature = "gdrive")]
            Self::Drive(address) => format!("gdrive://{}", address.folder),
        }
    }

    /// The directory, where it is one of this machine.
    pub fn local_path(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            #[cfg(feature = "s3")]
            Self::S3(_) => None,
            #[cfg(feature = "gdrive")]
            Self::Drive(_) => None,
        }
    }
}

/// What a run that is asked to stop still does: index what was stored, say that it is over. Packs are what it stops.
fn puts_in_order(operation: Operation, subject: &str) -> bool {
    let is_pack = [Area::Packs, Area::Meta].iter().any(|area| subject.starts_with(area.name()));
    matches!(operation, Operation::Put | Operation::Delete | Operation::DeleteMany) && !is_pack
}

/// The provider of a bucket, for those who need more of it than the contract has.
///
/// # Errors
/// `NoRepository` if the system has no root certificates.
#[cfg(feature = "s3")]
pub fn connect_s3(address: &S3Address, options: &StoreOptions, pace: &Pace) -> Result<S3Provider> {
    let s3 = S3Options {
        access_key: options.access_key.clone(),
        state_dir: options.state.clone(),
        ..S3Options::default()
    };
    let http = HttpSettings { pace: pace.clone(), ..HttpSettings::default() };
    let connecting = S3Provider::connect(address.clone(), s3, &http);
    Ok(runtime::shared()?.block_on(connecting)?)
}

#[cfg(feature = "gdrive")]
fn connect_drive(address: &DriveAddress, options: &StoreOptions, pace: &Pace) -> Result<DriveProvider> {
    let state = options.state.clone().unwrap_or_else(|| PathBuf::from("/var/tmp/lifeboat-stores"));
    let drive = DriveOptions {
        shared_drive: address.shared_drive.clone(),
        endpoint: address.endpoint.clone(),
        ..DriveOptions::new(
            &address.folder,
            google_credentials(&options.google)?,
            state.join("gdrive").join(&address.folder),
        )
    };
    let connector = google_connector(address.endpoint.as_deref(), pace)?;
    Ok(runtime::shared()?.block_on(DriveProvider::connect(drive, connector))?)
}

/// Connections to Google, or to what stands for it.
///
/// # Errors
/// `NoRepository` if the system has no root certificates.
#[cfg(feature = "gdrive")]
pub fn google_connector(endpoint: Option<&str>, pace: &Pace) -> Result<Connector> {
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = HttpSettings { pace: pace.clone(), ..HttpSettings::default() };
    Ok(connector(&http, !is_plain)?)
}

/// The credentials that are there.
///
/// # Errors
/// `Usage` that says how to get some if there are none.
#[cfg(feature = "gdrive")]
pub fn google_credentials(google: &Google) -> Result<Credentials> {
    if let Some(path) = &google.service_account {
        return Ok(Credentials::ServiceAccount {
            key: KeySource::File(path.clone()),
            subject: google.subject.clone(),
        });
    }
    Ok(Credentials::User { client: google_client(&google.client)?, token_file: google.token.clone() })
}

/// The app that was registered with Google.
///
/// # Errors
/// `Usage` if its file cannot be read or is none.
#[cfg(feature = "gdrive")]
pub fn google_client(path: &Path) -> Result<ClientSecret> {
    let hint = "Put the JSON file from Google's console there, or name it by `google_client`, or the key of a service account by \
                `google_service_account` or GOOGLE_APPLICATION_CREDENTIALS: docs/operations/gdrive.md.";
    let text =
        private_file::read(path, "Google client secret", Guard::Mode).map_err(|e| match path.exists() {
            true => e,
            false => e.with_hint(hint),
        })?;
    ClientSecret::from_json(&text)
        .map_err(|e| Error::usage(format_args!("{}: {e}", path.display())).with_hint(hint))
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
        Location::parse(OsStr::new(text)).ok()?.local_path().map(Path::to_owned)
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
        for text in [
            "s3://b",
            "s3://bucket?x=y",
            "sftp:me@host:/x",
            "memory:",
            "file://host/x",
            "file:x",
            "file:///%zz",
            "",
        ] {
            let error = Location::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
        }
    }
}
