//! The integration tests: one binary, because linking is what costs time.

mod choosing;
mod cli;
mod configuration;
mod crash_fault;
mod crash_kill;
mod damage;
mod decoding;
mod deleting;
mod disk_full;
mod doctor;
mod dump;
mod findings;
mod fixture;
mod healing;
mod hostile_trees;
mod index_cache;
mod mount;
mod output;
mod patterns;
mod properties;
mod reader;
mod restoring;
mod scene;
mod tidy;
mod usability;
mod versions;
