//! The pace of a destination: how many bytes per second all its connections together may move, by the time of the week.
//!
//! | file | job |
//! |---|---|
//! | `rate` | rates as people write them |
//! | `window` | times of the week |
//! | `limits` | the limits of a destination, and how they are configured |
//! | `bucket` | who may move bytes when |
//! | `io` | a connection that keeps the pace |
//!
//! One [`Pace`] is shared by all connections of a destination ([`PacedIo`]), so that bodies flow evenly. A store that has
//! no connections of ours (a directory) is paced by whole bodies instead, see [`crate::layer::limit`].

mod bucket;
mod io;
mod limits;
mod rate;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use bucket::Bucket;
pub use io::PacedIo;
pub use limits::{LimitConfig, Limits, WindowConfig};
pub use rate::{InvalidRate, Limit, Rate};
pub use window::{Days, LocalTime, Window};

/// How often the wall clock is looked at, and the longest that anybody waits without a look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the store.
    Upload,
    /// From the store.
    Download,
}

/// What tells the time of the week.
pub type WallClock = Arc<dyn Fn() -> LocalTime + Send + Sync>;

/// The pace of all connections of a destination; cloning it gives the same one.
#[derive(Clone)]
pub struct Pace {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    clock: WallClock,
    upload: Line,
    download: Line,
    /// Connections that keep this pace.
    streams: AtomicUsize,
}

/// One direction.
struct Line {
    /// Bytes moved so far.
    moved: AtomicU64,
    /// `None` if there is never a limit.
    bucket: Option<Mutex<Watched>>,
}

/// A bucket and when its rate was last looked up.
struct Watched {
    bucket: Bucket,
    looked_at: Instant,
}

/// Whether bytes may be moved now.
enum Turn {
    /// Any number; nothing limits them now.
    Free,
    /// So many, which is never 0.
    Go(usize),
    /// Not for this long.
    Wait(Duration),
}

impl Pace {
    /// Keeps `limits` by this machine's wall clock.
    pub fn new(limits: Limits) -> Self {
        Self::with_clock(limits, Arc::new(LocalTime::now))
    }

    /// Keeps `limits` by another clock.
    pub fn with_clock(limits: Limits, clock: WallClock) -> Self {
        let line = |direction| {
            let bucket = limits.rate_min(direction).map(|_| {
                let now = Instant::now();
                let bucket = Bucket::new(limits.rate_at(direction, clock()), now);
                Mutex::new(Watched { bucket, looked_at: now })
            });
            Line { moved: AtomicU64::new(0), bucket }
        };
        let (upload, download) = (line(Direction::Upload), line(Direction::Download));
        Self { shared: Arc::new(Shared { limits, clock, upload, download, streams: AtomicUsize::new(0) }) }
    }

    /// Limits nothing, and counts.
    pub fn unlimited() -> Self {
        Self::new(Limits::default())
    }

    /// What it keeps.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// The rate at this moment; `None` for no limit.
    pub fn rate(&self, direction: Direction) -> Option<Rate> {
        self.line(direction).bucket.as_ref()?;
        self.shared.limits.rate_at(direction, (self.shared.clock)())
    }

    /// Whether there is a limit at any time.
    pub fn is_limited(&self, direction: Direction) -> bool {
        self.line(direction).bucket.is_some()
    }

    /// Bytes sent so far, by connections and by charges.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.upload.moved.load(Ordering::Relaxed)
    }

    /// Bytes received so far, by connections and by charges.
    pub fn bytes_received(&self) -> u64 {
        self.shared.download.moved.load(Ordering::Relaxed)
    }

    /// Waits until what was charged before has flowed, but for a small burst. May be dropped at any time.
    pub async fn settled(&self, direction: Direction) {
        let mut place = None;
        while let Turn::Wait(time) = self.turn(direction, &mut place) {
            sleep(time).await;
        }
    }

    /// Charges bytes that are moved otherwise than by a [`PacedIo`]: whoever comes later waits for them.
    pub fn charge(&self, direction: Direction, bytes: u64) {
        let line = self.line(direction);
        line.moved.fetch_add(bytes, Ordering::Relaxed);
        if let Some(watched) = &line.bucket {
            let mut watched = watched.lock();
            watched.bucket.drain(Instant::now());
            watched.bucket.charge(bytes);
        }
    }

    /// Takes back charged bytes that were not moved in the end.
    pub fn refund(&self, direction: Direction, bytes: u64) {
        let line = self.line(direction);
        let _ = line
            .moved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |moved| Some(moved.saturating_sub(bytes)));
        if let Some(watched) = &line.bucket {
            let mut watched = watched.lock();
            watched.bucket.drain(Instant::now());
            watched.bucket.refund(bytes);
        }
    }

    /// Whether it is the turn of whoever holds `place`, which is taken if there is none yet and given up with the turn.
    fn turn(&self, direction: Direction, place: &mut Option<u64>) -> Turn {
        let Some(watched) = &self.line(direction).bucket else { return Turn::Free };
        let mut watched = watched.lock();
        let now = Instant::now();
        if now.saturating_duration_since(watched.looked_at) >= LOOK_EVERY {
            watched.looked_at = now;
            let rate = self.shared.limits.rate_at(direction, (self.shared.clock)());
            if rate != watched.bucket.rate() {
                watched.bucket.set_rate(rate, now);
            }
        }
        watched.bucket.drain(now);
        let own = *place.get_or_insert(watched.bucket.place());
        match watched.bucket.wait(own) {
            Some(time) => Turn::Wait(time.min(LOOK_EVERY)),
            None => {
                *place = None;
                let streams = self.shared.streams.load(Ordering::Relaxed);
                watched.bucket.quantum(streams).map_or(Turn::Free, Turn::Go)
            }
        }
    }

    fn line(&self, direction: Direction) -> &Line {
        match direction {
            Direction::Upload => &self.shared.upload,
            Direction::Download => &self.shared.download,
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pace").field(&self.shared.limits).finish()
    }
}

#[cfg(test)]
mod tests;
