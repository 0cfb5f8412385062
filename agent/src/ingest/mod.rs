//! From a new chunk to an acknowledged one: dedup, segments, packs, uploads, index.
//!
//! | module | job |
//! |---|---|
//! | [`claims`] | chunks that are new in this run, so that no two threads store one |
//! | [`packer`] | segments into packs |
//! | [`upload`] | packs to the store, bounded in bytes |
//! | [`indexer`] | acknowledged packs into index shards |
//! | [`sink`] | what each worker thread writes chunks to |
//! | [`mirror`] | the same packs to other destinations |
//! | [`adopt`] | packs of an interrupted run into the index |

pub mod adopt;
pub mod claims;
pub mod indexer;
pub mod mirror;
pub mod packer;
pub mod sink;
pub mod upload;

pub use mirror::Mirror;
pub use packer::{Ingest, IngestOptions};
pub use sink::ChunkSink;
