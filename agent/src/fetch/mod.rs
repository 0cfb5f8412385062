//! Reading chunks back: find, read, open, decode, compare with the id.
//!
//! | module | job |
//! |---|---|
//! | [`cache`] | decoded segments that were used lately |
//! | [`reader`] | chunks, contents and directories by id |
//! | `renewal` | the index once more, when a prune has moved what was read |
//! | `rescue` | packs that no index names |
//! | [`walk`] | paths and whole trees of a snapshot |

pub mod cache;
pub mod reader;
mod renewal;
mod rescue;
pub mod walk;

pub use reader::ChunkReader;
