//! Cutting files into chunks, the unit of deduplication.
//!
//! | module | job |
//! |---|---|
//! | [`id`] | what a chunk is known by |
//! | [`gear`] | content-defined cut points for general data |
//! | [`detect`] | which files are rewritten in place and get pages of a fixed size |
//! | [`cutter`] | the next chunk's length, whichever way a file is cut |

pub mod cutter;
pub mod detect;
pub mod gear;
pub mod id;

pub use cutter::{Cutter, Params};
pub use gear::Gear;
pub use id::ChunkId;
