//! A double of Google Drive v3 for tests: plain HTTP on loopback, everything in memory, with faults by script.
//!
//! It is written from Google's reference and from what clients report, not from Lifeboat's provider, and is driven
//! by Google's own Python client too (`tests/python.rs`). Where it is uncertain what Drive does, it does what is
//! harder on the client: an id is never usable twice, chunks that are no multiple of 256 KiB are refused, items of
//! shared drives are invisible to calls that do not ask for them.
//!
//! ```ignore
//! let double = Double::start(Options::default())?;
//! double.fault(Rule::new(Call::UploadChunk, When::Nth(2), Fault::CutRequest { after_bytes: 100_000 }));
//! ```

// The way of a request, from the outside to the inside.
mod double;
mod options;
mod server;
mod wire;

mod answer;
mod control;
mod fault;
mod log;
mod request;
mod state;

mod auth;
mod jwt;

mod handle;
mod listing;
mod sessions;
mod store;

// Parts without state.
mod fields;
mod file;
mod metadata;
mod multipart;
mod query;
mod random;
mod ranges;

pub use double::Double;
pub use fault::{Call, Fault, Rule, When};
pub use file::FileInfo;
pub use log::LoggedRequest;
pub use options::{Options, Rate, SCOPE_DRIVE, SCOPE_FILE, SCOPE_READONLY};
