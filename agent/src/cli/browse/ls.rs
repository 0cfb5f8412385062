//! `lifeboat ls`: what is in a directory of a snapshot.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::entry::{json_entry, long_line};
use super::opened::{Damage, Opened};
use crate::browse::Place;
use crate::browse::walk::{Next, Seen, walk};
use crate::cli::session::{FilterArgs, Session};
use crate::cli::unread;
use crate::tree::{EntryKind, path_text};
use crate::{Kind, Result};

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Id, latest or latest~N, with a path in it or without: then what was backed up is listed
    #[arg(value_name = "SNAPSHOT[:PATH]", default_value = "latest")]
    place: OsString,
    /// Show type, permissions, owners, size and time
    #[arg(short, long)]
    long: bool,
    /// Go into directories
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Show sizes in bytes
    #[arg(long)]
    bytes: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Ls {
    /// Lists them.
    ///
    /// # Errors
    /// `Usage` for a snapshot or path that is not there; `Damaged` if not all could be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let opened = Opened::open(session)?;
        let (snapshot, path) = opened.select(&self.place, &self.filter)?;
        let named = path.clone();
        let paths = match path {
            Some(path) => vec![path],
            None => snapshot.manifest.path_bytes(),
        };
        let mut damage = opened.damage();
        let several = paths.len() > 1 && !self.recursive && !session.output.json();
        for (number, path) in paths.iter().enumerate() {
            let place = match opened.place(snapshot, path) {
                // It was named for the backup and could not be found: that is said below.
                Err(e) if e.kind() == Kind::Usage && named.is_none() => continue,
                place => place?,
            };
            if several {
                let gap = if number > 0 { "\n" } else { "" };
                session.output.line(format_args!("{gap}{}:", place.display()))?;
            }
            self.list(&opened, &place, &mut damage)?;
        }
        unread::notice(&session.output, snapshot, named.as_deref());
        damage.finish()
    }

    fn list(&self, opened: &Opened<'_>, place: &Place, damage: &mut Damage<'_>) -> Result<()> {
        let EntryKind::Directory { content, .. } = &place.listed.entry.kind else {
            return self.print(opened, &Seen::of(&place.path, &place.listed), true);
        };
        let next = if self.recursive { Next::Descend } else { Next::Skip };
        walk(
            &opened.reader,
            opened.context(),
            &mut place.path.clone(),
            content,
            &mut |seen| self.print(opened, seen, self.recursive).map(|()| next),
            &mut |path, e| {
                damage.note(path, &e);
                Ok(())
            },
        )
    }

    fn print(&self, opened: &Opened<'_>, seen: &Seen<'_>, whole_path: bool) -> Result<()> {
        let output = &opened.session.output;
        if output.json() {
            return output.object("entry", &json_entry(seen));
        }
        let name = if whole_path { seen.path } else { &seen.entry.name };
        if self.long {
            output.line(long_line(seen, name, self.bytes))
        } else {
            output.line(path_text::display(name))
        }
    }
}
