//! The snapshot a person means: an id prefix, `latest`, `latest~2`, with or without `:PATH`, or the newest before a time.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};

use super::history::{History, Snapshot};
use crate::tree::path_text;
use crate::{Error, Result};

/// Narrows which snapshots `latest` looks at.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this host.
    pub host: Option<String>,
    /// Only of this source.
    pub source: Option<String>,
    /// Only with all of these tags.
    pub tags: Vec<String>,
    /// Only with all of these paths (absolute).
    pub paths: Vec<Vec<u8>>,
    /// Only not later than this.
    pub at: Option<DateTime<Utc>>,
    /// Only with a path that holds this one, or lies in it.
    pub about: Option<Vec<u8>>,
}

impl Filter {
    /// Whether a snapshot passes.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let manifest = &snapshot.manifest;
        let paths = manifest.path_bytes();
        self.host.as_ref().is_none_or(|host| *host == manifest.host)
            && self.source.as_ref().is_none_or(|source| manifest.source.as_ref() == Some(source))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.paths.iter().all(|path| paths.contains(path))
            && self.at.is_none_or(|at| manifest.time <= at)
            && self
                .about
                .as_ref()
                .is_none_or(|about| paths.iter().any(|path| is_within(about, path) || is_within(path, about)))
    }
}

/// Whether a path is another one, or lies in it.
fn is_within(path: &[u8], other: &[u8]) -> bool {
    let other = other.strip_suffix(b"/").unwrap_or(other);
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// `SNAP` or `SNAP:PATH` as written by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Id prefix, `latest`, or `latest~N`; empty if a script's variable was not set, which is nobody's wish for the latest.
    pub snapshot: String,
    /// The path within, as bytes; `None` if there was no colon.
    pub path: Option<Vec<u8>>,
}

impl Selector {
    /// Splits at the first colon: neither ids nor `latest~N` contain one.
    pub fn parse(text: &[u8]) -> Self {
        let colon = text.iter().position(|byte| *byte == b':');
        let (snapshot, path) = match colon {
            Some(at) => (&text[..at], Some(text[at + 1..].to_vec())),
            None => (text, None),
        };
        Self { snapshot: String::from_utf8_lossy(snapshot).into_owned(), path }
    }
}

impl History {
    /// The snapshot that `text` names among those that pass `filter`.
    ///
    /// # Errors
    /// `Usage` that lists candidates if none or several match.
    pub fn find(&self, text: &str, filter: &Filter) -> Result<&Snapshot> {
        let candidates: Vec<&Snapshot> = self.snapshots.iter().filter(|s| filter.matches(s)).collect();
        if let Some(back) = steps_back(text)? {
            let index = candidates.len().checked_sub(back + 1);
            return match index.and_then(|index| candidates.get(index)) {
                Some(snapshot) => Ok(snapshot),
                None => Err(self.too_few(text, &candidates, filter)),
            };
        }
        if text.is_empty() {
            return Err(Error::usage(
                "the name of a snapshot is empty; is a variable in your script not set?",
            )
            .with_hint("Write an id, latest or latest~N."));
        }
        // A person who names an id means it, whatever the filter says.
        let wanted = text.to_ascii_lowercase();
        let found: Vec<&Snapshot> =
            self.snapshots.iter().filter(|s| s.id.to_string().starts_with(&wanted)).collect();
        if let [one] = found.as_slice() {
            return Ok(one);
        }
        if found.is_empty() {
            let error = Error::usage(format_args!("no snapshot is called {text:?}"));
            return Err(error.with_hint(self.newest(&candidates)));
        }
        let passing: Vec<&Snapshot> = found.iter().filter(|s| filter.matches(s)).copied().collect();
        if let [one] = passing.as_slice() {
            return Ok(one);
        }
        let several = if passing.is_empty() { &found } else { &passing };
        Err(Error::usage(format_args!("{text:?} is the beginning of several snapshots' ids"))
            .with_hint(format_args!("It could be: {}.", describe(several))))
    }

