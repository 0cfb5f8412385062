//! The threads on which all stores of this process do their input and output.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::{Error, Result};

/// One is enough for a local disk; TLS for several connections at once keeps two busy.
const THREADS: usize = 2;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime, which is made when it is first asked for. Connections belong to the runtime that they were made on, so there is one.
///
/// # Errors
/// If the system gives no threads.
pub fn shared() -> Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("store")
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .map_err(|e| Error::io("cannot start threads for the store", e))?;
    // Of two that were made at once, one is used.
    Ok(RUNTIME.get_or_init(|| runtime))
}
