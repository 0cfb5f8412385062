//! The integration tests: one binary, because linking is what costs time.

mod cli;
mod crash_fault;
mod crash_kill;
mod damage;
mod decoding;
mod disk_full;
mod findings;
mod fixture;
mod healing;
mod hostile_trees;
mod index_cache;
mod properties;
mod reader;
mod restoring;
mod tidy;
mod versions;
