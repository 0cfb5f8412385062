//! Index shards as stored remotely: lists of packs and their directories. See `docs/format.md`, "Index shards".
//!
//! This is the plaintext; sealing is done elsewhere.

use lifeboat_providers::Sha256;

use crate::pack::directory::{Directory, PackKind, SEGMENTS_OFFSET};
use crate::tree::codec::{Decoder, Malformed, put_varint};

/// The most plain bytes of a shard: the format's limit on whole objects.
pub const SHARD_PLAIN_BYTES_MAX: usize = 64 << 20;

const SHA256_BYTES: usize = 32;

/// Id, salt, kind, one-byte size and an empty directory.
const PACK_BYTES_MIN: usize = 32 + 32 + 1 + 1 + 1;

/// The least bytes of a pack beyond header and segments: an empty directory's box and the footer.
const PACK_TAIL_BYTES_MIN: u64 = 17 + 16;

/// Part of the index: what some packs hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shard {
    /// Shards that are to be ignored while this one is present.
    pub replaces: Vec<Sha256>,
    /// The packs.
    pub packs: Vec<PackEntry>,
}

/// What a shard says of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// SHA-256 of the stored pack, its name.
    pub id: Sha256,
    /// The salt in the pack's header: its key can be derived without reading it.
    pub salt: [u8; 32],
    /// What the chunks are.
    pub kind: PackKind,
    /// The pack object's size.
    pub stored_bytes: u64,
    /// The pack's directory.
    pub directory: Directory,
}

impl Shard {
    /// The stored plaintext.
    ///
    /// # Errors
    /// [`Malformed`] if a pack's directory breaks a limit of the format or the shard is over
    /// [`SHARD_PLAIN_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let capacity: usize = self.packs.iter().map(PackEntry::encoded_bytes_max).sum();
        let mut out = Vec::with_capacity(capacity + 20 + self.replaces.len() * SHA256_BYTES);
        put_varint(&mut out, self.replaces.len() as u64);
        for id in &self.replaces {
            out.extend_from_slice(id.as_bytes());
        }
        put_varint(&mut out, self.packs.len() as u64);
        for pack in &self.packs {
            pack.encode_into(&mut out)?;
        }
        if out.len() > SHARD_PLAIN_BYTES_MAX {
            return Err(Malformed { offset: out.len(), reason: "index shard over 64 MiB" });
        }
        Ok(out)
    }

    /// Reads the stored plaintext.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are no shard or break a limit of the format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut decoder = Decoder::new(bytes);
        if bytes.len() > SHARD_PLAIN_BYTES_MAX {
            return Err(decoder.malformed("index shard over 64 MiB"));
        }
        let count = decoder.count(SHA256_BYTES)?;
        let mut replaces = Vec::with_capacity(count);
        for _ in 0..count {
            replaces.push(Sha256::from_bytes(decoder.array()?));
        }
        let count = decoder.count(PACK_BYTES_MIN)?;
        let mut packs = Vec::with_capacity(count);
        for _ in 0..count {
            packs.push(PackEntry::read(&mut decoder)?);
        }
        decoder.finish()?;
        Ok(Self { replaces, packs })
    }

    /// How many chunks all packs hold.
    pub fn chunk_count(&self) -> usize {
        self.packs.iter().map(|pack| pack.directory.chunk_count()).sum()
    }
}

impl PackEntry {
    /// The encoded form is never longer than this: for deciding when a shard is full.
    pub fn encoded_bytes_max(&self) -> usize {
        2 * SHA256_BYTES + 1 + 10 + self.directory.encoded_bytes_max()
    }

    fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.check().map_err(|reason| Malformed { offset: out.len(), reason })?;
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.salt);
        out.push(self.kind.code());
        put_varint(out, self.stored_bytes);
        self.directory.encode_into(out)
    }

    fn read(decoder: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let id = Sha256::from_bytes(decoder.array()?);
        let salt = decoder.array()?;
        let kind = decoder.u8()?;
        let kind = PackKind::try_from(kind).map_err(|_| decoder.malformed("unknown pack kind"))?;
        let stored_bytes = decoder.varint()?;
        let directory = Directory::read(decoder)?;
        let pack = Self { id, salt, kind, stored_bytes, directory };
        pack.check().map_err(|reason| decoder.malformed(reason))?;
        Ok(pack)
    }

    /// The segments must lie inside the pack, whatever a reader then does with their offsets.
    fn check(&self) -> Result<(), &'static str> {
        let least = SEGMENTS_OFFSET + self.directory.box_bytes() + PACK_TAIL_BYTES_MIN;
        if self.stored_bytes >= least { Ok(()) } else { Err("segments beyond their pack's end") }
    }
}
