//! Layers: each wraps a [`crate::SharedProvider`] and is a provider.
//!
//! A layer forwards every call, those with a default in the trait included, so that nothing a store can do is
//! lost below it. From the caller to the store they belong in this order: record, cancel, retry, limit, circuit, timeout, read-only,
//! fault. [`stack()`] puts together what a store in earnest use needs, and says why the order is this one.

pub mod cancel;
pub mod circuit;
pub mod fault;
pub mod limit;
pub mod readonly;
pub mod record;
pub mod retry;
pub mod stack;
pub mod timeout;

use std::fmt;

pub use cancel::CancelProvider;
pub use circuit::CircuitProvider;
pub use fault::FaultProvider;
pub use limit::LimitProvider;
pub use readonly::ReadOnlyProvider;
pub use record::RecordProvider;
pub use retry::RetryProvider;
pub use stack::{Stack, StackOptions, stack};
pub use timeout::TimeoutProvider;

/// A call of [`crate::Provider`], as fault scripts and records name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`crate::Provider::put`]
    Put,
    /// [`crate::Provider::get`]
    Get,
    /// [`crate::Provider::head`]
    Head,
    /// [`crate::Provider::list`]
    List,
    /// [`crate::Provider::delete`]
    Delete,
    /// [`crate::Provider::delete_many`]
    DeleteMany,
    /// [`crate::Provider::retain`]
    Retain,
    /// [`crate::Provider::usage`]
    Usage,
}

impl Operation {
    /// The word for messages, as in [`crate::Error::operation`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete | Self::DeleteMany => "delete",
            Self::Retain => "retain",
            Self::Usage => "usage",
        }
    }

    /// The operation's own name, which tells a batch of deletes from single ones.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeleteMany => "delete-many",
            other => other.as_str(),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
