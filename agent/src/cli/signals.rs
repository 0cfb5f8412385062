//! The first SIGINT, SIGTERM or SIGHUP asks the operation to stop, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::{Error, Kind, Result};

/// Installs the handlers and returns the flag that they set.
///
/// # Errors
/// If the system refuses.
pub fn install() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let code = i32::from(Kind::Interrupted.exit_code());
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the second signal finds the flag set by the first.
        flag::register_conditional_shutdown(signal, code, stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|e| Error::io("cannot handle signals", e))?;
    }
    Ok(stop)
}
