//! The commands that look into snapshots and change nothing.
//!
//! | module | command |
//! |---|---|
//! | [`ls`] | `ls`: what is in a directory |
//! | [`find`] | `find`: a pattern through all snapshots |
//! | [`diff`] | `diff`: what changed between two |
//! | [`dump`] | `dump`: a file, or a directory as an archive, to standard output |
//! | [`stats`] | `stats`: bytes before and after deduplication and compression |
//! | `mount` | `mount`: snapshots as a read-only file system |
//! | [`opened`] | what they share: history, reader, damage met on the way |
//! | [`entry`] | an entry as a line or as JSON |

pub mod diff;
pub mod dump;
pub mod entry;
pub mod find;
pub mod ls;
#[cfg(feature = "mount")]
pub mod mount;
mod opened;
pub mod stats;

use std::process::ExitCode;

use clap::Subcommand;

use super::session::Session;
use crate::Result;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what is in a snapshot
    Ls(ls::Ls),
    /// Find files by name or path in all snapshots
    Find(find::Find),
    /// Show what changed between two snapshots
    Diff(diff::Diff),
    /// Write a file, or a directory as tar or zip, to standard output
    Dump(dump::Dump),
    /// Show how much space snapshots take
    Stats(stats::Stats),
    /// Mount all snapshots as a read-only file system
    #[cfg(feature = "mount")]
    Mount(mount::Mount),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// The command's.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Ls(command) => command.run(session),
            Self::Find(command) => command.run(session),
            Self::Diff(command) => command.run(session),
            Self::Dump(command) => command.run(session),
            Self::Stats(command) => command.run(session),
            #[cfg(feature = "mount")]
            Self::Mount(command) => command.run(session),
        }
    }
}
