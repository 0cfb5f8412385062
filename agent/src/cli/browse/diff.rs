//! `lifeboat diff`: what changed between two snapshots, or two places of snapshots.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::entry::{json_time, local_time, mode_text, type_name};
use super::opened::Opened;
use crate::Result;
use crate::browse::Place;
use crate::browse::diff::{Change, Difference, Field, changed_bytes, changed_fields, diff};
use crate::browse::find::type_of;
use crate::cli::session::{FilterArgs, Session};
use crate::cli::text::{count, grouped};
use crate::fs::FileType;
use crate::fs::size::human;
use crate::tree::{Entry, EntryKind, path_text};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older: id, latest or latest~N, with a path in it or without
    #[arg(value_name = "A[:PATH]")]
    old: OsString,
    /// The newer; its path is that of A unless it has one
    #[arg(value_name = "B[:PATH]", default_value = "latest")]
    new: OsString,
    /// Show totals only
    #[arg(long)]
    stat: bool,
    /// Show what changed in the metadata, and directories of which only the time did
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Sums over all differences.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Totals {
    files_added: u64,
    files_removed: u64,
    files_changed: u64,
    directories_added: u64,
    directories_removed: u64,
    others_added: u64,
    others_removed: u64,
    others_changed: u64,
    types_changed: u64,
    metadata_changed: u64,
    /// Bytes of new files, and of what is new in changed ones.
    bytes_added: u64,
    /// Bytes of removed files, and of what is gone from changed ones.
    bytes_removed: u64,
}

impl Diff {
    /// Compares them.
    ///
    /// # Errors
    /// `Usage` for a snapshot or path that is not there; `Damaged` if not all could be read.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let opened = Opened::open(session)?;
        let (old, old_path) = opened.select(&self.old, &self.filter)?;
        let (new, new_path) = opened.select(&self.new, &self.filter)?;
        let old_path = old_path.unwrap_or_default();
        let new_path = new_path.unwrap_or_else(|| old_path.clone());
        let (a, b) = (opened.place(old, &old_path)?, opened.place(new, &new_path)?);
        let mut damage = opened.damage();
        let mut totals = Totals::default();
        diff(
            &opened.reader,
            opened.context(),
            &a.listed.entry,
            &b.listed.entry,
            &mut |difference| {
                totals.add(&opened, difference)?;
                if self.stat { Ok(()) } else { self.print(session, &a, &b, difference) }
            },
            &mut |path, e| {
                damage.note(&[&b.path, path].concat(), &e);
                Ok(())
            },
        )?;
        if session.output.json() {
            session.output.object("summary", &totals)?;
        } else if self.stat {
            totals.print(session)?;
        }
        damage.finish()
    }

    fn print(&self, session: &Session, a: &Place, b: &Place, difference: &Difference<'_>) -> Result<()> {
        // Entries that came or went say already why their directory's time changed.
        let Some(entry) = difference.new.or(difference.old) else { return Ok(()) };
        if !self.metadata && only_time_of_directory(difference) {
            return Ok(());
        }
        let base = if difference.change == Change::Removed { &a.path } else { &b.path };
        let path = [base, difference.path].concat();
        if session.output.json() {
            return session.output.object("difference", &self.json(difference, &path));
        }
        let mark = match difference.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Type => 'T',
            Change::Content => 'M',
            Change::Metadata => 'U',
        };
        let slash = if entry.is_directory() && !path.is_empty() { "/" } else { "" };
        let root = if path.is_empty() { "/" } else { "" };
        let details = if self.metadata { details(difference) } else { String::new() };
        session.output.line(format_args!("{mark} {root}{}{slash}{details}", path_text::display(&path)))
    }

    fn json(&self, difference: &Difference<'_>, path: &[u8]) -> Value {
        let change = match difference.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Type => "type",
            Change::Content => "content",
            Change::Metadata => "metadata",
        };
        let side = |entry: Option<&Entry>| {
            entry.map(|entry| json!({
            "type": type_name(type_of(entry)), "size": entry.bytes(), "mtime": json_time(entry.meta.mtime),
            "permissions": mode_text(entry), "uid": entry.meta.uid, "gid": entry.meta.gid,
        }))
        };
        let fields: Vec<String> = match (difference.old, difference.new) {
            (Some(old), Some(new)) => changed_fields(old, new).iter().map(field_name).collect(),
            _ => Vec::new(),
        };
        json!({
            "change": change, "path": path_text::to_text(path), "metadata": fields,
            "old": side(difference.old), "new": side(difference.new),
        })
    }
}

