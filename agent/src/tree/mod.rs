//! Directories as stored: entries, nodes and contents.
//!
//! | module | job |
//! |---|---|
//! | [`entry`] | one file, directory, link … and its metadata |
//! | [`content`] | what a file's bytes (or a directory's nodes) are made of |
//! | [`node`] | the bytes of a run of entries |
//! | [`path_text`] | byte paths as text that can be reversed |

pub mod codec;
pub mod content;
pub mod entry;
pub mod node;
pub mod path_text;

pub use content::{Content, Extent};
pub use entry::{DAMAGED_SUFFIX, Entry, EntryKind, Meta, Time, Xattr};
pub use node::Node;
