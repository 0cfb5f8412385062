//! The first SIGINT, SIGTERM or SIGHUP asks the operation to stop, the second ends the process at once: but not while something must be
//! undone first.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

use crate::{Error, Kind, Result};

/// The signals, taken over.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<AtomicBool>,
    /// What ends the process at the second signal.
    ends: Vec<SigId>,
}

impl Signals {
    /// Takes over the signals.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn install() -> Result<Self> {
        let mut own = Self { stop: Arc::new(AtomicBool::new(false)), ends: Vec::new() };
        let code = i32::from(Kind::Interrupted.exit_code());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the second signal finds the flag set by the first.
            let end = flag::register_conditional_shutdown(signal, code, own.stop.clone());
            own.ends.push(end.map_err(cannot)?);
            flag::register(signal, own.stop.clone()).map_err(cannot)?;
        }
        Ok(own)
    }

    /// The flag that a signal sets.
    pub const fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// From now on no signal ends the process: whoever calls this has something to undo, ends soon once the flag is set, and undoes it.
    pub fn end_nothing(&self) {
        for end in &self.ends {
            low_level::unregister(*end);
        }
    }
}

fn cannot(error: std::io::Error) -> Error {
    Error::io("cannot handle signals", error)
}
