//! Faults by script: a rule says at which calls which fault happens.
//!
//! Rules are asked in the order in which they were added. Every rule counts the calls that it watches from the
//! moment it was added, whether or not another rule fires at the same call. Of several faults that end a call
//! the first one counts; the others (lag, short pages, wrong digests) add up.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Every call but those to the double itself.
    Any,
    /// `/token`, `/device/code`, `/auth`, `/revoke`.
    Token,
    /// `about`.
    About,
    /// `files.list`.
    List,
    /// `files.get` of metadata.
    Get,
    /// `files.get` with `alt=media`.
    Media,
    /// `files.create` in one request: metadata only, media or multipart.
    Create,
    /// The start of a resumable upload, of a new file or of new content.
    StartUpload,
    /// A `PUT` to an upload session that carries bytes.
    UploadChunk,
    /// A `PUT` to an upload session that asks how much was received; also its `DELETE`.
    UploadStatus,
    /// `files.update` in one request.
    Update,
    /// `files.delete`.
    Delete,
    /// `files.generateIds`.
    GenerateIds,
    /// `drives.get` and `drives.list`.
    Drives,
    /// What Drive does not have.
    Unknown,
}

/// At which of the watched calls a rule fires; calls are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// At every call.
    Always,
    /// At this call only.
    Nth(u64),
    /// At the first calls, so many.
    First(u64),
    /// At this call and all later ones.
    FromNth(u64),
    /// At every so-many-th call.
    EveryNth(u64),
    /// At so many of a thousand calls, which ones by the seed.
    PerMille {
        /// Of a thousand calls.
        calls: u32,
        /// The same seed picks the same calls.
        seed: u64,
    },
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429 `rateLimitExceeded`, before anything is done.
    TooManyRequests {
        /// The header `Retry-After` in seconds; none if `None`.
        #[serde(default)]
        retry_after_seconds: Option<u64>,
    },
    /// 403 with this reason, before anything is done.
    Forbidden {
        /// Such as `userRateLimitExceeded` or `storageQuotaExceeded`.
        reason: String,
    },
    /// 401 `authError`, before anything is done. The token stays valid.
    Unauthorized,
    /// A failure of the server, such as 500 or 503.
    Error {
        /// The status.
        status: u16,
        /// Whether the call takes effect all the same.
        after_commit: bool,
    },
    /// The `/token` endpoint says `invalid_grant`, before anything is done.
    InvalidGrant,
    /// Of an upload's chunk only so many bytes are kept, rounded down to 256 KiB; the answer is 308.
    TakePart {
        /// Bytes from the chunk's begin.
        bytes: u64,
    },
    /// Nothing of an upload's chunk is kept; the answer is 308 with what was received before.
    TakeNone,
    /// The upload session is dropped, for good.
    SessionGone {
        /// 404 or 410.
        status: u16,
    },
    /// The connection is cut when so many bytes of the request's body were read. Of an upload's chunk whole
    /// 256 KiB of them are kept, of everything else nothing.
    CutRequest {
        /// Bytes of the body.
        after_bytes: u64,
    },
    /// The call takes effect, then the connection is cut without an answer.
    NoResponse,
    /// The call takes effect and the answer begins, then the connection is cut.
    CutResponse {
        /// Bytes of the answer's body that are sent at most; the header promises all of them.
        after_bytes: u64,
    },
    /// The answer's JSON ends in the middle, in an answer that is whole by its `Content-Length`.
    TruncatedJson,
    /// A download is complete by its `Content-Length` but holds only so many of the bytes asked for.
    ShortDownload {
        /// Bytes sent at most.
        bytes: u64,
    },
    /// One byte of a download is wrong; the file itself is whole.
    CorruptDownload,
    /// One byte of what is uploaded is stored wrong. The digests are those of the stored bytes.
    CorruptUpload,
    /// Answers state another `sha256Checksum` than that of the file.
    WrongDigest,
    /// Answers state no `sha256Checksum`.
    MissingDigest,
    /// Answers state neither `sha256Checksum` nor `md5Checksum`.
    MissingDigests,
    /// No answer until [`crate::Double::release`]. Then the call goes on as if nothing had been.
    Hang {
        /// Whether it takes effect before it hangs.
        after_commit: bool,
    },
    /// A listing lacks the files of the last so many creates.
    HideNewest {
        /// Creates, of all folders.
        creates: u64,
    },
    /// A listing lacks the files created since the rule was added, until [`crate::Double::release`].
    HideNew,
    /// A listing still has what was removed since the double started.
    ListRemoved,
    /// A listing's pages have at most so many items.
    ShortPages {
        /// Items a page, 1 at least.
        items: usize,
    },
    /// A listing's page is empty and has a `nextPageToken` that begins where this page would have begun.
    EmptyPage,
    /// A listing's page is empty and names, as all others do then, one and the same page as the next.
    SamePage,
    /// A listing says `incompleteSearch` and lacks the second half of each page.
    IncompleteSearch,
}

/// A fault and when it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which calls are watched.
    pub call: Call,
    /// At which of them it happens.
    pub when: When,
    /// What happens.
    pub fault: Fault,
    /// Only calls whose path and query contain this text are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
}

impl Rule {
    /// A rule for all calls of a kind.
    pub const fn new(call: Call, when: When, fault: Fault) -> Self {
        Self { call, when, fault, only: None }
    }

    /// Watches only calls whose path and query contain `text`, such as a file's id.
    #[must_use]
    pub fn only(mut self, text: impl Into<String>) -> Self {
        self.only = Some(text.into());
        self
    }
}

