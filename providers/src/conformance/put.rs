//! Cases about `put`: round trips, modes, receipts, digests.

use bytes::Bytes;

use super::scratch::{Scratch, bytes};
use super::{CaseResult, Stop, Suite, require, require_error};
use crate::{Body, ErrorKind, Key, ProviderExt as _, PutMode, Sha256};

pub(super) async fn run(scratch: &Scratch, suite: &mut Suite<'_>) {
    suite.run("empty_object_round_trips", round_trip(scratch, 0)).await;
    suite.run("one_byte_round_trips", round_trip(scratch, 1)).await;
    suite.run("odd_size_round_trips", round_trip(scratch, 4097)).await;
    suite.run("large_object_round_trips", round_trip(scratch, scratch.options.large_bytes)).await;
    suite.run("many_pieces_round_trip", many_pieces(scratch)).await;
    suite.run("receipt_states_what_was_stored", receipt(scratch)).await;
    suite.run("create_new_refuses_existing", create_new(scratch)).await;
    suite.run("replace_replaces", replace(scratch)).await;
    suite.run("replace_creates", replace_creates(scratch)).await;
    suite.run("wrong_digest_is_refused", wrong_digest(scratch)).await;
    suite.run("wrong_digest_leaves_old_object", wrong_digest_over_old(scratch)).await;
    suite.run("put_is_visible_at_once", visible(scratch)).await;
    suite.run("same_bytes_again_is_success", new_or_same(scratch)).await;
    suite.run("odd_keys_are_kept_apart", odd_keys(scratch)).await;
    suite.run("folder_and_object_of_one_name", folder_and_object(scratch)).await;
}

async fn round_trip(scratch: &Scratch, len: usize) -> CaseResult {
    for mode in [PutMode::CreateNew, PutMode::Replace] {
        let key = scratch.key(&format!("round-trip/{len}"))?;
        let body = bytes(len as u64, len);
        scratch.provider.delete(&key).await?;
        scratch.put(&key, &body, mode).await?;
        scratch.require_bytes(&key, &body).await?;
    }
    Ok(())
}

async fn many_pieces(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("many-pieces")?;
    let whole = bytes(7, 100_000);
    let mut pieces = vec![Bytes::new()];
    let mut rest = whole.clone();
    for number in 0_usize.. {
        if rest.is_empty() {
            break;
        }
        // Some empty, some of a few bytes: more pieces than one system call takes.
        pieces.push(rest.split_to((number % 47).min(rest.len())));
    }
    pieces.push(Bytes::new());
    let body = Body::new(pieces);
    let digest = body.sha256();
    scratch.provider.put(&key, body, digest, PutMode::Replace).await?;
    scratch.require_bytes(&key, &whole).await
}

async fn receipt(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("receipt")?;
    let body = bytes(8, 1000);
    let receipt = scratch.put(&key, &body, PutMode::CreateNew).await?;
    require(receipt.size == 1000, format_args!("the receipt says {} bytes of 1000", receipt.size))?;
    require(receipt.sha256 == Sha256::of(&body), "the receipt has another digest")?;
    let promised = scratch.provider.capabilities().proof;
    let reason = format_args!("proof {:?}, the capabilities promise {promised:?}", receipt.proof);
    require(receipt.proof == promised, reason)
}

async fn create_new(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("create-new")?;
    let first = bytes(1, 500);
    scratch.put(&key, &first, PutMode::CreateNew).await?;
    for other in [bytes(2, 500), bytes(2, 50), first.clone()] {
        let again = scratch.put(&key, &other, PutMode::CreateNew).await;
        require_error(again, ErrorKind::Exists, "a second create-new")?;
    }
    scratch.require_bytes(&key, &first).await
}

async fn replace(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("replace")?;
    for (seed, len) in [(1, 500), (2, 5000), (3, 50), (4, 0), (5, 1)] {
        let body = bytes(seed, len);
        scratch.put(&key, &body, PutMode::Replace).await?;
        scratch.require_bytes(&key, &body).await?;
        let size = scratch.provider.head(&key).await?.size;
        require(size == len as u64, format_args!("head says {size} bytes, {len} were put"))?;
    }
    Ok(())
}

async fn replace_creates(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("replace-creates")?;
    let body = bytes(1, 10);
    scratch.put(&key, &body, PutMode::Replace).await?;
    scratch.require_bytes(&key, &body).await
}

