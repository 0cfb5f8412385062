//! Lifeboat: backups that are proved to be restorable.
//!
//! The modules in the order in which data flows:
//!
//! | module | job |
//! |---|---|
//! | [`source`] | what is backed up: paths, live databases, output of programs |
//! | [`backup`] | from changed files to a snapshot |
//! | [`fs`] | one file's metadata, read from and written to the file system |
//! | [`scan`] | which files are looked at |
//! | [`chunk`] | cut files into chunks and name them |
//! | [`compress`], [`seal`] | keys, and all that makes bytes fit to leave the machine |
//! | [`pack`] | segments of chunks, packs of segments |
//! | [`index`] | where each chunk lies |
//! | [`session`] | writers at work, how they end, and who is taken for dead |
//! | [`ingest`] | from a new chunk to an acknowledged one |
//! | [`tree`] | directories as stored |
//! | [`snapshot`] | manifests and their chain |
//! | [`repository`] | a store with a key |
//! | [`fetch`] | reading chunks back |
//! | [`sync`] | bringing one destination up to another |
//! | [`browse`] | looking into snapshots: list, find, compare, dump, measure, mount |
//! | [`restore`] | from a snapshot to files |
//! | [`check`] | proof that a repository can be restored |
//! | [`retention`] | which snapshots are kept |
//! | [`repair`] | mending what is damaged |
//! | [`collect`] | freeing what no snapshot needs any more |
//! | [`notify`] | who is told what happened, until it arrives |
//! | [`space`] | how much a destination may take up, and making room |
//! | [`ledger`] | what this machine remembers of its runs |
//! | [`schedule`] | when things are due |
//! | [`metrics`] | what monitoring sees: figures for Prometheus, health |
//! | [`watch`] | when files change |
//! | [`cli`], [`config`] | what people and programs see of all that |
//!
//! Shared by all: [`clock`], [`error`], [`events`], [`private_file`], [`threads`], [`words`].

pub mod backup;
pub mod browse;
pub mod check;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod compress;
pub mod config;
pub mod daemon;
pub mod error;
pub mod events;
pub mod fetch;
pub mod fs;
pub mod index;
pub mod ingest;
pub mod ledger;
mod locks;
pub mod metrics;
pub mod notify;
pub mod pack;
pub mod private_file;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod scan;
pub mod schedule;
pub mod seal;
pub mod session;
pub mod snapshot;
pub mod source;
pub mod space;
pub mod sync;
pub mod threads;
pub mod tree;
pub mod watch;
pub mod words;

pub use error::{Error, Kind, Result};
