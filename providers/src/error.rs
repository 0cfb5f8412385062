//! The errors all providers translate their own into: coarse, and each kind calls for a different action.

use std::fmt;
use std::time::Duration;

/// What went wrong, in terms of what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No object of that key. Final.
    NotFound,
    /// The object is there already and the call asked to create it. Final.
    Exists,
    /// The store refuses: permissions, credentials, read-only. Final until someone changes that.
    Denied,
    /// No space left or an account's limit is reached. Final until space is made.
    Quota,
    /// The store asks for fewer requests. Retry after [`Error::retry_after`], or with backoff.
    Throttled,
    /// Lost connection, timeout, 5xx, interrupted call. Retry.
    Transient,
    /// The store's bytes are not what was stored: a digest does not match. Final for this copy.
    Corrupt,
    /// The store as configured cannot work: no such bucket or folder, bad URL. Final until configured.
    Misconfigured,
    /// The store has no such operation. Final.
    Unsupported,
    /// The store has not answered for so long that nothing more is tried for now, see [`crate::layer::circuit`].
    /// Final for this run; another destination may do.
    Unreachable,
    /// The caller asked to stop, see [`crate::layer::cancel`]. What was under way may have taken effect or not.
    Cancelled,
    /// Any other failure. Final.
    Other,
}

impl ErrorKind {
    /// Whether trying the same call again may succeed without anybody doing anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient)
    }
}

/// A failed provider call: what was attempted, on which object, and why it failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    reason: String,
    retry_after: Option<Duration>,
    resumable: bool,
    login_refused: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a provider call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` while doing `operation` ("put", "list" …) on `subject` (a key or place).
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.to_string(),
            reason: reason.to_string(),
            retry_after: None,
            resumable: false,
            login_refused: false,
            source: None,
        }
    }

    /// The same error with the cause that led to it, for the error chain.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same error with the delay the store asked for.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The same error with a remark added to its reason, such as how often the call was tried.
    #[must_use]
    pub fn with_note(mut self, note: impl fmt::Display) -> Self {
        self.reason = format!("{} ({note})", self.reason);
        self
    }

    /// The same error of a listing that goes on where it was when it is polled again.
    #[must_use]
    pub const fn resumable(mut self) -> Self {
        self.resumable = true;
        self
    }

    /// The same error where the store refuses the login itself (a revoked or wrong key, an expired grant) and not this
    /// object or operation: every other call would be refused too.
    #[must_use]
    pub const fn of_the_login(mut self) -> Self {
        self.login_refused = true;
        self
    }

    /// What the caller can do about it.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The operation that failed: "put", "get", "head", "list", "delete", "retain", "usage", "open", "create".
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The object or place it failed on.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Why it failed, without operation and subject.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the listing that gave this error goes on when it is polled again, see [`crate::Provider::list`].
    pub const fn is_resumable(&self) -> bool {
        self.resumable
    }

    /// Whether the store refuses the login itself, see [`Self::of_the_login`].
    pub const fn is_of_the_login(&self) -> bool {
        self.login_refused
    }

    /// How long the store asks to wait, if it said.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.subject, self.reason)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
