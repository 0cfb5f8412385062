//! What a destination may use: bytes per second up and down, by the time of the week, and new objects per second.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::{Direction, Limit, LocalTime, Rate, Window};

const CREATES_PER_SECOND_MAX: f64 = 100_000.0;

/// The limits of one destination. The default has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Bytes sent per second; `None` for no limit.
    pub upload: Option<Rate>,
    /// Bytes received per second; `None` for no limit.
    pub download: Option<Rate>,
    /// Times of the week with other limits. For each direction the first that contains the time and speaks of the
    /// direction counts.
    pub windows: Vec<Window>,
    /// Puts begun per second; `None` for no limit.
    pub creates_per_second: Option<f64>,
}

impl Limits {
    /// The rate at a moment; `None` for no limit.
    pub fn rate_at(&self, direction: Direction, time: LocalTime) -> Option<Rate> {
        let mut windows = self.windows.iter().filter(|window| window.contains(time));
        match windows.find_map(|window| window.limit(direction)) {
            Some(limit) => limit.rate(),
            None => self.usual(direction),
        }
    }

    /// The lowest rate at any moment; `None` if there is never a limit.
    pub fn rate_min(&self, direction: Direction) -> Option<Rate> {
        let windows = self.windows.iter().filter_map(|window| window.limit(direction)?.rate());
        windows.chain(self.usual(direction)).min()
    }

    /// The rate outside of all windows.
    const fn usual(&self, direction: Direction) -> Option<Rate> {
        match direction {
            Direction::Upload => self.upload,
            Direction::Download => self.download,
        }
    }
}

/// The keys of a destination's table in the configuration file that make its [`Limits`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitConfig {
    /// `"2MiB/s"`, or `"off"` as if the key were not there.
    pub limit_upload: Option<Limit>,
    /// As `limit_upload`.
    pub limit_download: Option<Limit>,
    /// A number above 0.
    #[serde(deserialize_with = "creates_per_second")]
    pub creates_per_second: Option<f64>,
    /// The table `limit`.
    pub limit: WindowConfig,
}

/// The table `limit` with its `[[limit.window]]`s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// In the order of the file: the first that matches counts.
    pub window: Vec<Window>,
}

impl LimitConfig {
    /// The limits as they are used.
    pub fn limits(&self) -> Limits {
        Limits {
            upload: self.limit_upload.and_then(Limit::rate),
            download: self.limit_download.and_then(Limit::rate),
            windows: self.limit.window.clone(),
            creates_per_second: self.creates_per_second,
        }
    }
}

/// Reads `creates_per_second`.
fn creates_per_second<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    deserializer.deserialize_any(CreatesVisitor).map(Some)
}

struct CreatesVisitor;

impl Visitor<'_> for CreatesVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of new objects per second, such as 3 or 0.5")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
        // Below one in a quarter of an hour every call would run into its deadline.
        if (0.001..=CREATES_PER_SECOND_MAX).contains(&number) {
            return Ok(number);
        }
        Err(E::custom(format_args!(
            "{number} new objects per second cannot be kept: write 0.001 to {CREATES_PER_SECOND_MAX}, or leave \
             `creates_per_second` out for no limit"
        )))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<f64, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<f64, E> {
        self.visit_f64(number as f64)
    }
}
