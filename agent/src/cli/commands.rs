//! All commands, in the order in which help lists them. Each is an argument struct with a `run` in a module of its own.

use std::process::ExitCode;

use clap::Subcommand;

use super::output::Output;
use super::session::{Globals, Session};
use super::{
    backup, browse, check, config, daemon, doctor, forget, init, key, manual, notify, provider, prune,
    repair, restore, run, runs, snapshots, source, status, sync, tag,
};
use crate::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository
    Init(init::Init),
    /// Back up files and directories, or standard input
    Backup(Box<backup::Backup>),
    /// Run jobs of the configuration: back up its sources, prune, check
    Run(run::Run),
    /// Run the service: schedules, changes, alerts, metrics
    Daemon(daemon::Daemon),
    /// Have the running daemon read its configuration anew
    Reload(daemon::Reload),
    /// List the runs that this machine remembers
    Runs(runs::Runs),
    /// Show what a run said
    Log(runs::Log),
    /// List snapshots
    Snapshots(snapshots::Snapshots),
    /// Commands that look into snapshots
    #[command(flatten)]
    Browse(browse::Command),
    /// Restore a snapshot, or a part of it
    Restore(Box<restore::Restore>),
    /// Check that the repository can be restored
    Check(check::Check),
    /// Bring destinations up to another one
    Sync(sync::Sync),
    /// Show the destinations: what they hold, what they lack, how it is verified
    Status(status::Status),
    /// Look at sources of the configuration, and put them back
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// Look at stores
    #[command(subcommand)]
    Provider(provider::Provider),
    /// Mend a damaged repository
    #[command(subcommand)]
    Repair(repair::Repair),
    /// Tag snapshots that are there
    Tag(tag::Tag),
    /// Forget snapshots: those that are named, or those that no rule keeps
    Forget(Box<forget::Forget>),
    /// Free what no snapshot needs any more
    Prune(prune::Prune),
    /// Manage what opens the repository: passphrases, key files, recovery keys
    #[command(subcommand)]
    Key(key::Key),
    /// Messages when something fails or is missing: try the channels
    #[command(subcommand)]
    Notify(notify::Notify),
    /// Check, show or begin a configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Find what is wrong with the set-up, and say the fix
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(manual::Completions),
    /// Write man pages into a directory
    Man(manual::Man),
}

impl Command {
    /// Whether it works without configuration and environment.
    pub const fn needs_no_session(&self) -> bool {
        match self {
            Self::Completions(_) | Self::Man(_) => true,
            Self::Config(command) => command.needs_no_session(),
            _ => false,
        }
    }

    /// The options that count: a command may name another configuration file.
    pub fn globals(&self, mut globals: Globals) -> Globals {
        if let Self::Config(command) = self
            && let Some(file) = command.file()
        {
            globals.config = Some(file.to_owned());
        }
        globals
    }

    /// Runs a command that needs no session.
    ///
    /// # Errors
    /// The command's.
    pub fn run_alone(self, output: &Output) -> Result<ExitCode> {
        match self {
            Self::Completions(command) => command.run(output),
            Self::Man(command) => command.run(output),
            Self::Config(command) => command.run_alone(output),
            _ => Ok(ExitCode::FAILURE),
        }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The command's.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Init(command) => command.run(session),
            Self::Backup(command) => command.run(session),
            Self::Run(command) => command.run(session),
            Self::Reload(command) => command.run(session),
            Self::Runs(command) => command.run(session),
            Self::Log(command) => command.run(session),
            // It takes signals in its own way, and has run before there was a session.
            Self::Daemon(_) => Ok(ExitCode::FAILURE),
            Self::Snapshots(command) => command.run(session),
            Self::Browse(command) => command.run(session),
            Self::Restore(command) => command.run(session),
            Self::Check(command) => command.run(session),
            Self::Sync(command) => command.run(session),
            Self::Status(command) => command.run(session),
            Self::Source(command) => command.run(session),
            Self::Provider(command) => command.run(session),
            Self::Repair(command) => command.run(session),
            Self::Tag(command) => command.run(session),
            Self::Forget(command) => command.run(session),
            Self::Prune(command) => command.run(session),
            Self::Key(command) => command.run(session),
            Self::Notify(command) => command.run(session),
            Self::Config(command) => command.run(session),
            Self::Doctor(command) => command.run(session),
            Self::Completions(command) => command.run(&session.output),
            Self::Man(command) => command.run(&session.output),
        }
    }
}
