//! A store in a folder on Google Drive.
//!
//! An object is a file whose name is the whole key, in a folder for its area (`packs`, `meta` …) below the
//! repository's folder; keys of one segment lie in the repository's folder itself. Drive takes `/` in names, so a
//! person sees the keys as they are.
//!
//! | file | job |
//! |---|---|
//! | [`address`], [`options`] | where a repository lies, whose credentials |
//! | [`auth`], [`login`] | tokens for requests; the one sign-in of a person |
//! | [`api`], [`wire`] | the calls of Drive; requests by hand |
//! | [`mod@file`], [`resolve`], [`folders`], [`ids`] | which file is the object; folders; ids chosen before a file is made |
//! | [`state`] | what this machine remembers |
//! | [`upload`], [`download`], [`listing`] | `put`, `get`, `list` |
//! | [`error`] | what Google's refusals mean |
//!
//! # What Drive is like
//! Names are not unique, listings lag behind by seconds to minutes, and any call may take effect although it failed.
//! So files are made under ids chosen before, an object's id is remembered, and "absent" is said only when neither
//! memory nor listing has it. There is no atomic create between machines ([`Capabilities::conditional_create`] is
//! false); within one process there is.
//!
//! # Logging
//! No secret gets into an error or a `Debug` of this module. The library yup-oauth2 logs tokens at debug level: cap
//! the target `yup_oauth2` at `info`.

pub mod address;
mod api;
mod auth;
mod download;
mod error;
mod file;
mod folders;
mod ids;
mod listing;
pub mod login;
mod options;
mod resolve;
mod setup;
mod state;
mod upload;
mod wire;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::http::Connector;
use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};
pub use address::DriveAddress;
use error::{Failure, Outcome};
pub use options::{ClientSecret, Credentials, DriveOptions, KeySource};
pub use setup::create_folder;
use state::Entry;

/// The scope of files that the app itself made.
const SCOPE_FILE: &str = "https://www.googleapis.com/auth/drive.file";

/// Drive's limit for uploads.
const OBJECT_BYTES_MAX: u64 = 5_000_000_000_000;

/// Few files: Drive takes about three creates a second and 500,000 items a folder.
const PACK_BYTES_PREFERRED: u64 = 64 << 20;

/// Enough to fill a line, few enough to stay below what Drive throttles.
const CONCURRENCY_PREFERRED: usize = 4;

/// Objects as files in a folder on Google Drive.
pub struct DriveProvider {
    drive: Drive,
}

/// All that calls need.
struct Drive {
    api: api::Api,
    state: state::State,
    folders: folders::Folders,
    ids: ids::IdPool,
    locks: ids::KeyLocks,
    /// Bytes of an upload per request.
    chunk_bytes: u64,
}

impl DriveProvider {
    /// Connects: signs in, finds the folder, opens the local state. Makes three requests and changes nothing.
    ///
    /// # Errors
    /// `Denied` if Google does not accept the credentials; `Misconfigured` if the folder is not there, is no folder,
    /// lies in the trash or elsewhere than expected, or the endpoint or state directory cannot be used;
    /// `Transient`, `Throttled` if Google cannot be reached now.
    pub async fn connect(options: DriveOptions, connector: Connector) -> Result<Self> {
        let location = location(&options.folder);
        let drive = setup::connect(options, connector)
            .await
            .map_err(|failure| failure.into_error("open", location))?;
        Ok(Self { drive })
    }
}

fn location(folder: &str) -> String {
    format!("gdrive://{folder}")
}

impl fmt::Debug for DriveProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriveProvider({})", self.drive.folders.root())
    }
}

#[async_trait]
impl Provider for DriveProvider {
    fn location(&self) -> String {
        location(self.drive.folders.root())
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        self.drive.store(key, &body, sha256, mode).await.map_err(|failure| failure.into_error("put", key))
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Bytes::new());
        }
        self.drive.read(key, range).await.map_err(|failure| failure.into_error("get", key))
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        match self.drive.find(key).await {
            Ok(Some(remote)) => Ok(remote.info(key.clone())),
            Ok(None) => Err(Error::new(ErrorKind::NotFound, "head", key, "no such object")),
            Err(failure) => Err(failure.into_error("head", key)),
        }
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        self.drive.listing(prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.drive.delete(key).await.map_err(|failure| failure.into_error("delete", key))
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let deletes: Vec<_> = keys.iter().map(|key| self.delete(key)).collect();
        stream::iter(deletes).buffered(CONCURRENCY_PREFERRED).collect().await
    }

    async fn usage(&self) -> Result<Usage> {
        // What an account holds says nothing of a shared drive, which has no limit in bytes.
        if self.drive.folders.drive_id().is_some() {
            return Ok(Usage::default());
        }
        self.drive.api.usage().await.map_err(|failure| failure.into_error("usage", self.location()))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            proof: Proof::Server,
            conditional_create: false,
            listing_is_consistent: false,
            listing_has_digests: true,
            retention: None,
            object_bytes_max: OBJECT_BYTES_MAX,
            pack_bytes_preferred: PACK_BYTES_PREFERRED,
            concurrency_preferred: CONCURRENCY_PREFERRED,
            local_root: None,
        }
    }
}

impl Drive {
    /// Removes every file of the object's name.
    async fn delete(&self, key: &Key) -> Outcome<()> {
        let _alone = self.locks.lock(key).await;
        let (mut ids, _) = self.named(key).await?;
        match self.state.entry(key)? {
            Some(Entry::Stored(id)) => ids.push(id),
            Some(Entry::Planned(plan)) => ids.push(plan.id),
            None => {}
        }
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            self.api.remove(&id).await?;
            self.state.removed(key, &id)?;
        }
        Ok(())
    }

    /// Drive says that there is no such folder: forgets it if that is so.
    ///
    /// # Errors
    /// `Misconfigured` if it is the repository's own; `Transient` if it is there after all.
    async fn folder_missing(&self, area: Option<&str>, folder: &str) -> Outcome<()> {
        let root = self.folders.root();
        let root_is_there = self.api.find(root).await?.is_some();
        match area {
            Some(area) if root_is_there => {
                if self.api.find(folder).await?.is_some() {
                    return Err(Failure::Broken("Google Drive denies a folder that is there".to_owned()));
                }
                self.folders.forget(area, folder, &self.state)
            }
            None if root_is_there => {
                Err(Failure::Broken("Google Drive denies a folder that is there".to_owned()))
            }
            _ => Err(setup::no_folder(root)),
        }
    }
}
