//! The integration tests: one binary, because linking is what costs time.

mod crash_fault;
mod crash_kill;
mod disk_full;
mod properties;
mod tidy;
