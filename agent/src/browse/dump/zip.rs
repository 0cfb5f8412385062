//! Zip, streamed: sizes and checksums follow the bytes of each file, and the directory at the end says all again.
//!
//! Made for people without tar at hand. Names that are UTF-8 say so; permissions and link targets are stored the Unix way;
//! times as local DOS time and, exactly to the second, in the extended timestamp. Devices, pipes and sockets are left out;
//! a hard-linked file is written under each of its names. Files from just below 4 GiB on use zip64.

use std::io::Write;

use chrono::{Datelike as _, Local, TimeZone as _, Timelike as _};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::archive::{ArchiveWriter, Begun, Member};
use super::cannot_write;
use crate::Result;
use crate::tree::{EntryKind, Meta};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const VERSION_64: u16 = 45;
const MADE_ON_UNIX: u16 = 3 << 8;
/// Deflate grows incompressible bytes a little: sizes from here on are written with 64 bits.
const BYTES_32_MAX: u64 = 0xf000_0000;
const U32_FULL: u32 = u32::MAX;

/// Writes a zip archive.
pub(super) struct ZipWriter<'a> {
    sink: Sink<'a>,
    directory: Vec<u8>,
    members: u64,
    open: Option<Open>,
}

/// Where the bytes go: straight out, or through deflate while a file is written.
enum Sink<'a> {
    Plain(Counting<'a>),
    Deflate {
        encoder: DeflateEncoder<Counting<'a>>,
        crc: Crc,
    },
    /// Only while one of the others is replaced.
    Moving,
}

struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

/// A member that is being written.
struct Open {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    meta: Meta,
    type_bits: u32,
    offset: u64,
    data: u64,
    zip64: bool,
}

struct Sizes {
    crc: u32,
    stored: u64,
    plain: u64,
}

impl<'a> ZipWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        let sink = Sink::Plain(Counting { out, written: 0 });
        Self { sink, directory: Vec::new(), members: 0, open: None }
    }

    fn plain(&mut self) -> Result<&mut Counting<'a>> {
        match &mut self.sink {
            Sink::Plain(out) => Ok(out),
            _ => Err(crate::Error::failed("the archive cannot be continued after an error")),
        }
    }

    fn local_header(&mut self, open: &mut Open, sizes: &Sizes) -> Result<()> {
        let out = self.plain()?;
        open.offset = out.written;
        let mut extra = timestamp(&open.meta);
        if open.zip64 {
            u16s(&mut extra, &[1, 16]);
            extra.extend_from_slice(&[0; 16]);
        }
        let mut header = Vec::new();
        u32s(&mut header, &[LOCAL]);
        let version = if open.zip64 { VERSION_64 } else { 20 };
        let (time, date) = dos_time(&open.meta);
        u16s(&mut header, &[version, open.flags, open.method, time, date]);
        let size = |bytes: u64| if open.zip64 { U32_FULL } else { bytes as u32 };
        u32s(&mut header, &[sizes.crc, size(sizes.stored), size(sizes.plain)]);
        u16s(&mut header, &[open.name.len() as u16, extra.len() as u16]);
        header.extend_from_slice(&open.name);
        header.extend_from_slice(&extra);
        out.write_all(&header).map_err(cannot_write)?;
        open.data = out.written;
        Ok(())
    }

    fn remember(&mut self, open: &Open, sizes: &Sizes) {
        let mut extra = timestamp(&open.meta);
        let mut wide = Vec::new();
        let mut narrow = |bytes: u64| {
            if bytes < BYTES_32_MAX {
                return bytes as u32;
            }
            wide.extend_from_slice(&bytes.to_le_bytes());
            U32_FULL
        };
        // The order in which readers take the wide numbers.
        let (plain, stored, offset) = (narrow(sizes.plain), narrow(sizes.stored), narrow(open.offset));
        if !wide.is_empty() {
            u16s(&mut extra, &[1, wide.len() as u16]);
            extra.extend_from_slice(&wide);
        }
        let (time, date) = dos_time(&open.meta);
        let out = &mut self.directory;
        u32s(out, &[CENTRAL]);
        u16s(out, &[MADE_ON_UNIX | VERSION_64, VERSION_64, open.flags, open.method, time, date]);
        u32s(out, &[sizes.crc, stored, plain]);
        u16s(out, &[open.name.len() as u16, extra.len() as u16, 0, 0, 0]);
        let mode = open.type_bits | open.meta.mode;
        let dos_directory = u32::from(open.type_bits == 0o040_000) << 4;
        u32s(out, &[mode << 16 | dos_directory, offset]);
        out.extend_from_slice(&open.name);
        out.extend_from_slice(&extra);
        self.members += 1;
    }

    /// A member whose bytes are at hand.
    fn small(&mut self, mut open: Open, bytes: &[u8]) -> Result<()> {
        let mut crc = Crc::new();
        crc.update(bytes);
        let sizes = Sizes { crc: crc.sum(), stored: bytes.len() as u64, plain: bytes.len() as u64 };
        self.local_header(&mut open, &sizes)?;
        self.plain()?.write_all(bytes).map_err(cannot_write)?;
        self.remember(&open, &sizes);
        Ok(())
    }
}

