//! An entry as a line for people or as a JSON object.

use chrono::{DateTime, Local, Utc};
use serde_json::{Map, Value, json};

use crate::browse::Seen;
use crate::browse::find::type_of;
use crate::cli::text;
use crate::fs::FileType;
use crate::fs::size::human;
use crate::tree::{Entry, EntryKind, Time, path_text};

/// Columns of an owner's or a group's name; longer ones push the rest to the right.
const OWNER_COLUMNS: usize = 8;
const SIZE_COLUMNS: usize = 10;

/// A line as `ls -l` has it, with `name` at its end; sizes in bytes or for people.
pub fn long_line(seen: &Seen<'_>, name: &[u8], exact: bool) -> String {
    let entry = seen.entry;
    let owner = |name: Option<&[u8]>, id: u32| name.map_or_else(|| id.to_string(), path_text::display);
    let size = match entry.kind {
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            format!("{major}, {minor}")
        }
        EntryKind::File { size, .. } if exact => size.to_string(),
        EntryKind::File { size, .. } => human(size),
        _ => "-".to_owned(),
    };
    let xattrs = if entry.meta.xattrs.is_empty() { ' ' } else { '+' };
    format!(
        "{}{xattrs} {:<OWNER_COLUMNS$} {:<OWNER_COLUMNS$} {size:>SIZE_COLUMNS$} {} {}",
        mode_text(entry),
        owner(seen.user, entry.meta.uid),
        owner(seen.group, entry.meta.gid),
        local_time(entry.meta.mtime),
        named(entry, name),
    )
}

/// The name, with what a link leads to, and a word if the file is not whole.
fn named(entry: &Entry, name: &[u8]) -> String {
    let mut text = path_text::display(name);
    if let EntryKind::Symlink { target } = &entry.kind {
        text.push_str(" -> ");
        text.push_str(&path_text::display(target));
    }
    if entry.incomplete {
        text.push_str(" (incomplete)");
    }
    text
}

/// Type and permissions: `-rwsr-xr-t`.
pub fn mode_text(entry: &Entry) -> String {
    let first = match type_of(entry) {
        FileType::File => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
    };
    let mut text = String::with_capacity(10);
    text.push(first);
    let mode = entry.meta.mode;
    for (shift, special, marks) in [(6, 0o4000, ('s', 'S')), (3, 0o2000, ('s', 'S')), (0, 0o1000, ('t', 'T'))]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => marks.0,
            (false, true) => marks.1,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A time of a file in the local zone; seconds since 1970 where the calendar ends.
pub fn local_time(time: Time) -> String {
    match utc(time) {
        Some(time) => time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", time.seconds),
    }
}

/// A time of a file in full, for programs; null where the calendar ends.
pub fn json_time(time: Time) -> Value {
    utc(time).map_or(Value::Null, |time| Value::from(text::json_time(&time)))
}

fn utc(time: Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, time.nanoseconds)
}

/// An entry as a JSON object. Paths and names are path text.
pub fn json_entry(seen: &Seen<'_>) -> Value {
    let entry = seen.entry;
    let path = if seen.path.is_empty() { "/".to_owned() } else { path_text::to_text(seen.path) };
    let text = |name: Option<&[u8]>| name.map(path_text::to_text);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("path", path.into());
    put("name", path_text::to_text(&entry.name).into());
    put("type", type_name(type_of(entry)).into());
    put("permissions", mode_text(entry).into());
    put("mode", entry.meta.mode.into());
    put("uid", entry.meta.uid.into());
    put("gid", entry.meta.gid.into());
    put("user", text(seen.user).into());
    put("group", text(seen.group).into());
    put("size", entry.bytes().into());
    put("mtime", json_time(entry.meta.mtime));
    put("ctime", json_time(entry.meta.ctime));
    put("inode", entry.meta.inode.into());
    put("links", entry.meta.links.into());
    match &entry.kind {
        EntryKind::Directory { entries, .. } => put("entries", (*entries).into()),
        EntryKind::Symlink { target } => put("target", path_text::to_text(target).into()),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put("device", json!([major, minor]))
        }
        _ => None,
    };
    if !entry.meta.xattrs.is_empty() {
        let names: Vec<String> = entry.meta.xattrs.iter().map(|x| path_text::to_text(&x.name)).collect();
        put("xattrs", names.into());
    }
    if entry.incomplete {
        put("incomplete", true.into());
    }
    Value::Object(object)
}

/// The word for a type in JSON.
pub const fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::File => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharDevice => "character_device",
        FileType::BlockDevice => "block_device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Meta;

    #[test]
    fn modes_read_as_with_ls() {
        let entry = |mode: u32| Entry {
            name: b"x".as_slice().into(),
            meta: Meta { mode, ..Meta::default() },
            kind: EntryKind::Fifo,
            incomplete: false,
        };
        for (mode, text) in
            [(0o644, "prw-r--r--"), (0o7777, "prwsrwsrwt"), (0o7000, "p--S--S--T"), (0o4755, "prwsr-xr-x")]
        {
            assert_eq!(mode_text(&entry(mode)), text);
        }
    }
}
