//! What is backed up: each kind of source opens what it is into entries that the engine reads.
//!
//! | module | job |
//! |---|---|
//! | [`files`] | files and directories |
//! | [`sqlite`] | live SQLite databases, copied by its online backup |
//! | [`command`](mod@command) | the output of a program |
//! | [`hooks`] | programs that run before and after |
//! | [`process`] | how any of these programs run |
//! | [`paths`] | paths and patterns as they are configured, and what they mean now |
//! | [`copies`] | temporary copies, private, and swept when their owner is gone |
//!
//! A source knows the configuration's [`crate::config::Source`] and the engine's [`Plan`], and nothing of repositories.

pub mod command;
pub mod copies;
pub mod files;
pub mod hooks;
pub mod paths;
pub mod process;
pub mod sqlite;

use std::any::Any;

use crate::Result;
use crate::backup::Plan;
use crate::config::source::SourceKind;
use crate::config::{self, Settings};
use crate::events::Context;
use crate::scan::exclude::ExcludeRules;

/// Something that can be backed up.
///
/// Opening must leave the source as it is for whoever uses it: a live database is not blocked for longer than a moment.
pub trait Source: Send + Sync {
    /// Makes it ready to be read once: a list of paths, copies of databases, programs that are about to be started.
    ///
    /// What of it cannot be read is an error of the snapshot ([`Plan::lack`]), as long as there is something else.
    ///
    /// # Errors
    /// If nothing of it can be backed up; `Interrupted` if asked to stop.
    fn open(&self, context: &Context) -> Result<Entries>;

    /// Whether it can be opened, or opened once more after what was opened broke off.
    fn can_open_again(&self) -> bool {
        true
    }
}

/// A source that is open. Temporary copies live as long as this.
pub struct Entries {
    /// What the engine reads.
    pub plan: Plan,
    /// What it leaves out.
    pub rules: ExcludeRules,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// What has to live until all is read.
    pub kept: Vec<Box<dyn Any + Send>>,
}

impl Entries {
    /// A plan of which nothing is left out.
    pub fn new(plan: Plan) -> Self {
        Self { plan, rules: ExcludeRules::default(), one_file_system: false, kept: Vec::new() }
    }
}

/// A source of the configuration.
pub fn of(source: &config::Source, settings: &Settings) -> Box<dyn Source> {
    let cache = settings.directories.cache.clone();
    match &source.kind {
        SourceKind::Files(kind) => Box::new(files::Files::new(kind, &settings.backup, cache)),
        SourceKind::Sqlite(kind) => Box::new(sqlite::Sqlite::new(kind.clone(), cache)),
        SourceKind::Command(kind) => Box::new(command::Command::new(kind.clone())),
    }
}
