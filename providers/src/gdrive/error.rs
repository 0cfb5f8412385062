//! What can go wrong between here and Google Drive, and what it means in the terms of the contract.
//!
//! Inner code returns a [`Failure`], which keeps status and reason for those who decide by them (404, 409, 416);
//! at the provider's boundary it becomes a [`crate::Error`] with operation, subject and what to do about it.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use hyper::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::{Error, ErrorKind};

/// A delay beyond this is taken for nonsense and cut.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// How much of a message of Google's is repeated.
const MESSAGE_CHARS_MAX: usize = 300;

pub(super) type Outcome<T> = Result<T, Failure>;

/// Why a call did not give what it was made for.
#[derive(Debug)]
pub(super) enum Failure {
    /// Google answered with a status other than 2xx.
    Refused(Refusal),
    /// No answer, or one that broke off or makes no sense: the outcome is unknown.
    Broken(String),
    /// Whatever already has a kind: a token, the state on the disk, a digest.
    Known(ErrorKind, String, Option<Duration>),
}

/// An answer other than 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// Google's word for it, such as `rateLimitExceeded`; empty if the answer had none.
    pub(super) reason: String,
    /// Google's sentence for people, cut to a reasonable length.
    pub(super) message: String,
    /// How long Google asks to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of a known kind.
    pub(super) fn known(kind: ErrorKind, reason: impl ToString) -> Self {
        Self::Known(kind, reason.to_string(), None)
    }

    /// A request that got no answer.
    pub(super) fn transport(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Broken(format!("no answer from Google Drive: {}", chain(error)))
    }

    /// Whether Google answered with this status.
    pub(super) const fn has_status(&self, status: u16) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == status)
    }

    /// Whether Google answered with this reason.
    pub(super) fn has_reason(&self, reason: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.reason == reason)
    }

    /// The error of `operation` on `subject`.
    pub(super) fn into_error(self, operation: &'static str, subject: impl std::fmt::Display) -> Error {
        match self {
            Self::Refused(refusal) => refusal.into_error(operation, subject),
            Self::Broken(reason) => Error::new(ErrorKind::Transient, operation, subject, reason),
            Self::Known(kind, reason, delay) => {
                let error = Error::new(kind, operation, subject, reason);
                match delay {
                    Some(delay) => error.with_retry_after(delay),
                    None => error,
                }
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Known(error.kind(), error.reason().to_owned(), error.retry_after())
    }
}

impl Refusal {
    /// What an answer says; its body may be anything.
    pub(super) fn of(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let json = serde_json::from_slice::<Value>(body).ok();
        Self::of_json(status, retry_after(headers), json.as_ref())
    }

    /// What a decoded answer says. Google's own form has an object with a list of reasons under `error`.
    pub(super) fn of_json(status: u16, retry_after: Option<Duration>, json: Option<&Value>) -> Self {
        let error = json.and_then(|json| json.get("error"));
        let first = error.and_then(|error| error.get("errors")).and_then(|errors| errors.get(0));
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let reason = text(first.and_then(|first| first.get("reason")))
            .or_else(|| text(error.and_then(|error| error.get("status"))))
            .unwrap_or_default();
        let message = text(error.and_then(|error| error.get("message"))).unwrap_or_default();
        Self { status, reason: presentable(&reason), message: presentable(&message), retry_after }
    }

    /// What the caller can do, and a hint for people.
    fn meaning(&self) -> (ErrorKind, &'static str) {
        use ErrorKind::{Corrupt, Denied, Misconfigured, NotFound, Other, Quota, Throttled, Transient};
        match self.reason.as_str() {
            "rateLimitExceeded" | "userRateLimitExceeded" | "sharingRateLimitExceeded" => {
                return (
                    Throttled,
                    "it asks for fewer requests; it also says so when an account has uploaded its 750 GB of a day",
                );
            }
            "storageQuotaExceeded" => {
                return (
                    Quota,
                    "the account's storage is full: remove old snapshots, empty the trash at drive.google.com, or buy storage; \
                     a service account owns no storage at all and needs a shared drive",
                );
            }
            "teamDriveFileLimitExceeded" => {
                return (
                    Quota,
                    "the shared drive has its 500,000 items, those in the trash counted: empty its trash, or use another one",
                );
            }
            "numChildrenInNonRootLimitExceeded" => {
                return (Quota, "the folder has its 500,000 items: use larger packs or another folder");
            }
            "activeItemCreationLimitExceeded" => {
                return (
                    Quota,
                    "the account has as many items as Google allows: delete some, or use another account",
                );
            }
            "dailyLimitExceeded" | "quotaExceeded" | "uploadLimitExceeded" => {
                return (
                    Quota,
                    "a limit of the day is reached; it goes on when Google resets it, at midnight Pacific time",
                );
            }
            "downloadQuotaExceeded" => {
                return (Quota, "the file was downloaded too often; Google allows it again within 24 hours");
            }
            "accessNotConfigured" | "SERVICE_DISABLED" => {
                return (
                    Misconfigured,
                    "enable the Google Drive API in the project of these credentials, at console.cloud.google.com",
                );
            }
            "insufficientFilePermissions"
            | "insufficientParentPermissions"
            | "appNotAuthorizedToFile"
            | "PERMISSION_DENIED" => {
                return (
                    Denied,
                    "the account may not do this here: give it the role of a content manager, or let Lifeboat make the folder itself",
                );
            }
            "cannotDownloadAbusiveFile" => {
                return (
                    Denied,
                    "Google takes the file for malware, which sealed bytes cannot be: download it once at drive.google.com",
                );
            }
            _ => {}
        }
        match self.status {
            401 => (
                Denied,
                "the credentials are not accepted: run `lifeboat provider login gdrive`, or renew the service account's key",
            ),
            // Drive also throttles by this status. What it means cannot be told without the reason, which got lost.
            403 if self.reason.is_empty() && self.message.is_empty() => {
                (Transient, "its reason could not be read; it may succeed when tried again")
            }
            403 => (Denied, "check the account, its role in the folder, and the scopes it was granted"),
            404 => (NotFound, "nothing is there that this account and app can see"),
            416 => (Corrupt, "the object is shorter than it should be"),
            429 => (Throttled, "it asks for fewer requests"),
            408 | 409 | 410 | 425 | 500..=599 => (Transient, "it may succeed when tried again"),
            _ => (Other, "the request is not understood: please report this"),
        }
    }

    fn into_error(self, operation: &'static str, subject: impl std::fmt::Display) -> Error {
        let (kind, hint) = self.meaning();
        let mut reason = format!("Google Drive answers {}", self.status);
        for part in [&self.reason, &self.message] {
            if !part.is_empty() {
                let joint = if std::ptr::eq(part, &self.reason) { " " } else { ": " };
                reason = format!("{reason}{joint}{}", part.trim_end_matches('.'));
            }
        }
        let error = Error::new(kind, operation, subject, format_args!("{reason}; {hint}"));
        match self.retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}

/// The delay a server asks for, in seconds or as a date (compared with the server's own clock).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = date(text)?;
            let now = server_time(headers).unwrap_or_else(SystemTime::now);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

/// The time by the server's clock when it answered.
pub(super) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    date(headers.get(DATE)?.to_str().ok()?)
}

fn date(text: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc2822(text).ok().map(SystemTime::from)
}

/// An error and its causes in one line, without repetitions.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

/// Text of the server's that can be shown: one line, not long.
pub(super) fn presentable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn body(reason: &str) -> String {
        format!(
            r#"{{"error":{{"code":403,"message":"Said by Google.","errors":[{{"domain":"x","reason":"{reason}"}}]}}}}"#
        )
    }

    #[test]
    fn each_reason_has_the_kind_that_calls_for_the_right_action() {
        use ErrorKind::{Corrupt, Denied, Misconfigured, NotFound, Other, Quota, Throttled, Transient};
        let cases = [
            (403, "rateLimitExceeded", Throttled),
            (403, "userRateLimitExceeded", Throttled),
            (429, "rateLimitExceeded", Throttled),
            (429, "", Throttled),
            (403, "storageQuotaExceeded", Quota),
            (403, "teamDriveFileLimitExceeded", Quota),
            (403, "numChildrenInNonRootLimitExceeded", Quota),
            (403, "activeItemCreationLimitExceeded", Quota),
            (403, "dailyLimitExceeded", Quota),
            (403, "accessNotConfigured", Misconfigured),
            (403, "insufficientFilePermissions", Denied),
            (403, "anythingElse", Denied),
            (401, "authError", Denied),
            (404, "notFound", NotFound),
            (416, "requestedRangeNotSatisfiable", Corrupt),
            (500, "internalError", Transient),
            (503, "backendError", Transient),
            (410, "", Transient),
            (400, "invalid", Other),
        ];
        for (status, reason, kind) in cases {
            let refusal = Refusal::of(status, &HeaderMap::new(), body(reason).as_bytes());
            assert_eq!((refusal.status, refusal.reason.as_str()), (status, reason));
            let error = Failure::Refused(refusal).into_error("put", "packs/ab");
            assert_eq!(error.kind(), kind, "{status} {reason}: {error}");
            let text = error.to_string();
            assert!(text.starts_with("cannot put packs/ab: Google Drive answers"), "{text}");
            assert!(text.contains("Said by Google; "), "{text}");
        }
    }

    #[test]
    fn an_answer_may_be_anything() {
        let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x\\n".repeat(5000));
        for body in
            ["", "<html>502</html>", "{", "[]", r#"{"error":"text"}"#, r#"{"error":{"errors":[]}}"#, &long]
        {
            let refusal = Refusal::of(502, &HeaderMap::new(), body.as_bytes());
            let error = Failure::Refused(refusal).into_error("get", "a");
            assert_eq!(error.kind(), ErrorKind::Transient);
            assert!(error.to_string().len() < 1000 && !error.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_403_whose_reason_was_lost_is_no_verdict() {
        for body in ["", "{\"error\":{\"errors\":[{\"reason\":\"userRateLi"] {
            let refusal = Refusal::of(403, &HeaderMap::new(), body.as_bytes());
            assert_eq!(Failure::Refused(refusal).into_error("put", "a").kind(), ErrorKind::Transient);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("99999999999999999999"));
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("999999999999"));
        assert_eq!(retry_after(&headers), Some(RETRY_AFTER_MAX));
        headers.insert(DATE, HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2015 07:28:30 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(30)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2015 07:27:00 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
    }
}