    fn too_few(&self, text: &str, candidates: &[&Snapshot], filter: &Filter) -> Error {
        let count = candidates.len();
        // `at` is said in the message itself.
        let others = Filter { at: None, ..filter.clone() };
        let passing: Vec<&Snapshot> = self.snapshots.iter().filter(|s| others.matches(s)).collect();
        let narrowed = match passing.len() < self.snapshots.len() {
            true if count == 1 => " that passes the filter",
            true => " that pass the filter",
            false => "",
        };
        let error = match (count, filter.at) {
            (0, Some(at)) => Error::usage(format_args!(
                "there are no snapshots{narrowed} from before {}",
                at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S")
            )),
            (0, None) => Error::usage(format_args!("there are no snapshots{narrowed}")),
            (1, _) => Error::usage(format_args!("{text}: there is only one snapshot{narrowed}")),
            _ => Error::usage(format_args!("{text}: there are only {count} snapshots{narrowed}")),
        };
        error.with_hint(self.newest(&passing))
    }

    /// The newest of those that were asked among; of all, if there are none.
    fn newest(&self, among: &[&Snapshot]) -> String {
        let all: Vec<&Snapshot> = self.snapshots.iter().collect();
        let newest = |list: &[&Snapshot]| describe(&list.iter().rev().take(5).copied().collect::<Vec<_>>());
        match (among, all.as_slice()) {
            ([], []) => {
                "The repository has no snapshots yet: make one with `lifeboat backup PATH`.".to_owned()
            }
            ([], all) => format!("Without the filter the newest are: {}.", newest(all)),
            (among, _) => format!("The newest are: {}.", newest(among)),
        }
    }
}

/// `latest` is 0, `latest~2` is 2; `None` for anything else.
fn steps_back(text: &str) -> Result<Option<usize>> {
    let Some(rest) = text.strip_prefix("latest") else { return Ok(None) };
    match rest.strip_prefix('~') {
        None if rest.is_empty() => Ok(Some(0)),
        Some("") => Ok(Some(1)),
        Some(number) => match number.parse() {
            Ok(back) => Ok(Some(back)),
            Err(_) => Err(Error::usage(format_args!("{text:?}: write latest~N with a number N"))),
        },
        None => Ok(None),
    }
}

fn describe(snapshots: &[&Snapshot]) -> String {
    let one = |snapshot: &&Snapshot| {
        let manifest = &snapshot.manifest;
        let time = manifest.time.with_timezone(&Local).format("%Y-%m-%d %H:%M");
        let paths: Vec<String> =
            manifest.path_bytes().iter().take(2).map(|path| path_text::display(path)).collect();
        format!("{} ({time}, {}, {})", snapshot.short_id(), manifest.host, paths.join(" "))
    };
    snapshots.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Reads a time as people write it: RFC 3339, `2026-11-20 14:00[:30]`, or a date, in local time without an offset.
///
/// What is named is all of the second, minute or day: a snapshot that a list shows as made at 14:00:30 is not later than 14:00:30, nor 14:00.
///
/// # Errors
/// `Usage` for anything else, and for a time that clocks skipped.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        let whole_second = time.nanosecond() == 0;
        return Ok(last_of(time.with_timezone(&Utc), TimeDelta::seconds(i64::from(whole_second))));
    }
    let seconds = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"].map(|format| (format, TimeDelta::seconds(1)));
    let minutes = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"].map(|format| (format, TimeDelta::minutes(1)));
    let moment = seconds
        .into_iter()
        .chain(minutes)
        .find_map(|(format, length)| Some((NaiveDateTime::parse_from_str(text, format).ok()?, length)));
    let last_second = || {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some((date.and_hms_opt(23, 59, 59)?, TimeDelta::seconds(1)))
    };
    let Some((begin, length)) = moment.or_else(last_second) else {
        return Err(Error::usage(format_args!("{text:?} is not a time"))
            .with_hint("Write it as 2026-11-20 14:00, 2026-11-20, or 2026-11-20T14:00:00+01:00."));
    };
    // Where clocks are put back an hour comes twice: the later one has all that was made in the earlier.
    match Local.from_local_datetime(&begin).latest() {
        Some(begin) => Ok(last_of(begin.with_timezone(&Utc), length)),
        None => Err(Error::usage(format_args!(
            "{text:?} does not exist in this time zone: clocks are put forward over it"
        ))
        .with_hint(
            "Write a time before or after that gap, or one with an offset: 2026-11-20T14:00:00+01:00.",
        )),
    }
}

/// The last instant of what begins at a time and is so long.
fn last_of(begin: DateTime<Utc>, length: TimeDelta) -> DateTime<Utc> {
    let last = (length - TimeDelta::nanoseconds(1)).max(TimeDelta::zero());
    begin.checked_add_signed(last).unwrap_or(begin)
}