impl ArchiveWriter for ZipWriter<'_> {
    fn begin(&mut self, member: &Member<'_>) -> Result<Begun> {
        let entry = member.seen.entry;
        let mut name = member.name.to_vec();
        let type_bits = match entry.kind {
            EntryKind::File { .. } => 0o100_000,
            EntryKind::Directory { .. } => 0o040_000,
            EntryKind::Symlink { .. } => 0o120_000,
            _ => return Ok(Begun::Skipped),
        };
        if entry.is_directory() {
            name.push(b'/');
        }
        if name.len() > usize::from(u16::MAX) {
            return Ok(Begun::Skipped);
        }
        let utf8 = if std::str::from_utf8(&name).is_ok() { FLAG_UTF8 } else { 0 };
        let meta = entry.meta.clone();
        let mut open =
            Open { name, flags: utf8, method: STORED, meta, type_bits, offset: 0, data: 0, zip64: false };
        match &entry.kind {
            EntryKind::File { content, .. } => {
                open.zip64 = content.bytes() >= BYTES_32_MAX;
                open.method = DEFLATED;
                open.flags |= FLAG_DESCRIPTOR;
                self.local_header(&mut open, &Sizes { crc: 0, stored: 0, plain: 0 })?;
                self.open = Some(open);
                if let Sink::Plain(out) = std::mem::replace(&mut self.sink, Sink::Moving) {
                    let encoder = DeflateEncoder::new(out, Compression::fast());
                    self.sink = Sink::Deflate { encoder, crc: Crc::new() };
                }
                return Ok(Begun::WantsContent);
            }
            EntryKind::Symlink { target } => self.small(open, target)?,
            _ => self.small(open, b"")?,
        }
        Ok(Begun::Whole)
    }

    fn content(&mut self) -> &mut dyn Write {
        &mut self.sink
    }

    fn end(&mut self) -> Result<()> {
        let Sink::Deflate { encoder, crc } = std::mem::replace(&mut self.sink, Sink::Moving) else {
            return Ok(());
        };
        let plain = encoder.total_in();
        self.sink = Sink::Plain(encoder.finish().map_err(cannot_write)?);
        let Some(open) = self.open.take() else { return Ok(()) };
        let out = self.plain()?;
        let sizes = Sizes { crc: crc.sum(), stored: out.written - open.data, plain };
        let mut descriptor = Vec::new();
        u32s(&mut descriptor, &[DESCRIPTOR, sizes.crc]);
        if open.zip64 {
            descriptor.extend_from_slice(&sizes.stored.to_le_bytes());
            descriptor.extend_from_slice(&sizes.plain.to_le_bytes());
        } else {
            u32s(&mut descriptor, &[sizes.stored as u32, sizes.plain as u32]);
        }
        out.write_all(&descriptor).map_err(cannot_write)?;
        self.remember(&open, &sizes);
        Ok(())
    }

    /// Without its directory it is no archive.
    fn spoil(&mut self) {}

    fn finish(&mut self) -> Result<()> {
        let directory = std::mem::take(&mut self.directory);
        let members = self.members;
        let out = self.plain()?;
        let at = out.written;
        out.write_all(&directory).map_err(cannot_write)?;
        let bytes = directory.len() as u64;
        let mut end = Vec::new();
        // Always with the 64-bit end: readers that do not know it pass over it.
        u32s(&mut end, &[END64]);
        end.extend_from_slice(&44_u64.to_le_bytes());
        u16s(&mut end, &[MADE_ON_UNIX | VERSION_64, VERSION_64]);
        u32s(&mut end, &[0, 0]);
        for number in [members, members, bytes, at] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        u32s(&mut end, &[LOCATOR64, 0]);
        end.extend_from_slice(&(at + bytes).to_le_bytes());
        u32s(&mut end, &[1, END]);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(U32_FULL);
        let count = u16::try_from(members).unwrap_or(u16::MAX);
        u16s(&mut end, &[0, 0, count, count]);
        u32s(&mut end, &[narrow(bytes), narrow(at)]);
        u16s(&mut end, &[0]);
        out.write_all(&end).and_then(|()| out.flush()).map_err(cannot_write)
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Deflate { encoder, crc } => {
                let written = encoder.write(bytes)?;
                crc.update(bytes.get(..written).unwrap_or_default());
                Ok(written)
            }
            Self::Moving => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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

/// The extended timestamp: 1970 to 2106, in seconds.
fn timestamp(meta: &Meta) -> Vec<u8> {
    let mut extra = Vec::new();
    if let Ok(seconds) = u32::try_from(meta.mtime.seconds) {
        u16s(&mut extra, &[0x5455, 5]);
        extra.push(1);
        u32s(&mut extra, &[seconds]);
    }
    extra
}

/// Time and date in local time, in steps of two seconds, from 1980 on.
fn dos_time(meta: &Meta) -> (u16, u16) {
    let local = Local.timestamp_opt(meta.mtime.seconds, 0).single();
    let Some(local) = local.filter(|time| (1980..=2107).contains(&time.year())) else { return (0, 0x21) };
    let time = (local.hour() << 11) | (local.minute() << 5) | (local.second() / 2);
    let date = (local.year() as u32 - 1980) << 9 | local.month() << 5 | local.day();
    (time as u16, date as u16)
}

fn u16s(out: &mut Vec<u8>, numbers: &[u16]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn u32s(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}
