//! `[daemon]` of the configuration file.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment;
use crate::{Error, Result};

/// So many processes that each take all cores are more than enough.
const PARALLEL_MAX: usize = 16;
/// Where systemd has the service's socket (`RuntimeDirectory=lifeboat`).
const SYSTEM_SOCKET: &str = "/run/lifeboat/daemon.sock";
const SOCKET_NAME: &str = "daemon.sock";

/// `[daemon]` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonFile {
    /// How many sources may be backed up at once; 1 unless set. One backup keeps all cores busy.
    pub parallel: Option<usize>,
    /// The socket at which the daemon is asked for something; daemon.sock in $RUNTIME_DIRECTORY, or in the state directory, unless set.
    pub socket: Option<PathBuf>,
}

/// How the daemon works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// How many jobs run at once, at most.
    pub parallel: usize,
    socket: Option<PathBuf>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { parallel: 1, socket: None }
    }
}

impl DaemonFile {
    /// Checks what was written; `resolve` makes paths absolute.
    ///
    /// # Errors
    /// `Usage` for a number out of range.
    pub fn check(self, resolve: impl Fn(&Path) -> PathBuf) -> Result<Daemon> {
        let parallel = self.parallel.unwrap_or(1);
        if parallel == 0 || parallel > PARALLEL_MAX {
            return Err(Error::usage(format_args!(
                "[daemon] parallel = {parallel}: write 1 to {PARALLEL_MAX}"
            )));
        }
        Ok(Daemon { parallel, socket: self.socket.as_deref().map(resolve) })
    }
}

impl Daemon {
    /// Where this process would listen.
    pub fn listens_at(&self, state: &Path) -> PathBuf {
        match &self.socket {
            Some(path) => path.clone(),
            None => environment::runtime_directory().unwrap_or_else(|| state.to_path_buf()).join(SOCKET_NAME),
        }
    }

    /// Where a daemon may be listening, the likeliest first.
    pub fn sockets(&self, state: &Path) -> Vec<PathBuf> {
        match &self.socket {
            Some(path) => vec![path.clone()],
            None => vec![self.listens_at(state), state.join(SOCKET_NAME), PathBuf::from(SYSTEM_SOCKET)],
        }
    }
}
