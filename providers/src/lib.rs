//! Object stores for Lifeboat.
//!
//! [`Provider`] is the contract an implementer writes; everything else here is built over it:
//!
//! | module | job |
//! |---|---|
//! | [`provider`] | the contract: `put`, `get`, `head`, `list`, `delete`, `usage`, `capabilities` |
//! | [`key`] | validated object keys and prefixes |
//! | [`digest`] | SHA-256 of stored bytes, how every object is proved |
//! | [`error`] | the coarse, actionable errors all providers translate into |
//! | [`ext`] | conveniences over any provider |
//! | [`memory`], [`local`], [`s3`], [`gdrive`] | providers |
//! | [`http`], [`address`] | what providers over the network share: one HTTP client, one form of URL |
//! | [`pace`] | bytes per second of a destination, by the time of the week |
//! | [`layer`] | retry, limits, circuit breaker, timeouts, read-only, faults and recording, over any provider |
//! | [`conformance`] | the suite every provider passes |
//!
//! This crate knows nothing of backups: no chunk, snapshot or encryption key occurs in it.

#[cfg(feature = "http")]
pub mod address;
pub mod conformance;
pub mod digest;
pub mod error;
pub mod ext;
#[cfg(feature = "gdrive")]
pub mod gdrive;
#[cfg(feature = "http")]
pub mod http;
pub mod key;
pub mod layer;
pub mod local;
pub mod memory;
pub mod pace;
pub mod provider;
#[cfg(feature = "s3")]
pub mod s3;

pub use digest::Sha256;
pub use error::{Error, ErrorKind, Result};
pub use ext::ProviderExt;
pub use key::{Key, Prefix};
pub use provider::{
    Body, Capabilities, ObjectInfo, Proof, Provider, PutMode, Receipt, SharedProvider, Usage,
};
