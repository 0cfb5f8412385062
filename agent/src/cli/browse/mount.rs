//! `lifeboat mount`: all snapshots as a read-only file system, until it is unmounted or interrupted.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::opened::Opened;
use crate::browse::mount::{MountOptions, mount};
use crate::cli::session::{FilterArgs, Session};
use crate::cli::text::count;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// An existing directory; in it are ids/, times/ and hosts/, with `latest` in each
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Let other users in, as far as the files' permissions let them
    #[arg(long)]
    allow_other: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Mount {
    /// Mounts, and serves until the end.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let Opened { history, reader, running, .. } = Opened::open(session)?;
        let filter = self.filter.filter()?;
        let snapshots: Vec<&Snapshot> =
            history.snapshots.iter().filter(|snapshot| filter.matches(snapshot)).collect();
        if snapshots.is_empty() {
            return Err(Error::usage("there are no snapshots to mount"));
        }
        let options = MountOptions { allow_other: self.allow_other };
        // A process that ends before it has unmounted leaves a directory behind that nobody can use.
        session.signals.end_nothing();
        let shown = self.directory.display();
        mount(reader, running.context(), &snapshots, &self.directory, options, &mut || {
            let mounted = count(snapshots.len() as u64, "snapshot", "snapshots");
            session.output.say(format_args!(
                "{mounted} mounted at {shown}; press Ctrl-C or run `fusermount3 -u {shown}` to unmount"
            ));
            if session.output.json() {
                let object =
                    serde_json::json!({ "directory": shown.to_string(), "snapshots": snapshots.len() });
                session.output.object("mounted", &object)?;
                session.output.flush()?;
            }
            Ok(())
        })?;
        session.output.say(format_args!("{shown} is unmounted"));
        Ok(ExitCode::SUCCESS)
    }
}
