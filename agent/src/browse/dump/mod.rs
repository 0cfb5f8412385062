//! A file's bytes, or a directory as an archive, written to a stream.
//!
//! Every chunk is compared with its id before a byte of it is written. Damage ends the dump with an error in the middle of
//! what is written: an archive then has no end marks, so that nothing takes it for complete. Memory does not grow with
//! the file; archives remember the names of hard-linked files, zip also those of all members for its directory.

mod acl;
mod archive;
mod sparse;
mod tar;
mod zip;

use std::io::Write;

use crate::events::{Context, Counters};
use crate::fetch::ChunkReader;
use crate::tree::Content;
use crate::{Error, Result};

pub use archive::{Dumped, Format, dump_archive};

/// Zeros are written in pieces of this size, in bytes.
static ZEROS: [u8; 32 << 10] = [0; 32 << 10];

/// Writes all bytes of a file's content; holes as zeros.
///
/// # Errors
/// `Damaged` if a chunk is missing or damaged: what came before it was written. Errors of `out`; `Interrupted`.
pub fn dump_content(
    reader: &ChunkReader,
    context: &Context,
    content: &Content,
    out: &mut dyn Write,
) -> Result<()> {
    for_each_piece(reader, context, content, &mut |piece| match piece {
        Piece::Bytes(bytes) => out.write_all(bytes).map_err(cannot_write),
        Piece::Hole { bytes, .. } => write_zeros(context, out, bytes),
    })
}

/// A part of a file.
enum Piece<'a> {
    Bytes(&'a [u8]),
    Hole { offset: u64, bytes: u64 },
}

fn for_each_piece(
    reader: &ChunkReader,
    context: &Context,
    content: &Content,
    each: &mut dyn FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    reader.for_each_extent(content, &mut |extent| {
        context.check_stop()?;
        match extent.id {
            Some(id) => each(Piece::Bytes(&reader.data(&id, extent.length)?))?,
            None => each(Piece::Hole { offset, bytes: extent.length })?,
        }
        offset += extent.length;
        Counters::add(&context.counters.bytes, extent.length);
        Ok(())
    })
}

/// A hole may be of terabytes: a stop is asked for before each piece.
fn write_zeros(context: &Context, out: &mut dyn Write, mut bytes: u64) -> Result<()> {
    while bytes > 0 {
        context.check_stop()?;
        let piece = bytes.min(ZEROS.len() as u64);
        out.write_all(&ZEROS[..piece as usize]).map_err(cannot_write)?;
        bytes -= piece;
    }
    Ok(())
}

/// The error of an output, with the cause kept so that a caller can tell a closed pipe.
fn cannot_write(error: std::io::Error) -> Error {
    let kind = error.kind();
    Error::io("cannot write the output", error).with_source(std::io::Error::from(kind))
}
