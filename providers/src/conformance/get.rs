//! Cases about `get` and `head`: ranges, what is missing, what is said of an object.

use bytes::Bytes;

use super::scratch::{Scratch, bytes};
use super::{CaseResult, Suite, require, require_error};
use crate::{ErrorKind, ProviderExt as _, PutMode, Sha256};

pub(super) async fn run(scratch: &Scratch, suite: &mut Suite<'_>) {
    suite.run("ranges_are_exact", ranges(scratch)).await;
    suite.run("range_beyond_end_is_corrupt", beyond_end(scratch)).await;
    suite.run("empty_range_gives_nothing", empty_range(scratch)).await;
    suite.run("missing_object_is_not_found", missing(scratch)).await;
    suite.run("folder_is_no_object", folder(scratch)).await;
    suite.run("head_describes_the_object", head(scratch)).await;
    suite.run("get_verified_compares_digests", verified(scratch)).await;
    suite.run("usage_is_plausible", usage(scratch)).await;
    suite.run("capabilities_are_plausible", capabilities(scratch)).await;
}

async fn ranges(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("ranges")?;
    let len = 70_001;
    let body = bytes(3, len);
    scratch.put(&key, &body, PutMode::CreateNew).await?;
    let ranges = [
        (0, 1),
        (0, 10),
        (1, 2),
        (4095, 4097),
        (12_345, 54_321),
        (len - 1, len),
        (len - 100, len),
        (1, len),
        (0, len),
    ];
    for (start, end) in ranges {
        let found = scratch.provider.get(&key, Some(start as u64..end as u64)).await?;
        let reason = format_args!("bytes {start}..{end} of {len}: {} other bytes came", found.len());
        require(found == body.slice(start..end), reason)?;
    }
    Ok(())
}

async fn beyond_end(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("beyond-end")?;
    let empty = scratch.key("beyond-end-empty")?;
    scratch.put(&key, &bytes(4, 100), PutMode::CreateNew).await?;
    scratch.put(&empty, &Bytes::new(), PutMode::CreateNew).await?;
    for range in [99..101, 0..101, 100..101, 5000..5001, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
        let call = format!("get of {range:?} of 100 bytes");
        require_error(scratch.provider.get(&key, Some(range)).await, ErrorKind::Corrupt, call)?;
    }
    let call = "get of a byte of an empty object";
    require_error(scratch.provider.get(&empty, Some(0..1)).await, ErrorKind::Corrupt, call)
}

async fn empty_range(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("empty-range")?;
    scratch.put(&key, &bytes(5, 100), PutMode::CreateNew).await?;
    for start in [0, 50, 100] {
        let found = scratch.provider.get(&key, Some(start..start)).await?;
        require(found.is_empty(), format_args!("{} bytes came for {start}..{start}", found.len()))?;
    }
    let absent = scratch.key("empty-range-absent")?;
    let found = scratch.provider.get(&absent, Some(0..0)).await?;
    require(found.is_empty(), "bytes came of an object that is not there")
}

async fn missing(scratch: &Scratch) -> CaseResult {
    for name in ["missing", "missing/below/it", "ranges-not-there"] {
        let key = scratch.key(name)?;
        require_error(scratch.provider.get(&key, None).await, ErrorKind::NotFound, "get")?;
        require_error(scratch.provider.get(&key, Some(0..1)).await, ErrorKind::NotFound, "get of a range")?;
        require_error(scratch.provider.head(&key).await, ErrorKind::NotFound, "head")?;
        require(!scratch.provider.exists(&key).await?, "exists says yes")?;
    }
    Ok(())
}

async fn folder(scratch: &Scratch) -> CaseResult {
    let inside = scratch.key("some-folder/object")?;
    scratch.put(&inside, &bytes(6, 10), PutMode::CreateNew).await?;
    let folder = scratch.key("some-folder")?;
    let below = scratch.key("some-folder/object/below")?;
    for key in [folder, below] {
        require_error(
            scratch.provider.get(&key, None).await,
            ErrorKind::NotFound,
            format_args!("get {key}"),
        )?;
        require_error(scratch.provider.head(&key).await, ErrorKind::NotFound, format_args!("head {key}"))?;
        scratch.provider.delete(&key).await?;
    }
    require(scratch.provider.exists(&inside).await?, "deleting a folder's name removed what is in it")
}

async fn head(scratch: &Scratch) -> CaseResult {
    for len in [0, 1, 5000] {
        let key = scratch.key(&format!("head/{len}"))?;
        let body = bytes(9, len);
        scratch.put(&key, &body, PutMode::CreateNew).await?;
        let info = scratch.provider.head(&key).await?;
        require(info.key == key, format_args!("it is called {}", info.key))?;
        require(info.size == len as u64, format_args!("{} bytes, {len} were put", info.size))?;
        let right = info.sha256.is_none_or(|digest| digest == Sha256::of(&body));
        require(right, "the digest is not that of the bytes put")?;
    }
    Ok(())
}

async fn verified(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("verified")?;
    let body = bytes(10, 2000);
    scratch.put(&key, &body, PutMode::CreateNew).await?;
    let found = scratch.provider.get_verified(&key, Sha256::of(&body)).await?;
    require(found == body, "other bytes came")?;
    let refused = scratch.provider.get_verified(&key, Sha256::of(b"other bytes")).await;
    require_error(refused, ErrorKind::Corrupt, "get with another digest")
}

async fn usage(scratch: &Scratch) -> CaseResult {
    let usage = scratch.provider.usage().await?;
    if let (Some(available), Some(limit)) = (usage.available_bytes, usage.limit_bytes) {
        require(available <= limit, format_args!("{available} bytes available of {limit}"))?;
    }
    if let (Some(used), Some(limit)) = (usage.used_bytes, usage.limit_bytes) {
        require(used <= limit, format_args!("{used} bytes used of {limit}"))?;
    }
    Ok(())
}

async fn capabilities(scratch: &Scratch) -> CaseResult {
    let capabilities = scratch.provider.capabilities();
    require(capabilities.pack_bytes_preferred > 0, "packs of no bytes")?;
    require(capabilities.pack_bytes_preferred <= capabilities.object_bytes_max, "packs too large to store")?;
    require(capabilities.concurrency_preferred > 0, "no call at a time")?;
    require(capabilities == scratch.provider.capabilities(), "they changed between two calls")
}
