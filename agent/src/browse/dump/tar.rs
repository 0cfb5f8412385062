//! POSIX tar: a ustar header for each member, with a pax header before it for all that does not fit.
//!
//! Pax records: `path`, `linkpath`, `size`, `uid`, `gid`, `uname`, `gname`, `mtime` with nanoseconds, `SCHILY.xattr.*`,
//! `SCHILY.acl.*`, `GNU.sparse.*` for files with holes ([`super::sparse`]), and `hdrcharset=BINARY` when a long name is not UTF-8. GNU tar, bsdtar and Python read them all. The archive ends with two
//! blocks of zeros: without them readers say that it was cut off.

use std::io::Write;

use super::archive::{ArchiveWriter, Begun, Member};
use super::sparse::Regions;
use super::{ZEROS, acl, cannot_write, write_zeros};
use crate::Result;
use crate::events::Context;
use crate::fs::xattr::{ACL_ACCESS, ACL_DEFAULT};
use crate::tree::{EntryKind, Meta, Xattr};

pub(super) const BLOCK_BYTES: u64 = 512;
/// Archives are padded to this, the tape record that tar reads at once.
const RECORD_BYTES: u64 = 20 * BLOCK_BYTES;
const NAME_BYTES: usize = 100;
const OWNER_BYTES: usize = 32;

/// Writes a tar archive.
pub(super) struct TarWriter<'a> {
    out: Counting<'a>,
    /// Content that was announced is not yet written to its end.
    in_content: bool,
    /// Where the bytes of a file with holes lie.
    regions: Option<Regions>,
}

struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out: Counting { out, written: 0 }, in_content: false, regions: None }
    }

    fn pad_to(&mut self, unit: u64) -> Result<()> {
        let missing = self.out.written.next_multiple_of(unit) - self.out.written;
        self.zeros(missing)
    }

    /// Less than [`ZEROS`] has: what a format fills up with.
    fn zeros(&mut self, bytes: u64) -> Result<()> {
        self.out.write_all(&ZEROS[..bytes as usize]).map_err(cannot_write)
    }

    fn pax(&mut self, records: &[u8]) -> Result<()> {
        let mut header = Header::new(b'x', records.len() as u64);
        header.text(0, NAME_BYTES, b"PaxHeaders/member");
        header.octal(100, 8, 0o644);
        self.out.write_all(&header.finish()).map_err(cannot_write)?;
        self.out.write_all(records).map_err(cannot_write)?;
        self.pad_to(BLOCK_BYTES)
    }
}

