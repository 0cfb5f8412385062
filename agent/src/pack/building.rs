//! A pack that is being built: segments are sealed by several threads at once and appended in any order.

use bytes::Bytes;
use lifeboat_providers::Body;
use parking_lot::Mutex;

use super::directory::{Codec, DIRECTORY_NUMBER, Directory, DirectoryChunk, PackKind, Segment};
use crate::compress::{Compressor, Level};
use crate::index::shard::PackEntry;
use crate::seal::cipher::{BoxInfo, TAG_BYTES};
use crate::seal::header::{HEADER_BYTES, Header};
use crate::seal::keys::SealKey;
use crate::seal::{ObjectCipher, Role, SealedObject};
use crate::{Error, Result};

/// Bytes of a pack's footer.
pub const FOOTER_BYTES: usize = 16;
/// Chunks of a pack at which it is closed whatever its size: its directory stays far below the format's limit.
const CHUNKS_MAX: usize = 512 << 10;
/// The last bytes of a pack.
pub const FOOTER_MAGIC: &[u8; 4] = b"LBPD";

/// A pack that takes segments until it is closed.
pub struct Building {
    kind: PackKind,
    header: Header,
    cipher: ObjectCipher,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    boxes: Vec<Bytes>,
    directory: Directory,
    /// Bytes of boxes appended and reserved.
    bytes: usize,
    next_number: u32,
    chunks: usize,
    reserved: u32,
    closed: bool,
}

/// The right to append one segment; a pack is not finished while one is out.
#[derive(Debug, Clone, Copy)]
pub struct Reservation {
    number: u32,
}

/// A finished pack.
pub struct FinishedPack {
    /// What the index will say of it, but for its id.
    pub kind: PackKind,
    /// Salt of its header.
    pub salt: [u8; 32],
    /// Its directory.
    pub directory: Directory,
    /// Its bytes.
    pub body: Body,
}

impl FinishedPack {
    /// Names the pack by its hash.
    pub fn seal(self) -> (SealedObject, PackEntry) {
        let id = self.body.sha256();
        let entry = PackEntry {
            id,
            salt: self.salt,
            kind: self.kind,
            stored_bytes: self.body.len(),
            directory: self.directory,
        };
        (SealedObject::from_sealed(self.body, id), entry)
    }
}

impl Building {
    /// An empty pack with this header.
    pub fn new(kind: PackKind, header: Header, seal: &SealKey) -> Self {
        let cipher = header.object_cipher(seal);
        Self { kind, header, cipher, state: Mutex::default() }
    }

    /// Reserves room for a segment of `coded_bytes`. Returns `None` if the pack is closed; closes it when it has `target` bytes.
    pub fn reserve(&self, coded_bytes: usize, chunks: usize, target: usize) -> Option<(Reservation, bool)> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let number = state.next_number;
        state.next_number += 1;
        state.reserved += 1;
        state.bytes += coded_bytes + TAG_BYTES;
        state.chunks += chunks;
        state.closed = state.bytes >= target || state.chunks >= CHUNKS_MAX;
        Some((Reservation { number }, state.closed))
    }

    /// Seals a coded segment, in place.
    ///
    /// # Errors
    /// If it cannot be sealed; the reservation is then still out.
    pub fn seal(&self, reservation: Reservation, info: BoxInfo, coded: &mut Vec<u8>) -> Result<()> {
        self.cipher.seal(reservation.number.into(), info, coded, 0)
    }

    /// Whether a sealed segment opens to `coded` by other hands than those that sealed it. Asked of one segment a pack: a fault of the
    /// cipher or its key would touch them all.
    pub fn confirms(&self, reservation: Reservation, info: BoxInfo, sealed: &[u8], coded: &[u8]) -> bool {
        reservation.number != 0 || self.cipher.second_opinion(reservation.number.into(), info, sealed, coded)
    }

    /// Appends a sealed segment. Returns whether the pack is complete: closed, and no reservation out.
    pub fn append(
        &self,
        reservation: Reservation,
        info: BoxInfo,
        sealed: Bytes,
        chunks: Vec<DirectoryChunk>,
    ) -> bool {
        let mut state = self.state.lock();
        state.directory.segments.push(Segment {
            number: reservation.number,
            box_bytes: sealed.len() as u32,
            plain_bytes: info.plain_bytes,
            codec: info.codec,
            chunks,
        });
        state.boxes.push(sealed);
        state.reserved -= 1;
        state.closed && state.reserved == 0
    }

    /// Closes the pack. Returns whether it is complete and has any segment.
    pub fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        state.reserved == 0 && !state.boxes.is_empty()
    }

    /// Takes the finished pack out. To be called once, by whoever was told that it is complete.
    ///
    /// # Errors
    /// If the directory cannot be encoded or sealed.
    pub fn finish(&self) -> Result<FinishedPack> {
        let state = std::mem::take(&mut *self.state.lock());
        let plain = state
            .directory
            .encode()
            .map_err(|e| Error::failed(format_args!("cannot encode a pack's directory: {e}")))?;
        let plain_bytes = plain.len() as u32;
        let mut coded = Vec::new();
        let codec = Compressor::new(Level::FAST)?.compress(&plain, &mut coded)?;
        let info = BoxInfo { role: Role::Directory, codec, plain_bytes };
        self.cipher.seal(DIRECTORY_NUMBER.into(), info, &mut coded, 0)?;
        let box_bytes = coded.len() as u32;
        coded.extend_from_slice(&footer(box_bytes, plain_bytes, codec));
        let mut pieces = Vec::with_capacity(state.boxes.len() + 2);
        pieces.push(Bytes::copy_from_slice(&self.header.encode()));
        pieces.extend(state.boxes);
        pieces.push(coded.into());
        Ok(FinishedPack {
            kind: self.kind,
            salt: self.header.salt,
            directory: state.directory,
            body: Body::new(pieces),
        })
    }
}

fn footer(box_bytes: u32, plain_bytes: u32, codec: Codec) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..4].copy_from_slice(&box_bytes.to_le_bytes());
    footer[4..8].copy_from_slice(&plain_bytes.to_le_bytes());
    footer[8] = codec.code();
    footer[12..].copy_from_slice(FOOTER_MAGIC);
    footer
}

// The directory's offsets start where the header ends; both are stated by the format.
const _: () = assert!(HEADER_BYTES as u64 == super::directory::SEGMENTS_OFFSET);
