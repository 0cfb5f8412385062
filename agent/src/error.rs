//! The errors a person or a script can meet, each with its exit code.
//!
//! A message names the thing, the reason and, in [`Error::hint`], the next step. Causes are kept as a chain.

use std::fmt;

use lifeboat_providers as providers;

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is: decides the exit code and what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A failure with no kind of its own.
    Failed,
    /// The command line or configuration asks for something impossible.
    Usage,
    /// There is no repository at the place named.
    NoRepository,
    /// Another process holds what is needed.
    Locked,
    /// This writer was taken for dead by another machine, and must begin anew.
    Fenced,
    /// The key does not open the repository.
    WrongKey,
    /// No space left, or a limit is reached.
    Quota,
    /// Stored data is damaged or missing.
    Damaged,
    /// A signal asked to stop.
    Interrupted,
    /// The store failed in a way that may pass.
    Store,
}

impl Kind {
    /// The process's exit code for this failure (`facts-operations`: scripts rely on them).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Store => 1,
            Self::Usage => 2,
            Self::NoRepository => 10,
            Self::Locked | Self::Fenced => 11,
            Self::WrongKey => 12,
            Self::Quota => 13,
            Self::Damaged => 14,
            Self::Interrupted => 130,
        }
    }
}

/// A failed operation.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; the message names the thing and the reason.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self(Box::new(Inner { kind, message: message.to_string(), hint: None, source: None }))
    }

    /// A failure with no kind of its own.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line or configuration asks for something impossible.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Stored data is damaged.
    pub fn damaged(message: impl fmt::Display) -> Self {
        Self::new(Kind::Damaged, message)
    }

    /// The operation was asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// A failed system call on a file: `cannot open /etc/shadow: permission denied`.
    pub fn io(what: impl fmt::Display, source: impl Into<std::io::Error>) -> Self {
        let source: std::io::Error = source.into();
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Kind::Quota,
            _ => Kind::Failed,
        };
        Self::new(kind, format_args!("{what}: {}", describe_io(&source)))
    }

    /// The same error with the next step for the person who reads it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The same error with words before its message: what was being done.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its message with the next step, on one line.
    pub fn in_full(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}. {hint}"),
            None => self.to_string(),
        }
    }

    /// The next step, if there is one to name.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// The system's words for an I/O error without Rust's "(os error 13)".
pub fn describe_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, " [{hint}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<providers::Error> for Error {
    fn from(error: providers::Error) -> Self {
        use providers::ErrorKind;
        let (kind, hint) = match error.kind() {
            ErrorKind::Quota => (
                Kind::Quota,
                Some("Free some space on the store and run the command again; nothing stored is lost."),
            ),
            ErrorKind::Corrupt => {
                (Kind::Damaged, Some("Run `lifeboat check --read-data` to see what is touched."))
            }
            // A reason that names a command says the next step itself.
            ErrorKind::Denied if error.reason().contains('`') => (Kind::Store, None),
            ErrorKind::Denied => {
                (Kind::Store, Some("Check the permissions, or credentials, that lifeboat has for the store."))
            }
            ErrorKind::Misconfigured => {
                (Kind::NoRepository, Some("Check the place that was named, and the configuration."))
            }
            ErrorKind::NotFound => (Kind::Damaged, Some("Run `lifeboat check` to see what is missing.")),
            ErrorKind::Cancelled => {
                (Kind::Interrupted, Some("What was stored is used when you run the same command again."))
            }
            ErrorKind::Unreachable => (
                Kind::Store,
                Some(
                    "Check the address and the network, or that the server runs; then run the command again.",
                ),
            ),
            _ => (Kind::Store, None),
        };
        let mut own = Self::new(kind, &error);
        if let Some(hint) = hint {
            own = own.with_hint(hint);
        }
        own.with_source(error)
    }
}