impl When {
    /// Whether the `number`th call is one of them.
    fn fires(self, number: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(nth) => number == nth,
            Self::First(count) => number <= count,
            Self::FromNth(nth) => number >= nth,
            Self::EveryNth(nth) => number.is_multiple_of(nth),
            Self::PerMille { calls, seed } => {
                Random::new(seed ^ number.wrapping_mul(0x9e37_79b9)).next() % 1000 < u64::from(calls)
            }
        }
    }
}

impl Fault {
    /// Whether the fault is of those that end with [`crate::Double::release`].
    const fn is_released(&self) -> bool {
        matches!(self, Self::Hang { .. } | Self::HideNew | Self::HideNewest { .. } | Self::ListRemoved)
    }
}

/// The rules that are on, with their counts.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    rule: Rule,
    seen: u64,
    /// The number of the last create when the rule was added.
    since_create: u64,
}

/// The faults of one call.
#[derive(Debug, Default, Clone)]
pub(crate) struct Plan {
    faults: Vec<(Fault, u64)>,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: Rule, last_create: u64) {
        self.rules.push(Active { rule, seen: 0, since_create: last_create });
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn release(&mut self) {
        self.rules.retain(|active| !active.rule.fault.is_released());
    }

    /// Counts a call and says what goes wrong with it.
    pub(crate) fn plan(&mut self, call: Call, path_and_query: &str) -> Plan {
        let mut plan = Plan::default();
        for active in &mut self.rules {
            let rule = &active.rule;
            let watched = rule.call == call || rule.call == Call::Any;
            if !watched || rule.only.as_ref().is_some_and(|only| !path_and_query.contains(only.as_str())) {
                continue;
            }
            active.seen += 1;
            if rule.when.fires(active.seen) {
                plan.faults.push((rule.fault.clone(), active.since_create));
            }
        }
        plan
    }
}

impl Plan {
    /// The first fault of which `pick` makes something.
    pub(crate) fn find<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(|(fault, _)| pick(fault))
    }

    pub(crate) fn has(&self, fault: &Fault) -> bool {
        self.faults.iter().any(|(other, _)| other == fault)
    }

    /// The number of the last create that a listing shows.
    pub(crate) fn newest_listed(&self, last_create: u64) -> u64 {
        let limit = |(fault, since): &(Fault, u64)| match fault {
            Fault::HideNewest { creates } => last_create.saturating_sub(*creates),
            Fault::HideNew => *since,
            _ => u64::MAX,
        };
        self.faults.iter().map(limit).min().unwrap_or(u64::MAX)
    }

    /// The faults in words, for the log.
    pub(crate) fn names(&self) -> Vec<String> {
        self.faults.iter().map(|(fault, _)| format!("{fault:?}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(when: When, calls: u64) -> Vec<u64> {
        (1..=calls).filter(|&number| when.fires(number)).collect()
    }

    #[test]
    fn rules_fire_by_number() {
        assert_eq!(fired(When::Always, 3), [1, 2, 3]);
        assert_eq!(fired(When::Nth(2), 5), [2]);
        assert_eq!(fired(When::First(2), 5), [1, 2]);
        assert_eq!(fired(When::FromNth(4), 5), [4, 5]);
        assert_eq!(fired(When::EveryNth(2), 5), [2, 4]);
        assert_eq!(fired(When::EveryNth(0), 5), [0u64; 0]);
        let some = When::PerMille { calls: 100, seed: 7 };
        assert_eq!(fired(some, 1000), fired(some, 1000));
        let count = fired(some, 10_000).len();
        assert!((800..1200).contains(&count), "{count} of 10000");
    }

    #[test]
    fn rules_count_only_what_they_watch() {
        let mut faults = Faults::default();
        faults.add(Rule::new(Call::Get, When::Nth(2), Fault::Unauthorized).only("abc"), 0);
        assert!(faults.plan(Call::Get, "/files/abc").faults.is_empty());
        assert!(faults.plan(Call::List, "/files/abc").faults.is_empty());
        assert!(faults.plan(Call::Get, "/files/xyz").faults.is_empty());
        assert!(faults.plan(Call::Get, "/files/abc").has(&Fault::Unauthorized));
        assert!(faults.plan(Call::Get, "/files/abc").faults.is_empty());
    }

    #[test]
    fn release_ends_hangs_and_lag_only() {
        let mut faults = Faults::default();
        faults.add(Rule::new(Call::Any, When::Always, Fault::HideNew), 3);
        faults.add(Rule::new(Call::Any, When::Always, Fault::HideNewest { creates: 9 }), 3);
        faults.add(Rule::new(Call::Any, When::Always, Fault::EmptyPage), 3);
        let plan = faults.plan(Call::List, "");
        assert_eq!((plan.newest_listed(20), plan.newest_listed(5)), (3, 0));
        faults.release();
        let plan = faults.plan(Call::List, "");
        assert_eq!(plan.newest_listed(20), u64::MAX);
        assert!(plan.has(&Fault::EmptyPage));
    }

    #[test]
    fn rules_are_read_from_json() {
        let text =
            r#"{"call": "upload_chunk", "when": {"nth": 2}, "fault": {"cut_request": {"after_bytes": 7}}}"#;
        let expected = Rule::new(Call::UploadChunk, When::Nth(2), Fault::CutRequest { after_bytes: 7 });
        assert_eq!(serde_json::from_str::<Rule>(text).unwrap(), expected);
        let text = r#"{"call": "any", "when": "always", "fault": "no_response", "only": "x"}"#;
        let expected = Rule::new(Call::Any, When::Always, Fault::NoResponse).only("x");
        assert_eq!(serde_json::from_str::<Rule>(text).unwrap(), expected);
    }
}
