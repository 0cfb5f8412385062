//! Cases about `delete`, `delete_many` and `retain`.

use std::time::Duration;

use super::scratch::{Scratch, bytes};
use super::{CaseResult, Stop, Suite, require, require_error};
use crate::{ErrorKind, Key, ProviderExt as _, PutMode};

const RETENTION: Duration = Duration::from_secs(60);

pub(super) async fn run(scratch: &Scratch, suite: &mut Suite<'_>) {
    suite.run("deleted_object_is_gone", gone(scratch)).await;
    suite.run("delete_is_idempotent", idempotent(scratch)).await;
    suite.run("delete_many_answers_for_each", many(scratch)).await;
    suite.run("key_can_be_used_again", again(scratch)).await;
    suite.run("retained_object_cannot_be_deleted", retained(scratch)).await;
}

async fn gone(scratch: &Scratch) -> CaseResult {
    let (key, kept) = (scratch.key("gone/it")?, scratch.key("gone/it2")?);
    scratch.put_all(&[key.clone(), kept.clone()]).await?;
    scratch.provider.delete(&key).await?;
    require_error(scratch.provider.get(&key, None).await, ErrorKind::NotFound, "get after delete")?;
    require_error(scratch.provider.head(&key).await, ErrorKind::NotFound, "head after delete")?;
    let listed = scratch.list(&scratch.folder("gone")?, 1).await?;
    require(listed.iter().all(|info| info.key == kept), "the listing still shows it")?;
    require(scratch.provider.exists(&kept).await?, "its neighbour is gone too")
}

async fn idempotent(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("twice/it")?;
    scratch.put_all(std::slice::from_ref(&key)).await?;
    for _ in 0..3 {
        scratch.provider.delete(&key).await?;
    }
    scratch.provider.delete(&scratch.key("twice/never-was")?).await?;
    scratch.provider.delete(&scratch.key("no-such-folder/never-was")?).await?;
    Ok(())
}

async fn many(scratch: &Scratch) -> CaseResult {
    let keys: Vec<Key> = (0..30)
        .map(|number| scratch.key(&format!("many/{}/{number}", number % 3)))
        .collect::<CaseResult<_>>()?;
    // Every second one is there.
    let there: Vec<Key> = keys.iter().step_by(2).cloned().collect();
    scratch.put_all(&there).await?;
    let results = scratch.provider.delete_many(&keys).await;
    require(results.len() == keys.len(), format_args!("{} answers for {} keys", results.len(), keys.len()))?;
    for result in results {
        result?;
    }
    for key in &there {
        require(!scratch.provider.exists(key).await?, format_args!("{key} is still there"))?;
    }
    require(scratch.provider.delete_many(&[]).await.is_empty(), "answers for no keys")
}

async fn again(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("again")?;
    for seed in 0..3 {
        let body = bytes(seed, 100);
        scratch.put(&key, &body, PutMode::CreateNew).await?;
        scratch.require_bytes(&key, &body).await?;
        scratch.provider.delete(&key).await?;
    }
    Ok(())
}

async fn retained(scratch: &Scratch) -> CaseResult {
    if !scratch.options.retention {
        return Err(Stop::NotSupported("not asked for: it would leave a locked object behind".to_owned()));
    }
    let key = scratch.key("retained")?;
    let body = bytes(1, 100);
    scratch.put(&key, &body, PutMode::CreateNew).await?;
    match scratch.provider.retain(&key, RETENTION).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            return Err(Stop::NotSupported(error.to_string()));
        }
        result => result?,
    }
    require_error(scratch.provider.delete(&key).await, ErrorKind::Denied, "delete of a locked object")?;
    scratch.require_bytes(&key, &body).await?;
    let absent = scratch.key("retained-absent")?;
    require_error(scratch.provider.retain(&absent, RETENTION).await, ErrorKind::NotFound, "lock of nothing")
}
