//! Freeing what no snapshot needs any more.
mod mark;
pub mod plan;
mod repack;
