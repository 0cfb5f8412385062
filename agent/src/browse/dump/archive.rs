//! A tree as a stream of members, whatever the archive's format.

use std::collections::HashMap;
use std::io::Write;

use super::sparse::Regions;
use super::tar::TarWriter;
use super::zip::ZipWriter;
use super::{Piece, cannot_write, for_each_piece, write_zeros};
use crate::Result;
use crate::browse::walk::{Next, Seen, walk};
use crate::browse::{OnDamage, Place};
use crate::events::{Context, Counters};
use crate::fetch::ChunkReader;
use crate::tree::{Content, Entry, EntryKind};

/// How an archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// POSIX tar with pax headers: everything.
    #[default]
    Tar,
    /// Zip with deflate: files, directories and links, with permissions and times in seconds.
    Zip,
}

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dumped {
    /// Members.
    pub members: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Entries that this format cannot hold: sockets, and in zip also devices and pipes.
    pub skipped: u64,
    /// Files whose bytes the backup could not read to their end.
    pub incomplete: u64,
}

/// One member of an archive.
pub(super) struct Member<'a> {
    /// Its name, relative, without a slash at its end.
    pub(super) name: &'a [u8],
    /// What it is.
    pub(super) seen: &'a Seen<'a>,
    /// The member that it is another name of.
    pub(super) link_to: Option<&'a [u8]>,
    /// Where its bytes lie, if it has holes and the format knows them.
    pub(super) regions: Option<Regions>,
}

/// Writes archives of one format.
pub(super) trait ArchiveWriter {
    /// Begins a member. Says whether the format can hold it, and if so, whether its content is to be written next.
    fn begin(&mut self, member: &Member<'_>) -> Result<Begun>;
    /// Where the bytes of the member begun go.
    fn content(&mut self) -> &mut dyn Write;
    /// Writes what the format has for a hole at `offset` of the member begun.
    fn hole(&mut self, context: &Context, _offset: u64, bytes: u64) -> Result<()> {
        write_zeros(context, self.content(), bytes)
    }
    /// Ends the member whose content was written.
    fn end(&mut self) -> Result<()>;
    /// Makes sure that the archive, which ends here because of an error, is not taken for complete.
    fn spoil(&mut self);
    /// Writes what makes the archive complete.
    fn finish(&mut self) -> Result<()>;
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    Skipped,
    Whole,
    WantsContent,
}

/// Writes an entry, with all below it if it is a directory, as an archive. Names begin with the entry's own name; those below
/// the root with the names in it.
///
/// # Errors
/// `Damaged` if anything is missing or damaged, and what `damaged` returns for directories: the archive then has no end.
/// Errors of `out`; `Interrupted`.
pub fn dump_archive(
    reader: &ChunkReader,
    context: &Context,
    place: &Place,
    format: Format,
    out: &mut dyn Write,
    damaged: &mut OnDamage<'_>,
) -> Result<Dumped> {
    let mut tar;
    let mut zip;
    let writer: &mut dyn ArchiveWriter = match format {
        Format::Tar => {
            tar = TarWriter::new(out);
            &mut tar
        }
        Format::Zip => {
            zip = ZipWriter::new(out);
            &mut zip
        }
    };
    let base = place.path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let mut dump =
        Dump { reader, context, writer, format, base, hard_links: HashMap::new(), dumped: Dumped::default() };
    let written = dump.tree(place, damaged);
    if written.is_err() {
        dump.writer.spoil();
    }
    written.map(|()| dump.dumped)
}

/// The first name of a file that has several, and how many are still to come.
struct FirstName {
    name: Box<[u8]>,
    left: u64,
}

struct Dump<'a> {
    reader: &'a ChunkReader,
    context: &'a Context,
    writer: &'a mut dyn ArchiveWriter,
    format: Format,
    /// Where in a path the member's name begins.
    base: usize,
    /// Files with several names, by device and inode.
    hard_links: HashMap<(u64, u64), FirstName>,
    dumped: Dumped,
}

impl Dump<'_> {
    fn tree(&mut self, place: &Place, damaged: &mut OnDamage<'_>) -> Result<()> {
        let mut path = place.path.clone();
        if path.is_empty() {
            // Members below the root have no name before them: "/etc" is the member "etc".
            self.base = 1;
        } else {
            self.member(&Seen::of(&path, &place.listed))?;
        }
        if let EntryKind::Directory { content, .. } = &place.listed.entry.kind {
            let (reader, context) = (self.reader, self.context);
            let mut visit = |seen: &Seen<'_>| self.member(seen).map(|()| Next::Descend);
            walk(reader, context, &mut path, content, &mut visit, damaged)?;
        }
        self.writer.finish()
    }

    fn member(&mut self, seen: &Seen<'_>) -> Result<()> {
        self.context.set_current(|path| path.extend_from_slice(seen.path));
        let name = seen.path.get(self.base..).unwrap_or_default();
        let link_to = self.first_name(seen.entry, name);
        let regions = match (&seen.entry.kind, self.format, &link_to) {
            (EntryKind::File { content, .. }, Format::Tar, None) => Regions::of(self.reader, content)
                .map_err(|e| e.context(crate::tree::path_text::display(seen.path)))?,
            _ => None,
        };
        let begun = self.writer.begin(&Member { name, seen, link_to: link_to.as_deref(), regions })?;
        match (begun, &seen.entry.kind) {
            (Begun::Skipped, _) => {
                self.dumped.skipped += 1;
                return Ok(());
            }
            (Begun::WantsContent, EntryKind::File { content, .. }) => self.content(seen, content)?,
            _ => {}
        }
        self.dumped.members += 1;
        Counters::add(&self.context.counters.files, 1);
        Ok(())
    }

    fn content(&mut self, seen: &Seen<'_>, content: &Content) -> Result<()> {
        let (writer, context) = (&mut *self.writer, self.context);
        let read = for_each_piece(self.reader, context, content, &mut |piece| match piece {
            Piece::Bytes(bytes) => writer.content().write_all(bytes).map_err(cannot_write),
            Piece::Hole { offset, bytes } => writer.hole(context, offset, bytes),
        });
        read.map_err(|e| e.context(crate::tree::path_text::display(seen.path)))?;
        self.dumped.bytes += content.bytes();
        self.dumped.incomplete += u64::from(seen.entry.incomplete);
        self.writer.end()
    }

    /// The name under which this file was written before, if it has several.
    fn first_name(&mut self, entry: &Entry, name: &[u8]) -> Option<Box<[u8]>> {
        if entry.meta.links < 2 || entry.is_directory() {
            return None;
        }
        let file = (entry.meta.device, entry.meta.inode);
        let Some(first) = self.hard_links.get_mut(&file) else {
            self.hard_links.insert(file, FirstName { name: name.into(), left: entry.meta.links - 1 });
            return None;
        };
        let first_name = first.name.clone();
        first.left = first.left.saturating_sub(1);
        if first.left == 0 {
            // All names were seen: memory is for files whose other names are still to come, or lie elsewhere.
            self.hard_links.remove(&file);
        }
        Some(first_name)
    }
}
