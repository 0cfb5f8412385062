//! Reading packs: their directories and segments.

use std::ops::Range;

use bytes::Bytes;
use lifeboat_providers::Sha256;

use super::building::{FOOTER_BYTES, FOOTER_MAGIC};
use super::directory::{Codec, DIRECTORY_NUMBER, Directory, PackKind, SEGMENT_PLAIN_BYTES_MAX};
use crate::chunk::id::IdKey;
use crate::compress::Decompressor;
use crate::index::shard::PackEntry;
use crate::index::{Location, SegmentLocation};
use crate::repository::{Repository, layout};
use crate::seal::cipher::{BoxInfo, TAG_BYTES};
use crate::seal::header::{HEADER_BYTES, Header, ObjectKind};
use crate::seal::{ObjectCipher, Role};
use crate::tree::codec::Decoder;
use crate::{Error, Result};

/// How much of a pack's end is read at first: holds the directory of most packs, in bytes.
const TAIL_BYTES: u64 = 64 << 10;

impl From<PackKind> for ObjectKind {
    fn from(kind: PackKind) -> Self {
        match kind {
            PackKind::Data => Self::DataPack,
            PackKind::Metadata => Self::MetadataPack,
        }
    }
}

impl Repository {
    /// What names the chunks of packs of this kind.
    pub fn id_key(&self, kind: PackKind) -> &IdKey {
        match kind {
            PackKind::Data => &self.keys().data_id,
            PackKind::Metadata => &self.keys().metadata_id,
        }
    }

    /// The cipher of the pack with this salt.
    pub fn pack_cipher(&self, kind: PackKind, salt: [u8; 32]) -> ObjectCipher {
        let header = Header { kind: kind.into(), cipher: self.config().cipher, repository: self.id(), salt };
        header.object_cipher(&self.keys().seal)
    }

    /// Reads what a pack says of itself: header and directory, without its segments.
    ///
    /// # Errors
    /// `Damaged` if anything is not as it should be.
    pub fn read_pack_entry(&self, kind: PackKind, id: &Sha256, stored_bytes: u64) -> Result<PackEntry> {
        let key = layout::pack(kind, id)?;
        let head = self.store().get_range(&key, 0..HEADER_BYTES as u64)?;
        let tail_start = stored_bytes.saturating_sub(TAIL_BYTES);
        let mut tail = self.store().get_range(&key, tail_start..stored_bytes)?;
        let range = directory_range(&tail, stored_bytes).map_err(|e| e.context(&key))?;
        if range.start < tail_start {
            tail = self.store().get_range(&key, range.start..stored_bytes)?;
        }
        self.open_pack_entry(kind, id, stored_bytes, &head, &tail).map_err(|e| e.context(&key))
    }

    /// As [`Repository::read_pack_entry`] from bytes at hand: the pack's header and (at least) its directory and footer.
    ///
    /// # Errors
    /// `Damaged` if anything is not as it should be.
    pub fn open_pack_entry(
        &self,
        kind: PackKind,
        id: &Sha256,
        stored_bytes: u64,
        head: &[u8],
        tail: &[u8],
    ) -> Result<PackEntry> {
        let header = Header::parse(head)?;
        if header.kind != kind.into()
            || header.repository != self.id()
            || header.cipher != self.config().cipher
        {
            return Err(Error::damaged("the pack's header is that of another kind, cipher or repository"));
        }
        let (box_range, info) = directory_box(tail)?;
        let mut sealed = tail[box_range.clone()].to_vec();
        header.object_cipher(&self.keys().seal).open(DIRECTORY_NUMBER.into(), info, &mut sealed)?;
        let mut plain = Vec::new();
        Decompressor::new()?.decompress(info.codec, &mut sealed, info.plain_bytes as usize, &mut plain)?;
        let directory = Directory::decode(&plain)
            .map_err(|e| Error::damaged(format_args!("the pack's directory is malformed: {e}")))?;
        let expected = HEADER_BYTES as u64 + directory.box_bytes() + (box_range.len() + FOOTER_BYTES) as u64;
        if expected != stored_bytes {
            return Err(Error::damaged(format_args!(
                "the pack has {stored_bytes} bytes, its directory accounts for {expected}"
            )));
        }
        Ok(PackEntry { id: *id, salt: header.salt, kind, stored_bytes, directory })
    }

