//! What time it is, for schedules, alerts and the ledger: a port, so that a day can be rehearsed in seconds.
//!
//! `LIFEBOAT_CLOCK` names a file that holds an instant (RFC 3339), which then is the time: for rehearsals and tests. Sessions and locks in a
//! repository never look at it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, Utc};

/// How long a wait may last at most before the clock is looked at again: a machine may sleep meanwhile, and its clock may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// The same for a clock in a file.
const LOOK_AGAIN_AT_FILE: Duration = Duration::from_millis(50);

/// A clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// The instant in a file; the system's while there is none that can be read.
    File(PathBuf),
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::File(path) => read(path).unwrap_or_else(Utc::now),
        }
    }

    /// The time now, as this machine's clocks show it.
    pub fn local(&self) -> DateTime<FixedOffset> {
        self.now().with_timezone(&Local).fixed_offset()
    }

    /// How long to wait at most for a moment that is `left` away.
    pub fn wait_at_most(&self, left: chrono::TimeDelta) -> Duration {
        let left = left.to_std().unwrap_or_default();
        match self {
            Self::System => left.min(LOOK_AGAIN),
            Self::File(_) => LOOK_AGAIN_AT_FILE,
        }
    }
}

fn read(path: &Path) -> Option<DateTime<Utc>> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(DateTime::parse_from_rfc3339(text.trim()).ok()?.to_utc())
}
