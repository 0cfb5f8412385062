//! `lifeboat find`: a pattern through all snapshots. One line for each version of a file, with the snapshots that have it.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::entry::{json_entry, long_line};
use super::opened::Opened;
use crate::browse::Seen;
use crate::browse::find::{Found, Query, find};
use crate::browse::pattern::Pattern;
use crate::cli::session::{FilterArgs, Session, argument_bytes};
use crate::cli::text::{count, json_time, local_time};
use crate::fs::FileType;
use crate::snapshot::Snapshot;
use crate::{Error, Result};

/// Arguments of `find`.
#[derive(Debug, Args)]
pub struct Find {
    /// `*.conf` is one of names; with a / one of paths: /etc/**/*.conf, or the end of them: nginx/*.conf
    #[arg(value_name = "PATTERN", required = true)]
    pattern: OsString,
    /// Take upper and lower case as the same
    #[arg(short, long)]
    ignore_case: bool,
    /// Only files, directories or links
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<Type>,
    /// Only in this snapshot: id, latest, latest~N; can be given again
    #[arg(long = "snapshot", value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Show sizes in bytes
    #[arg(long)]
    bytes: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What an entry is, by a letter as with find(1).
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    /// Files
    #[value(alias = "file")]
    F,
    /// Directories
    #[value(alias = "directory")]
    D,
    /// Symbolic links
    #[value(alias = "link")]
    L,
}

impl Find {
    /// Finds them.
    ///
    /// # Errors
    /// `Usage` for a pattern or snapshot that means nothing; `Damaged` if not all could be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let query = self.query()?;
        let opened = Opened::open(session)?;
        let snapshots = self.chosen(&opened)?;
        let mut damage = opened.damage();
        let mut finds = 0;
        find(
            &opened.reader,
            opened.context(),
            &snapshots,
            &query,
            &mut |found| {
                finds += 1;
                self.print(session, &snapshots, found)
            },
            &mut |path, e| {
                damage.note(path, &e);
                Ok(())
            },
        )?;
        if finds == 0 {
            let looked = count(snapshots.len() as u64, "snapshot", "snapshots");
            session.output.say(format_args!("nothing found in {looked}"));
        }
        damage.finish()
    }

    fn query(&self) -> Result<Query> {
        let pattern = Pattern::parse(argument_bytes(&self.pattern), self.ignore_case)?;
        let types = self.types.iter().map(|letter| match letter {
            Type::F => FileType::File,
            Type::D => FileType::Directory,
            Type::L => FileType::Symlink,
        });
        Ok(Query { pattern, types: types.collect() })
    }

    fn chosen<'o>(&self, opened: &'o Opened<'_>) -> Result<Vec<&'o Snapshot>> {
        let filter = self.filter.filter()?;
        let all = || opened.history.snapshots.iter();
        if self.snapshots.is_empty() {
            let chosen: Vec<&Snapshot> = all().filter(|snapshot| filter.matches(snapshot)).collect();
            return match (chosen.is_empty(), opened.history.snapshots.is_empty()) {
                (false, _) => Ok(chosen),
                (true, true) => Err(Error::usage("the repository has no snapshots yet")),
                (true, false) => Err(Error::usage("no snapshot passes the filter")),
            };
        }
        let mut named = Vec::new();
        for text in &self.snapshots {
            named.push(opened.history.find(text, &filter)?.id);
        }
        Ok(all().filter(|snapshot| named.contains(&snapshot.id)).collect())
    }

    fn print(&self, session: &Session, snapshots: &[&Snapshot], found: &Found<'_>) -> Result<()> {
        let members: Vec<&Snapshot> =
            found.snapshots.iter().filter_map(|number| snapshots.get(*number).copied()).collect();
        let seen = Seen::of(found.path, found.listed);
        if session.output.json() {
            let mut object = json_entry(&seen);
            let ids: Vec<String> = members.iter().map(|snapshot| snapshot.id.to_string()).collect();
            if let Value::Object(fields) = &mut object {
                fields.insert("snapshots".to_owned(), json!(ids));
                let time = |snapshot: Option<&&Snapshot>| snapshot.map(|s| json_time(&s.manifest.time));
                fields.insert("first_time".to_owned(), json!(time(members.first())));
                fields.insert("last_time".to_owned(), json!(time(members.last())));
            }
            return session.output.object("find", &object);
        }
        let line = long_line(&seen, found.path, self.bytes);
        session.output.line(format_args!("{line}  [{}]", where_found(&members)))
    }
}

/// `ab12cd34 2026-11-20 14:00:00`, or the first, the last and how many.
fn where_found(members: &[&Snapshot]) -> String {
    let one =
        |snapshot: &Snapshot| format!("{} {}", snapshot.short_id(), local_time(&snapshot.manifest.time));
    match members {
        [] => String::new(),
        [only] => one(only),
        [first, .., last] => {
            format!(
                "{} .. {}, {}",
                one(first),
                one(last),
                count(members.len() as u64, "snapshot", "snapshots")
            )
        }
    }
}
