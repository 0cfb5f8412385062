//! Alerts: who is told what happened, once, in time, and until it arrives.
//!
//! ```text
//! Event → policy (is it news? who wants it? when?) → queue (SQLite) → render, redact → channel → the service
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`event`] | what happened, as it is reported and kept |
//! | [`settings`] | channels, and what each is told |
//! | [`policy`] | what is news, and for whom: pure code |
//! | [`quiet`] | quiet hours and the hour of a digest |
//! | [`condition`] | what lasts, and what was told of it |
//! | [`queue`] | messages on their way; the tables of all of that |
//! | [`digest`] | several messages made one |
//! | [`deliver`] | sending what is due: claims, retries, giving up |
//! | [`render`] | an event as text, within the limits of a service |
//! | [`redact`] | keeps secrets out of all that is sent |
//! | [`http`] | one request to a service |
//! | [`channel`] | the services, one file each |
//!
//! A message that cannot be delivered is never the failure of what it tells of. Several processes may report and deliver at once.

pub mod channel;
pub mod condition;
pub mod deliver;
pub mod digest;
pub mod event;
pub mod http;
pub mod policy;
pub mod queue;
pub mod quiet;
pub mod redact;
pub mod render;
pub mod settings;

pub use deliver::Delivered;
pub use event::{Event, EventKind, Level};
pub use queue::{Queue, SCHEMA};
pub use redact::Redactor;
pub use settings::{Channel, Notify};