async fn wrong_digest(scratch: &Scratch) -> CaseResult {
    for (mode, name) in [(PutMode::CreateNew, "wrong/new"), (PutMode::Replace, "wrong/replace")] {
        let key = scratch.key(name)?;
        let digest = Sha256::of(b"other bytes");
        let refused = scratch.provider.put(&key, bytes(1, 3000).into(), digest, mode).await;
        require_error(refused, ErrorKind::Corrupt, "a put with a wrong digest")?;
        require_error(scratch.provider.head(&key).await, ErrorKind::NotFound, "head of what was refused")?;
        require_error(
            scratch.provider.get(&key, None).await,
            ErrorKind::NotFound,
            "get of what was refused",
        )?;
    }
    let listed = scratch.list(&scratch.folder("wrong")?, 0).await?;
    require(listed.is_empty(), format_args!("a refused put left {:?} behind", listed.first()))
}

async fn wrong_digest_over_old(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("wrong-over-old")?;
    let old = bytes(1, 300);
    scratch.put(&key, &old, PutMode::CreateNew).await?;
    let digest = Sha256::of(b"other bytes");
    let refused = scratch.provider.put(&key, bytes(2, 300).into(), digest, PutMode::Replace).await;
    require_error(refused, ErrorKind::Corrupt, "a replace with a wrong digest")?;
    scratch.require_bytes(&key, &old).await
}

async fn visible(scratch: &Scratch) -> CaseResult {
    let folder = scratch.folder("visible")?;
    for number in 0..20 {
        let key = scratch.key(&format!("visible/{number}"))?;
        require_error(scratch.provider.head(&key).await, ErrorKind::NotFound, "head before put")?;
        let body = bytes(number, 100);
        scratch.put(&key, &body, PutMode::CreateNew).await?;
        scratch.require_bytes(&key, &body).await?;
        scratch.provider.head(&key).await?;
        let seen = scratch.list(&folder, number as usize + 1).await?.iter().any(|info| info.key == key);
        require(seen, format_args!("{key} was put and is not listed"))?;
    }
    Ok(())
}

async fn new_or_same(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("new-or-same")?;
    let body = bytes(1, 700);
    let digest = Sha256::of(&body);
    for _ in 0..2 {
        let receipt = scratch.provider.put_new_or_same(&key, body.clone().into(), digest).await?;
        require(receipt.sha256 == digest && receipt.size == 700, "the receipt is of another object")?;
    }
    let other = bytes(2, 700);
    let refused = scratch.provider.put_new_or_same(&key, other.clone().into(), Sha256::of(&other)).await;
    require_error(refused, ErrorKind::Exists, "other bytes under the same key")?;
    scratch.require_bytes(&key, &body).await
}

async fn odd_keys(scratch: &Scratch) -> CaseResult {
    let base = format!("{}/odd", scratch.options.folder.as_str());
    let long = "x".repeat(128);
    let deep = vec!["d"; 16_usize.saturating_sub(base.split('/').count()).max(1)].join("/");
    let longest = filled(512_usize.saturating_sub(base.len() + 1));
    let plain = ["0", "-", "_", "a.", "a..b", "-rf", "--", "con", "nul.txt", "a-b_c.d", "lost_found"];
    let names = plain.into_iter().chain([long.as_str(), deep.as_str(), longest.as_str()]);
    let keys: Vec<Key> = names.map(|name| scratch.key(&format!("odd/{name}"))).collect::<CaseResult<_>>()?;
    scratch.put_all(&keys).await?;
    for key in &keys {
        scratch.require_bytes(key, &Bytes::from(key.as_str().to_owned())).await?;
    }
    let listed = scratch.list(&scratch.folder("odd")?, keys.len()).await?;
    let missing = keys.iter().find(|key| !listed.iter().any(|info| info.key == **key));
    require(missing.is_none(), format_args!("{missing:?} is not listed"))?;
    require(listed.len() == keys.len(), format_args!("{} of {} are listed", listed.len(), keys.len()))
}

/// A path of exactly `chars` characters in segments as long as they may be.
fn filled(chars: usize) -> String {
    let mut path = "y".repeat(chars);
    for at in (128..chars.saturating_sub(1)).step_by(129) {
        path.replace_range(at..=at, "/");
    }
    path
}

/// The contract lets a store keep both or refuse the second, but never lose the first.
async fn folder_and_object(scratch: &Scratch) -> CaseResult {
    let (short, long) = (scratch.key("both/a")?, scratch.key("both/a/b")?);
    for (first, second) in [(&short, &long), (&long, &short)] {
        let (one, two) = (bytes(1, 40), bytes(2, 40));
        scratch.put(first, &one, PutMode::CreateNew).await?;
        match scratch.put(second, &two, PutMode::Replace).await {
            Ok(_) => scratch.require_bytes(second, &two).await?,
            Err(error) if error.kind().is_retryable() || error.kind() == ErrorKind::Exists => {
                return Err(Stop::Failed(format!("the refusal is not final and clear: {error}")));
            }
            Err(_) => {}
        }
        scratch.require_bytes(first, &one).await?;
        scratch.provider.delete(&long).await?;
        scratch.provider.delete(&short).await?;
    }
    Ok(())
}
