//! The `config` object: what a repository is, in clear, and its parameters, sealed. See `docs/format.md`.

use serde::{Deserialize, Serialize};

use crate::chunk::Params;
use crate::repository::versioned;
use crate::seal::Cipher;
use crate::seal::header::{Header, ObjectKind, RepositoryId};
use crate::seal::keys::SealKey;
use crate::seal::object::{SealedObject, open_whole, seal_whole};
use crate::tree::codec::{Decoder, Malformed};
use crate::{Error, Kind, Result};

const MAGIC: &[u8; 8] = b"LIFEBOAT";
const FORMAT_VERSION: u16 = 1;
/// Features a reader must know to read the repository; this version knows none.
const FEATURES_KNOWN: &[&str] = &[];

/// What can be read of a repository without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearHeader {
    /// Which repository it is.
    pub repository: RepositoryId,
    /// Features a reader must know.
    pub features: Vec<String>,
}

/// The sealed parameters of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    version: u16,
    repository_id: String,
    features: Vec<String>,
    /// Seals all objects.
    pub cipher: Cipher,
    /// When the repository was made, RFC 3339.
    pub created: String,
    /// How files are cut.
    pub chunker: Params,
    /// Plain bytes of a data segment, about.
    pub segment_bytes: usize,
    /// Stored bytes of a pack, about.
    pub pack_bytes: usize,
}

/// Plain bytes of a data segment, about.
pub const SEGMENT_BYTES: usize = 2 << 20;
const SEGMENT_BYTES_MAX: usize = 8 << 20;
const PACK_BYTES_MAX: usize = 1 << 30;

impl Config {
    /// Parameters for a new repository.
    pub fn new(repository: RepositoryId, cipher: Cipher, pack_bytes: usize, created: String) -> Self {
        Self {
            version: FORMAT_VERSION,
            repository_id: repository.to_string(),
            features: Vec::new(),
            cipher,
            created,
            chunker: Params::default(),
            segment_bytes: SEGMENT_BYTES,
            pack_bytes,
        }
    }

    /// The stored object.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn seal(&self, repository: RepositoryId, seal: &SealKey) -> Result<SealedObject> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.features.len() as u8);
        for feature in &self.features {
            out.push(feature.len() as u8);
            out.extend_from_slice(feature.as_bytes());
        }
        out.extend_from_slice(&repository.0);
        let json = serde_json::to_vec(self).map_err(|e| Error::failed(e.to_string()))?;
        let header = Header::generate(ObjectKind::Config, self.cipher, repository)?;
        out.extend_from_slice(&seal_whole(&header, seal, &json)?);
        Ok(SealedObject::from_stored(out))
    }

    /// Opens the stored object; its clear header was read by [`ClearHeader::parse`] before.
    ///
    /// # Errors
    /// `Damaged` if anything in it is not as it should be.
    pub fn open(stored: &[u8], seal: &SealKey) -> Result<Self> {
        let (clear, rest) = ClearHeader::parse(stored)?;
        let (header, json) = open_whole(ObjectKind::Config, seal, rest)?;
        let config: Self = serde_json::from_slice(&json)
            .map_err(|e| Error::damaged(format_args!("the repository's config is malformed: {e}")))?;
        let damaged = |reason: &str| Err(Error::damaged(format_args!("the repository's config: {reason}")));
        if config.version != FORMAT_VERSION
            || config.features != clear.features
            || config.repository_id != clear.repository.to_string()
            || header.repository != clear.repository
            || header.cipher != config.cipher
        {
            return damaged("its clear header was changed");
        }
        if let Err(reason) = config.chunker.validate() {
            return damaged(reason);
        }
        let sizes_fit = (1..=SEGMENT_BYTES_MAX).contains(&config.segment_bytes)
            && (1..=PACK_BYTES_MAX).contains(&config.pack_bytes);
        if sizes_fit { Ok(config) } else { damaged("impossible segment or pack size") }
    }
}

impl ClearHeader {
    /// Reads the clear header and returns it with the sealed rest.
    ///
    /// # Errors
    /// `NoRepository` if it is something else; a failure that names them for a newer version or unknown features.
    pub fn parse(stored: &[u8]) -> Result<(Self, &[u8])> {
        let mut decoder = Decoder::new(stored);
        let not_one = |_: Malformed| {
            Error::damaged("the object `config` is not that of a Lifeboat repository")
                .with_hint("If there is another copy of the repository, copy its `config` here.")
        };
        if &decoder.array::<8>().map_err(not_one)? != MAGIC {
            return Err(not_one(decoder.malformed("magic")));
        }
        let version = decoder.u16().map_err(not_one)?;
        if version != FORMAT_VERSION {
            return Err(Error::new(
                Kind::Failed,
                format_args!(
                    "the repository has format version {version}; this lifeboat knows {FORMAT_VERSION}"
                ),
            )
            .with_hint(versioned::USE_ITS_VERSION));
        }
        let mut features = Vec::new();
        for _ in 0..decoder.u8().map_err(not_one)? {
            let len = decoder.u8().map_err(not_one)?;
            let name = decoder.take(len.into()).map_err(not_one)?;
            features.push(String::from_utf8_lossy(name).into_owned());
        }
        if let Some(unknown) = features.iter().find(|f| !FEATURES_KNOWN.contains(&f.as_str())) {
            return Err(Error::failed(format_args!(
                "the repository needs the feature {unknown:?}, which this lifeboat does not know"
            ))
            .with_hint(versioned::USE_ITS_VERSION));
        }
        let repository = RepositoryId(decoder.array().map_err(not_one)?);
        let rest = decoder.take(decoder.remaining()).map_err(not_one)?;
        Ok((Self { repository, features }, rest))
    }
}
