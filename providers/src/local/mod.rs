//! A store in a folder: a local disk, a USB drive, a network file system.
//!
//! An object is a file at the path its key spells, below the root. Files are 0600, folders 0700. Writing goes
//! by a temporary file in `.tmp` below the root (see [`mod@write`]), so a reader never sees half an object.
//!
//! All paths are resolved from one open handle of the root, and a symbolic link below it is never followed:
//! whoever can write into the store cannot make Lifeboat read or write elsewhere. The path *to* the root may
//! contain links: it is the user's own.
//!
//! Calls run on tokio's blocking threads; a dropped future does not stop one that has begun.

mod direct;
mod errno;
mod list;
mod pool;
mod read;
mod read_back;
mod root;
mod sweep;
mod write;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use rustix::fs::fstatvfs;
use tokio::runtime::Handle;

use crate::{
    Body, Capabilities, Error, ErrorKind, Key, ObjectInfo, Prefix, Proof, Provider, PutMode, Receipt, Result,
    Sha256, Usage,
};
use pool::BufferPool;
use root::Root;
use write::Writer;
pub use write::{Step, StepHook};

const PACK_BYTES_PREFERRED: u64 = 12 << 20;

/// Enough to overlap one call's fsync with another's hashing, few enough not to make a disk's head jump.
const CONCURRENCY_PREFERRED: usize = 4;

/// Objects as files below a folder.
pub struct LocalProvider {
    root: Arc<Root>,
    writer: Arc<Writer>,
    buffers: Arc<BufferPool>,
}

impl LocalProvider {
    /// Makes the folder `root` (mode 0700) if it is not there, and opens it.
    ///
    /// Only the last component is made: a parent that is missing is more often a disk that is not mounted than
    /// a wish to fill the disk below it.
    ///
    /// # Errors
    /// `Misconfigured` if the parent is missing or `root` is no folder, `Denied`, `Quota`.
    pub fn create(root: &Path) -> Result<Self> {
        Self::over(Root::create(root)?)
    }

    /// Opens the store in the folder `root`, which must be there. Removes what writers that died left behind.
    ///
    /// # Errors
    /// `NotFound` if there is no such folder, `Misconfigured` if it is no folder, `Denied`.
    pub fn open(root: &Path) -> Result<Self> {
        Self::over(Root::open(root, "open")?)
    }

    /// The same store with `hook` called at every [`Step`] of every put: crash tests end the process there,
    /// fault tests damage the file there.
    #[must_use]
    pub fn with_step_hook(self, hook: StepHook) -> Self {
        Self { writer: Arc::new(Writer::new(self.root.clone()).with_hook(hook)), ..self }
    }

    fn over(root: Root) -> Result<Self> {
        let root = Arc::new(root);
        sweep::sweep(&root);
        Ok(Self { writer: Arc::new(Writer::new(root.clone())), root, buffers: Arc::default() })
    }

    /// The root as an absolute path.
    fn path(&self) -> &Path {
        self.root.path()
    }
}

impl fmt::Debug for LocalProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalProvider({})", self.path().display())
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn location(&self) -> String {
        self.path().display().to_string()
    }

    async fn put(&self, key: &Key, body: Body, sha256: Sha256, mode: PutMode) -> Result<Receipt> {
        let (writer, owned) = (self.writer.clone(), key.clone());
        blocking("put", key, move || writer.put(&owned, &body, sha256, mode)).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Bytes> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Ok(Bytes::new());
        }
        let (root, buffers, owned) = (self.root.clone(), self.buffers.clone(), key.clone());
        blocking("get", key, move || read::get(&root, &buffers, &owned, range)).await
    }

    async fn head(&self, key: &Key) -> Result<ObjectInfo> {
        let (root, owned) = (self.root.clone(), key.clone());
        blocking("head", key, move || read::head(&root, &owned)).await
    }

    fn list(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        list::list(self.root.clone(), prefix)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let (writer, owned) = (self.writer.clone(), key.clone());
        blocking("delete", key, move || writer.delete(&owned)).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let (writer, owned) = (self.writer.clone(), keys.to_vec());
        match blocking("delete", &self.location(), move || Ok(writer.delete_many(&owned))).await {
            Ok(results) => results,
            Err(error) => keys.iter().map(|key| Err(again(&error, key))).collect(),
        }
    }

    async fn usage(&self) -> Result<Usage> {
        let root = self.root.clone();
        blocking("usage", &self.location(), move || usage(&root)).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            proof: Proof::ReadBack,
            conditional_create: true,
            listing_is_consistent: true,
            listing_has_digests: false,
            retention: None,
            object_bytes_max: i64::MAX as u64,
            pack_bytes_preferred: PACK_BYTES_PREFERRED,
            concurrency_preferred: CONCURRENCY_PREFERRED,
            local_root: Some(PathBuf::from(self.path())),
        }
    }
}

fn usage(root: &Root) -> Result<Usage> {
    let stat =
        fstatvfs(root.fd()).map_err(|errno| errno::translate("usage", &root.path().display(), errno))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Usage {
        used_bytes: Some(bytes(stat.f_blocks.saturating_sub(stat.f_bfree))),
        available_bytes: Some(bytes(stat.f_bavail)),
        limit_bytes: Some(bytes(stat.f_blocks)),
    })
}

/// Runs file system work where it may block.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    subject: &(impl fmt::Display + Sync),
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(Error::new(ErrorKind::Misconfigured, operation, subject, "not inside a tokio runtime"));
    };
    match runtime.spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            let kind = if error.is_cancelled() { ErrorKind::Transient } else { ErrorKind::Other };
            Err(Error::new(kind, operation, subject, "the call was stopped").with_source(error))
        }
    }
}

/// One failure of a whole batch, as the failure of one of its keys.
fn again(error: &Error, key: &Key) -> Error {
    Error::new(error.kind(), error.operation(), key, error.reason())
}

#[cfg(test)]
mod tests;