    /// Opens and decodes one segment's box into `plain`; `sealed` is used up.
    ///
    /// # Errors
    /// `Damaged` if it is not what the index says.
    pub fn open_segment(
        cipher: &ObjectCipher,
        segment: &SegmentLocation,
        sealed: &mut Vec<u8>,
        decompressor: &mut Decompressor,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        if segment.plain_bytes > SEGMENT_PLAIN_BYTES_MAX {
            return Err(Error::damaged("the index names an impossible segment"));
        }
        let info = BoxInfo { role: Role::Segment, codec: segment.codec, plain_bytes: segment.plain_bytes };
        cipher.open(segment.number.into(), info, sealed)?;
        decompressor.decompress(segment.codec, sealed, segment.plain_bytes as usize, plain)
    }

    /// Reads, opens and decodes the segment at `location`.
    ///
    /// # Errors
    /// `Damaged` if it is missing or not what the index says; errors of the store.
    pub fn read_segment(&self, location: &Location) -> Result<Vec<u8>> {
        let key = layout::pack(location.kind, &location.pack)?;
        let start = location.segment.offset;
        let range = start..start + u64::from(location.segment.box_bytes);
        let cipher = self.pack_cipher(location.kind, location.pack_salt);
        let open = |sealed: Bytes| -> Result<Vec<u8>> {
            let mut plain = Vec::new();
            let mut sealed = Vec::from(sealed);
            Self::open_segment(
                &cipher,
                &location.segment,
                &mut sealed,
                &mut Decompressor::new()?,
                &mut plain,
            )
            .map_err(|e| e.context(format_args!("segment {} of {key}", location.segment.number)))?;
            Ok(plain)
        };
        let is_kept = location.kind == PackKind::Metadata;
        if let Some(sealed) = is_kept.then(|| self.cached_part(&key, &range)).flatten() {
            match open(sealed) {
                Ok(plain) => return Ok(plain),
                Err(_) => self.forget_part(&key, &range),
            }
        }
        let sealed = self.store().get_range(&key, range.clone())?;
        let plain = open(sealed.clone())?;
        if is_kept {
            self.cache_part(&key, &range, &sealed);
        }
        Ok(plain)
    }
}

/// Where the directory's box lies in a pack, from its last bytes.
fn directory_range(tail: &[u8], stored_bytes: u64) -> Result<Range<u64>> {
    let (box_bytes, ..) = parse_footer(tail)?;
    let end = stored_bytes - FOOTER_BYTES as u64;
    match end.checked_sub(box_bytes.into()) {
        Some(start) if start >= HEADER_BYTES as u64 => Ok(start..end),
        _ => Err(Error::damaged("the pack's footer does not fit its size")),
    }
}

fn directory_box(tail: &[u8]) -> Result<(Range<usize>, BoxInfo)> {
    let (box_bytes, plain_bytes, codec) = parse_footer(tail)?;
    let end = tail.len() - FOOTER_BYTES;
    let start = end
        .checked_sub(box_bytes as usize)
        .ok_or_else(|| Error::damaged("the pack's footer does not fit its size"))?;
    Ok((start..end, BoxInfo { role: Role::Directory, codec, plain_bytes }))
}

fn parse_footer(tail: &[u8]) -> Result<(u32, u32, Codec)> {
    let damaged = || Error::damaged("the pack's footer is malformed: its end is cut off or damaged");
    let start = tail.len().checked_sub(FOOTER_BYTES).ok_or_else(damaged)?;
    let mut decoder = Decoder::new(&tail[start..]);
    let mut parse = || {
        let (box_bytes, plain_bytes) = (decoder.u32().ok()?, decoder.u32().ok()?);
        let codec = Codec::try_from(decoder.u8().ok()?).ok()?;
        let padding: [u8; 3] = decoder.array().ok()?;
        let magic: [u8; 4] = decoder.array().ok()?;
        // A directory of 64 MiB would describe three million chunks.
        let sane = padding == [0; 3]
            && magic == *FOOTER_MAGIC
            && plain_bytes <= 64 << 20
            && (TAG_BYTES..=plain_bytes as usize + TAG_BYTES).contains(&(box_bytes as usize));
        sane.then_some((box_bytes, plain_bytes, codec))
    };
    parse().ok_or_else(damaged)
}