fn only_time_of_directory(difference: &Difference<'_>) -> bool {
    match (difference.change, difference.old, difference.new) {
        (Change::Metadata, Some(old), Some(new)) => {
            new.is_directory() && changed_fields(old, new) == [Field::Mtime]
        }
        _ => false,
    }
}

fn field_name(field: &Field) -> String {
    match field {
        Field::Mode => "mode".to_owned(),
        Field::Owner => "uid".to_owned(),
        Field::Group => "gid".to_owned(),
        Field::Mtime => "mtime".to_owned(),
        Field::Xattr(name) => format!("xattr:{}", path_text::display(name)),
    }
}

/// ` (mode drwx------ → drwxr-xr-x, uid 0 → 1000)`.
fn details(difference: &Difference<'_>) -> String {
    let (Some(old), Some(new)) = (difference.old, difference.new) else { return String::new() };
    let one = |field: &Field| {
        let (a, b) = match field {
            Field::Mode => (mode_text(old), mode_text(new)),
            Field::Owner => (old.meta.uid.to_string(), new.meta.uid.to_string()),
            Field::Group => (old.meta.gid.to_string(), new.meta.gid.to_string()),
            Field::Mtime => (local_time(old.meta.mtime), local_time(new.meta.mtime)),
            Field::Xattr(name) => {
                let has = |entry: &Entry| entry.meta.xattrs.iter().any(|xattr| xattr.name == *name);
                let word = match (has(old), has(new)) {
                    (true, true) => "changed",
                    (true, false) => "removed",
                    _ => "added",
                };
                return format!("{} {word}", field_name(field));
            }
        };
        format!("{} {a} → {b}", field_name(field))
    };
    let mut all: Vec<String> = changed_fields(old, new).iter().map(one).collect();
    if let (EntryKind::Symlink { target: a }, EntryKind::Symlink { target: b }) = (&old.kind, &new.kind)
        && a != b
    {
        all.push(format!("target {} → {}", path_text::display(a), path_text::display(b)));
    }
    if all.is_empty() { String::new() } else { format!("  ({})", all.join(", ")) }
}

impl Totals {
    fn add(&mut self, opened: &Opened<'_>, difference: &Difference<'_>) -> Result<()> {
        let (old, new) = (difference.old, difference.new);
        match difference.change {
            Change::Added => self.came(new),
            Change::Removed => self.went(old),
            Change::Type => {
                self.types_changed += 1;
                let bytes = |entry: Option<&Entry>| entry.filter(|e| e.is_file()).map_or(0, Entry::bytes);
                self.bytes_added += bytes(new);
                self.bytes_removed += bytes(old);
            }
            Change::Metadata => self.metadata_changed += u64::from(!only_time_of_directory(difference)),
            Change::Content => match (old.map(|e| &e.kind), new.map(|e| &e.kind)) {
                (Some(EntryKind::File { content: a, .. }), Some(EntryKind::File { content: b, .. })) => {
                    self.files_changed += 1;
                    let (added, removed) = changed_bytes(&opened.reader, a, b)?;
                    self.bytes_added += added;
                    self.bytes_removed += removed;
                }
                _ => self.others_changed += 1,
            },
        }
        Ok(())
    }

    fn came(&mut self, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        match type_of(entry) {
            FileType::File => {
                self.files_added += 1;
                self.bytes_added += entry.bytes();
            }
            FileType::Directory => self.directories_added += 1,
            _ => self.others_added += 1,
        }
    }

    fn went(&mut self, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        match type_of(entry) {
            FileType::File => {
                self.files_removed += 1;
                self.bytes_removed += entry.bytes();
            }
            FileType::Directory => self.directories_removed += 1,
            _ => self.others_removed += 1,
        }
    }

    fn print(&self, session: &Session) -> Result<()> {
        let line = |text: String| session.output.line(text);
        line(format!(
            "Files        {} added, {} removed, {} changed",
            grouped(self.files_added),
            grouped(self.files_removed),
            grouped(self.files_changed)
        ))?;
        line(format!(
            "Directories  {} added, {} removed",
            grouped(self.directories_added),
            grouped(self.directories_removed)
        ))?;
        line(format!(
            "Others       {} added, {} removed, {} changed",
            grouped(self.others_added),
            grouped(self.others_removed),
            grouped(self.others_changed)
        ))?;
        line(format!(
            "Besides      {} with another type, {} with other metadata only",
            count(self.types_changed, "entry", "entries"),
            grouped(self.metadata_changed)
        ))?;
        line(format!("Bytes        {} added, {} removed", human(self.bytes_added), human(self.bytes_removed)))
    }
}
