//! Cases about `list`: folders and their boundaries, completeness, what is said of each object.

use std::collections::BTreeSet;

use super::scratch::{Scratch, bytes};
use super::{CaseResult, Suite, require};
use crate::{Key, PutMode, Sha256};

pub(super) async fn run(scratch: &Scratch, suite: &mut Suite<'_>) {
    suite.run("listing_keeps_to_its_folder", boundaries(scratch)).await;
    suite.run("listing_goes_into_subfolders", subfolders(scratch)).await;
    suite.run("missing_folder_is_empty", missing(scratch)).await;
    suite.run("object_is_no_folder", object(scratch)).await;
    suite.run("listing_describes_the_objects", descriptions(scratch)).await;
    suite.run("long_listing_is_complete", long(scratch)).await;
    suite.run("listing_can_be_abandoned", abandoned(scratch)).await;
}

async fn boundaries(scratch: &Scratch) -> CaseResult {
    let inside = ["edge/packs/1", "edge/packs/2"];
    let outside =
        ["edge/packs-old/1", "edge/packs.x", "edge/pack/1", "edge/packs_/1", "edge/packs0/1", "edge/pac"];
    let keys: Vec<Key> =
        inside.iter().chain(&outside).map(|name| scratch.key(name)).collect::<CaseResult<_>>()?;
    scratch.put_all(&keys).await?;
    let listed = scratch.list(&scratch.folder("edge/packs")?, inside.len()).await?;
    let found: Vec<&Key> = listed.iter().map(|info| &info.key).collect();
    let due: Vec<&Key> = keys.iter().take(inside.len()).collect();
    require(found == due, format_args!("{found:?} listed, {due:?} were due"))?;
    let all = scratch.list(&scratch.folder("edge")?, keys.len()).await?;
    require(all.len() == keys.len(), format_args!("{} of {} listed above", all.len(), keys.len()))
}

async fn subfolders(scratch: &Scratch) -> CaseResult {
    let names = ["tree/a", "tree/b/c", "tree/b/d/e", "tree/b/d/f", "tree/g/h/i/j"];
    let keys: Vec<Key> = names.iter().map(|name| scratch.key(name)).collect::<CaseResult<_>>()?;
    scratch.put_all(&keys).await?;
    for (folder, due) in [("tree", 5), ("tree/b", 3), ("tree/b/d", 2), ("tree/g", 1), ("tree/g/h/i", 1)] {
        let listed = scratch.list(&scratch.folder(folder)?, due).await?;
        require(listed.len() == due, format_args!("{} in {folder}, {due} were due", listed.len()))?;
    }
    Ok(())
}

async fn missing(scratch: &Scratch) -> CaseResult {
    let listed = scratch.list(&scratch.folder("no-such-folder/at-all")?, 0).await?;
    require(listed.is_empty(), format_args!("{} objects in a folder that is not there", listed.len()))
}

async fn object(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("no-folder")?;
    scratch.put_all(&[key]).await?;
    let listed = scratch.list(&scratch.folder("no-folder")?, 0).await?;
    require(listed.is_empty(), "an object lists itself")
}

async fn descriptions(scratch: &Scratch) -> CaseResult {
    let has_digests = scratch.provider.capabilities().listing_has_digests;
    let sizes = [0_usize, 1, 999, 10_000];
    for size in sizes {
        let key = scratch.key(&format!("described/{size:05}"))?;
        scratch.put(&key, &bytes(1, size), PutMode::CreateNew).await?;
    }
    let listed = scratch.list(&scratch.folder("described")?, sizes.len()).await?;
    require(listed.len() == sizes.len(), format_args!("{} of {} listed", listed.len(), sizes.len()))?;
    for (info, size) in listed.iter().zip(sizes) {
        require(
            info.size == size as u64,
            format_args!("{} has {} bytes, says the listing", info.key, info.size),
        )?;
        let right = match info.sha256 {
            Some(digest) => digest == Sha256::of(&bytes(1, size)),
            None => !has_digests,
        };
        require(right, format_args!("{} has digest {:?}, says the listing", info.key, info.sha256))?;
    }
    Ok(())
}

async fn long(scratch: &Scratch) -> CaseResult {
    let count = scratch.options.listed_objects;
    let keys: Vec<Key> =
        (0..count).map(|number| scratch.key(&format!("long/{number:06}"))).collect::<CaseResult<_>>()?;
    scratch.put_all(&keys).await?;
    let listed = scratch.list(&scratch.folder("long")?, count).await?;
    let distinct: BTreeSet<&Key> = listed.iter().map(|info| &info.key).collect();
    require(distinct.len() == listed.len(), "an object was listed twice")?;
    let missing = keys.iter().find(|key| !distinct.contains(key));
    require(missing.is_none(), format_args!("{missing:?} is not listed"))?;
    require(listed.len() == count, format_args!("{} listed, {count} were put", listed.len()))
}

/// Dropping a listing half-way must not harm what comes after it.
async fn abandoned(scratch: &Scratch) -> CaseResult {
    use futures_util::StreamExt as _;
    let folder = scratch.folder("long")?;
    for taken in [0, 1, 600] {
        let mut listing = scratch.provider.list(&folder);
        for _ in 0..taken {
            match listing.next().await {
                Some(info) => info?,
                None => break,
            };
        }
    }
    let key = scratch.key("after-abandoned")?;
    scratch.put_all(&[key]).await
}
