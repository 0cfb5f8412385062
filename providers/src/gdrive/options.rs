//! What a connection to Google Drive is made of: which folder, whose credentials, where the local state lies.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// Drive takes chunks of multiples of this.
const CHUNK_UNIT: u64 = 256 << 10;

/// Large enough that the pause between two chunks costs little, small enough that a cut line loses little.
const CHUNK_BYTES_DEFAULT: u64 = 8 << 20;

const AUTH_URI: &str = "https://accounts.google.com/o/oauth2/auth";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const DEVICE_URI: &str = "https://oauth2.googleapis.com/device/code";

/// Where a repository lies and how to get there.
#[derive(Debug, Clone)]
pub struct DriveOptions {
    /// The id of the repository's folder.
    pub folder: String,
    /// The shared drive in which the folder is expected; `None` takes whatever the folder says.
    pub shared_drive: Option<String>,
    /// The root URL in place of `https://www.googleapis.com/`, for tests and proxies.
    pub endpoint: Option<String>,
    /// Whose account.
    pub credentials: Credentials,
    /// A folder on this machine (made with mode 0700) for the ids of known objects and unfinished uploads. It may
    /// be lost at any time: that costs requests, not data.
    pub state_dir: PathBuf,
    /// Bytes of an upload per request, rounded down to a multiple of 256 KiB; see [`DriveOptions::new`].
    pub chunk_bytes: u64,
}

impl DriveOptions {
    /// For a folder, with 8 MiB chunks.
    pub fn new(folder: impl Into<String>, credentials: Credentials, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            shared_drive: None,
            endpoint: None,
            credentials,
            state_dir: state_dir.into(),
            chunk_bytes: CHUNK_BYTES_DEFAULT,
        }
    }

    /// The chunk size as Drive takes it.
    pub(super) const fn chunk(&self) -> u64 {
        let units = self.chunk_bytes / CHUNK_UNIT;
        if units == 0 { CHUNK_UNIT } else { units * CHUNK_UNIT }
    }
}

/// Whose account is used.
#[derive(Clone)]
pub enum Credentials {
    /// A person's, granted once by [`super::login`]. Sees only what Lifeboat itself made (scope `drive.file`).
    User {
        /// The app, as registered with Google.
        client: ClientSecret,
        /// Where `login` left the refresh token (mode 0600).
        token_file: PathBuf,
    },
    /// A service account's. It owns no storage: its folder must lie in a shared drive.
    ServiceAccount {
        /// Its key.
        key: KeySource,
        /// The person it acts for, where an administrator delegated that (scope `drive.file`); else it acts for
        /// itself, and sees what was shared with it (scope `drive`: `drive.file` would not show it a folder that a
        /// person made and shared).
        subject: Option<String>,
    },
}

/// Where the JSON key of a service account is.
#[derive(Clone)]
pub enum KeySource {
    /// In a file, which others must not be able to read.
    File(PathBuf),
    /// Here.
    Text(Zeroizing<String>),
}

impl Credentials {
    /// The scope that every call names.
    pub(super) const fn scope(&self) -> &'static str {
        match self {
            Self::ServiceAccount { subject: None, .. } => "https://www.googleapis.com/auth/drive",
            _ => super::SCOPE_FILE,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { client, token_file } => {
                f.debug_struct("User").field("client", client).field("token_file", token_file).finish()
            }
            Self::ServiceAccount { key, subject } => {
                f.debug_struct("ServiceAccount").field("key", key).field("subject", subject).finish()
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(…)"),
        }
    }
}

/// The app as registered with Google: an OAuth client of the type "Desktop app", or "TVs and Limited Input
/// devices" for the device flow. Google gives it out as a JSON file.
#[derive(Clone, Deserialize)]
pub struct ClientSecret {
    /// The app's public name.
    #[serde(rename = "client_id")]
    pub id: String,
    /// What Google calls a secret, though everybody who has the app has it.
    #[serde(rename = "client_secret", default)]
    pub secret: Zeroizing<String>,
    /// Where tokens come from.
    #[serde(default = "token_uri")]
    pub token_uri: String,
    /// Where a browser is sent.
    #[serde(default = "auth_uri")]
    pub auth_uri: String,
    /// Where the device flow begins.
    #[serde(default = "device_uri", rename = "device_authorization_uri")]
    pub device_uri: String,
}

