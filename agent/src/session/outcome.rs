//! `outcomes/<id>`: how a session ended, said once, by whoever is first: its writer (**committed**, with the stored bytes of its snapshots) or
//! another machine (**fenced**). See `docs/format.md`, "Outcomes".
//!
//! Whoever finds a committed one puts its snapshots: the same bytes under the same names, so that it does not matter who does it.

use bytes::Bytes;
use lifeboat_providers::Sha256;

use crate::repository::{Area, Repository, layout, store, versioned};
use crate::seal::SealedObject;
use crate::seal::header::ObjectKind;
use crate::tree::codec::{Decoder, put_varint};
use crate::{Error, Kind, Result};

const VERSION: u8 = 1;
const CODE_FENCED: u8 = 0;
const CODE_COMMITTED: u8 = 1;

/// Stored bytes of all snapshots of one outcome at most: its plain form stays far below the format's limit.
pub const OUTCOME_BYTES_MAX: usize = 32 << 20;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its writer was taken for dead: what it had stored may be deleted.
    Fenced,
    /// It made these snapshots: their stored bytes.
    Committed(Vec<Bytes>),
}

impl Outcome {
    /// The plain bytes that are sealed.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Fenced => vec![VERSION, CODE_FENCED],
            Self::Committed(snapshots) => {
                let mut out = vec![VERSION, CODE_COMMITTED];
                put_varint(&mut out, snapshots.len() as u64);
                for snapshot in snapshots {
                    put_varint(&mut out, snapshot.len() as u64);
                    out.extend_from_slice(snapshot);
                }
                out
            }
        }
    }

    /// Reads the opened bytes.
    ///
    /// # Errors
    /// `Damaged` if they are none; a failure that names it for another version.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        let malformed = |_| Error::damaged("malformed outcome of a session");
        let mut decoder = Decoder::new(plain);
        let [version, code] = decoder.array().map_err(malformed)?;
        if version != VERSION {
            return Err(versioned::other_version("outcome", version));
        }
        let outcome = match code {
            CODE_FENCED => Self::Fenced,
            CODE_COMMITTED => {
                let mut snapshots = Vec::new();
                for _ in 0..decoder.varint().map_err(malformed)? {
                    let bytes = usize::try_from(decoder.varint().map_err(malformed)?).unwrap_or(usize::MAX);
                    snapshots.push(Bytes::copy_from_slice(decoder.take(bytes).map_err(malformed)?));
                }
                Self::Committed(snapshots)
            }
            _ => return Err(Error::damaged("malformed outcome of a session")),
        };
        decoder.finish().map_err(malformed)?;
        Ok(outcome)
    }
}

/// Reads how a session ended; `None` if nobody has said so.
///
/// # Errors
/// `Damaged` or `Failed` (a later version) if it cannot be read; errors of the store.
pub fn read(repository: &Repository, id: u128) -> Result<Option<Outcome>> {
    let key = layout::outcome(id)?;
    let stored = match repository.store().get(&key) {
        Ok(stored) => stored,
        Err(e) if store::is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let plain = repository.open_object(ObjectKind::Outcome, &stored).map_err(|e| e.context(&key))?;
    Outcome::decode(&plain).map(Some).map_err(|e| e.context(&key))
}

/// Says how a session ended, unless somebody has said so; returns what counts.
///
/// # Errors
/// `Damaged` or `Failed` if somebody has and it cannot be read; errors of the store.
fn say(repository: &Repository, id: u128, outcome: Outcome, object: &SealedObject) -> Result<Outcome> {
    match repository.store().create(&layout::outcome(id)?, object) {
        Ok(_) => Ok(outcome),
        // Perhaps by an earlier try of this very request: what it says decides. Where it is gone again the session is done with.
        Err(e) if store::is_taken(&e) => Ok(read(repository, id)?.unwrap_or(Outcome::Fenced)),
        Err(e) => Err(e),
    }
}

/// Whether sessions can be fenced at this store.
pub fn can_fence(repository: &Repository) -> bool {
    repository.store().capabilities().conditional_create
}

/// Commits a session with the stored bytes of its snapshots.
///
/// # Errors
/// `Fenced` if another machine was first; errors of the store: whether it is committed is then not known.
pub(super) fn commit(repository: &Repository, id: u128, snapshots: Vec<Bytes>) -> Result<()> {
    let own = Outcome::Committed(snapshots);
    let object = repository.seal(ObjectKind::Outcome, &own.encode())?;
    match say(repository, id, own.clone(), &object) {
        Ok(said) if said == own => Ok(()),
        Ok(_) => Err(fenced()),
        // Nobody can tell what it says: that it is ours could be read.
        Err(e) if is_unreadable(&e) => Err(fenced().with_source(e)),
        Err(e) => Err(e),
    }
}

/// Whether an outcome is there and says nothing that can be understood.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Failed) && !store::is_missing(error)
}

/// Fences a session: its writer can commit nothing any more. Returns what counts, which may be that it has committed before; then
/// [`help`] is due. Where the store cannot create conditionally nothing is written: the long stale time stands for the fence.
///
/// # Errors
/// `Damaged` or `Failed` if there is an outcome that cannot be read; errors of the store.
pub fn fence(repository: &Repository, id: u128) -> Result<Outcome> {
    if !can_fence(repository) {
        return Ok(Outcome::Fenced);
    }
    let object = repository.seal(ObjectKind::Outcome, &Outcome::Fenced.encode())?;
    say(repository, id, Outcome::Fenced, &object)
}

/// Puts the snapshots of a committed session, and returns their ids: those that are there already are the same.
///
/// # Errors
/// Errors of the store.
pub fn help(repository: &Repository, outcome: &Outcome) -> Result<Vec<Sha256>> {
    let Outcome::Committed(snapshots) = outcome else { return Ok(Vec::new()) };
    let put = |bytes: &Bytes| {
        let id = Sha256::of(bytes);
        let key = layout::named_by_hash(Area::Snapshots, &id)?;
        repository.store().create_or_same(&key, &SealedObject::copied(bytes.clone(), id))?;
        Ok(id)
    };
    snapshots.iter().map(put).collect()
}

/// The error of a writer that was taken for dead.
pub(super) fn fenced() -> Error {
    Error::new(
        Kind::Fenced,
        "this run was not heard of for so long that another machine took it for dead, and nothing of it may count any more",
    )
    .with_hint("Run the command again: what it stored is used as far as it is still there. Was this machine asleep?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        let some = Outcome::Committed(vec![Bytes::from_static(b"one"), Bytes::new()]);
        for outcome in [Outcome::Fenced, Outcome::Committed(Vec::new()), some] {
            let plain = outcome.encode();
            assert_eq!(Outcome::decode(&plain).unwrap(), outcome);
            for cut in 0..plain.len() {
                assert_eq!(Outcome::decode(&plain[..cut]).unwrap_err().kind(), Kind::Damaged, "{cut}");
            }
            let longer = [plain.as_slice(), b"x"].concat();
            assert_eq!(Outcome::decode(&longer).unwrap_err().kind(), Kind::Damaged);
        }
        assert_eq!(Outcome::decode(&[2, 0]).unwrap_err().kind(), Kind::Failed);
        assert_eq!(Outcome::decode(&[1, 9]).unwrap_err().kind(), Kind::Damaged);
        // A count that the input does not justify allocates nothing.
        assert_eq!(Outcome::decode(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap_err().kind(), Kind::Damaged);
    }
}