impl ArchiveWriter for TarWriter<'_> {
    fn begin(&mut self, member: &Member<'_>) -> Result<Begun> {
        let entry = member.seen.entry;
        let Some(flag) = type_flag(member) else { return Ok(Begun::Skipped) };
        let mut name = member.name.to_vec();
        if entry.is_directory() {
            name.push(b'/');
        }
        let target: &[u8] = match (&entry.kind, member.link_to) {
            (_, Some(first)) => first,
            (EntryKind::Symlink { target }, None) => target,
            _ => b"",
        };
        let content = match (&entry.kind, member.link_to) {
            (EntryKind::File { content, .. }, None) => Some(content),
            _ => None,
        };
        let regions = content.and(member.regions.clone());
        let map = regions.as_ref().map(Regions::map).unwrap_or_default();
        let size = match &regions {
            Some(regions) => map.len() as u64 + regions.bytes(),
            None => content.map_or(0, crate::tree::Content::bytes),
        };
        let mut records = Vec::new();
        if let Some(regions) = &regions {
            put_sparse(&mut records, &name, regions);
        }
        pax_records(&mut records, member, &name, target, size);
        if !records.is_empty() {
            self.pax(&records)?;
        }
        let mut header = Header::new(flag, size);
        // A long name stands in `path` too, and there it must be the real one: Python takes it before GNU's.
        let plain_name = if regions.is_some() { sparse_name(&name) } else { name };
        header.text(0, NAME_BYTES, &plain_name);
        header.text(157, NAME_BYTES, target);
        header.meta(&entry.meta);
        header.text(265, OWNER_BYTES, member.seen.user.unwrap_or_default());
        header.text(297, OWNER_BYTES, member.seen.group.unwrap_or_default());
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind {
            header.octal(329, 8, major.into());
            header.octal(337, 8, minor.into());
        }
        self.out.write_all(&header.finish()).map_err(cannot_write)?;
        self.out.write_all(&map).map_err(cannot_write)?;
        self.regions = regions;
        self.in_content = content.is_some();
        Ok(if self.in_content { Begun::WantsContent } else { Begun::Whole })
    }

    fn content(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    fn hole(&mut self, context: &Context, offset: u64, bytes: u64) -> Result<()> {
        // Regions are whole blocks: what a hole has of one is zeros.
        let zeros = self.regions.as_ref().map_or(bytes, |regions| regions.overlap(offset, offset + bytes));
        write_zeros(context, &mut self.out, zeros)
    }

    fn end(&mut self) -> Result<()> {
        self.in_content = false;
        self.pad_to(BLOCK_BYTES)
    }

    /// Readers accept an archive that ends between two members without a word: announce one that does not come.
    fn spoil(&mut self) {
        if !self.in_content && self.out.written.is_multiple_of(BLOCK_BYTES) {
            let mut header = Header::new(b'0', BLOCK_BYTES);
            header.text(0, NAME_BYTES, b"INCOMPLETE-ARCHIVE");
            // There is an error already; a second one would say no more.
            let _ = self.out.write_all(&header.finish());
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.zeros(2 * BLOCK_BYTES)?;
        self.pad_to(RECORD_BYTES)?;
        self.out.flush().map_err(cannot_write)
    }
}

const fn type_flag(member: &Member<'_>) -> Option<u8> {
    if member.link_to.is_some() {
        return Some(b'1');
    }
    Some(match member.seen.entry.kind {
        EntryKind::File { .. } => b'0',
        EntryKind::Symlink { .. } => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory { .. } => b'5',
        EntryKind::Fifo => b'6',
        EntryKind::Socket => return None,
    })
}

/// The records that the plain header cannot hold.
fn pax_records(records: &mut Vec<u8>, member: &Member<'_>, name: &[u8], target: &[u8], size: u64) {
    let meta = &member.seen.entry.meta;
    let owners = [member.seen.user.unwrap_or_default(), member.seen.group.unwrap_or_default()];
    let texts = [name, target, owners[0], owners[1]];
    let limits = [NAME_BYTES, NAME_BYTES, OWNER_BYTES, OWNER_BYTES];
    let mut needed = Vec::new();
    for ((key, text), limit) in ["path", "linkpath", "uname", "gname"].iter().zip(texts).zip(limits) {
        let utf8 = std::str::from_utf8(text).is_ok();
        // Short bytes that are no text go into the plain header as they are: no reader complains of that.
        if text.len() > limit || (utf8 && !text.is_ascii()) {
            needed.push((*key, text, utf8));
        }
    }
    if needed.iter().any(|(_, _, utf8)| !utf8) {
        put(records, b"hdrcharset", b"BINARY");
    }
    for (key, text, _) in needed {
        put(records, key.as_bytes(), text);
    }
    for (key, number, digits) in
        [("size", size, 11), ("uid", meta.uid.into(), 7), ("gid", meta.gid.into(), 7)]
    {
        if !fits(number, digits) {
            put(records, key.as_bytes(), number.to_string().as_bytes());
        }
    }
    let seconds = meta.mtime.seconds;
    if meta.mtime.nanoseconds != 0 || u64::try_from(seconds).is_ok_and(|s| !fits(s, 11)) || seconds < 0 {
        put(records, b"mtime", decimal_time(seconds, meta.mtime.nanoseconds).as_bytes());
    }
    if member.link_to.is_none() {
        meta.xattrs.iter().for_each(|xattr| put_xattr(records, xattr));
    }
}

/// ACLs in words, as `tar --acls` wants them; all else as it is.
fn put_xattr(records: &mut Vec<u8>, xattr: &Xattr) {
    let key: &[u8] = match &*xattr.name {
        ACL_ACCESS => b"SCHILY.acl.access",
        ACL_DEFAULT => b"SCHILY.acl.default",
        _ => b"",
    };
    match acl::text(&xattr.value).filter(|_| !key.is_empty()) {
        Some(text) => put(records, key, text.as_bytes()),
        None => put(records, &[b"SCHILY.xattr.", &*xattr.name].concat(), &xattr.value),
    }
}

fn put_sparse(records: &mut Vec<u8>, name: &[u8], regions: &Regions) {
    put(records, b"GNU.sparse.major", b"1");
    put(records, b"GNU.sparse.minor", b"0");
    put(records, b"GNU.sparse.name", name);
    put(records, b"GNU.sparse.realsize", regions.size().to_string().as_bytes());
}

/// The name under which a reader that knows no holes finds the map and the regions.
fn sparse_name(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, base) = name.split_at(at);
    [directory, b"GNUSparseFile.0/", base].concat()
}

/// `-1.25` for a quarter of a second before −1: seconds count down, nanoseconds up.
fn decimal_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        let whole = (seconds + 1).unsigned_abs();
        return format!("-{whole}.{:09}", 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn put(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

const fn fits(number: u64, octal_digits: u32) -> bool {
    number >> (3 * octal_digits) == 0
}

/// A ustar header in the making.
struct Header([u8; BLOCK_BYTES as usize]);

impl Header {
    fn new(flag: u8, size: u64) -> Self {
        let mut header = Self([0; BLOCK_BYTES as usize]);
        header.octal(108, 8, 0);
        header.octal(116, 8, 0);
        header.octal(124, 12, size);
        header.octal(136, 12, 0);
        header.0[156] = flag;
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        header
    }

    fn meta(&mut self, meta: &Meta) {
        self.octal(100, 8, meta.mode.into());
        self.octal(108, 8, meta.uid.into());
        self.octal(116, 8, meta.gid.into());
        self.octal(136, 12, meta.mtime.seconds.try_into().unwrap_or(0));
    }

    /// Text, cut where it does not fit: the pax record then has it whole.
    fn text(&mut self, at: usize, limit: usize, text: &[u8]) {
        let length = text.len().min(limit);
        self.0[at..at + length].copy_from_slice(&text[..length]);
    }

    /// A number in octal digits and a NUL; 0 where it does not fit.
    fn octal(&mut self, at: usize, bytes: usize, number: u64) {
        let digits = bytes - 1;
        let number = if fits(number, digits as u32) { number } else { 0 };
        let text = format!("{number:0digits$o}");
        self.text(at, digits, text.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK_BYTES as usize] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        self.text(148, 8, text.as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_length() {
        let mut records = Vec::new();
        put(&mut records, b"path", &[b'x'; 90]);
        assert!(records.starts_with(b"99 path="));
        assert_eq!(records.len(), 99);
        records.clear();
        put(&mut records, b"path", &[b'x'; 91]);
        assert!(records.starts_with(b"101 path="));
        assert_eq!(records.len(), 101);
    }

    #[test]
    fn times_before_1970_are_decimal_numbers() {
        assert_eq!(decimal_time(5, 1), "5.000000001");
        assert_eq!(decimal_time(-2, 750_000_000), "-1.250000000");
        assert_eq!(decimal_time(-1, 1), "-0.999999999");
    }
}