fn token_uri() -> String {
    TOKEN_URI.to_owned()
}

fn auth_uri() -> String {
    AUTH_URI.to_owned()
}

fn device_uri() -> String {
    DEVICE_URI.to_owned()
}

impl ClientSecret {
    /// An app at Google itself.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: Zeroizing::new(secret.into()),
            token_uri: token_uri(),
            auth_uri: auth_uri(),
            device_uri: device_uri(),
        }
    }

    /// Reads the JSON that Google's console offers for download.
    ///
    /// # Errors
    /// `Misconfigured` if it is something else, such as the key of a service account.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Console {
            installed: Option<ClientSecret>,
            web: Option<ClientSecret>,
        }
        let malformed = |why: &str| {
            Error::new(
                ErrorKind::Misconfigured,
                "open",
                "the OAuth client's JSON",
                format_args!(
                    "{why}; download it at console.cloud.google.com, APIs & Services, Credentials, OAuth 2.0 client IDs"
                ),
            )
        };
        // The decoder's own message could repeat what is in the file.
        let console: Console =
            serde_json::from_str(text).map_err(|_| malformed("it is not the JSON of an OAuth client"))?;
        let Some(client) = console.installed else {
            return Err(malformed(match console.web {
                Some(_) => "it is of the type \"Web application\", make one of the type \"Desktop app\"",
                None => "it has no entry \"installed\"",
            }));
        };
        if client.id.is_empty() {
            return Err(malformed("its client_id is empty"));
        }
        Ok(client)
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecret")
            .field("id", &self.id)
            .field("token_uri", &self.token_uri)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consoles_json_is_read_and_its_secret_never_shown() {
        let json = r#"{"installed":{"client_id":"id.apps","project_id":"p","client_secret":"GOCSPX-hidden",
            "auth_uri":"https://a/","token_uri":"https://t/","redirect_uris":["http://localhost"]}}"#;
        let client = ClientSecret::from_json(json).unwrap();
        assert_eq!((client.id.as_str(), client.secret.as_str()), ("id.apps", "GOCSPX-hidden"));
        assert_eq!((client.auth_uri.as_str(), client.device_uri.as_str()), ("https://a/", DEVICE_URI));
        let options = DriveOptions::new("f", Credentials::User { client, token_file: "/t".into() }, "/s");
        assert!(!format!("{options:?}").contains("hidden"));
        let key = KeySource::Text(Zeroizing::new("hidden".to_owned()));
        let account = Credentials::ServiceAccount { key, subject: None };
        assert!(!format!("{account:?}").contains("hidden"));
    }

    #[test]
    fn other_json_is_refused_without_repeating_it() {
        for (json, word) in [
            ("{\"installed\":{\"client_secret\":\"hidden\"}}", "not the JSON"),
            ("{\"web\":{\"client_id\":\"x\",\"client_secret\":\"hidden\"}}", "Desktop app"),
            ("{\"type\":\"service_account\",\"private_key\":\"hidden\"}", "installed"),
            ("{\"installed\":{\"client_id\":\"\"}}", "empty"),
            ("hidden", "not the JSON"),
        ] {
            let error = ClientSecret::from_json(json).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hidden"), "{json}: {error}");
        }
    }

    #[test]
    fn chunks_are_what_drive_takes() {
        let client = ClientSecret::new("", "");
        let mut options = DriveOptions::new("f", Credentials::User { client, token_file: "/t".into() }, "/s");
        assert_eq!(options.chunk(), 8 << 20);
        for (wanted, taken) in [(0, 256 << 10), (1, 256 << 10), (600 << 10, 512 << 10), (1 << 20, 1 << 20)] {
            options.chunk_bytes = wanted;
            assert_eq!(options.chunk(), taken);
        }
    }
}
