//! Cases about calls at the same time, and about calls that are abandoned.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_immediate;
use tokio::task::JoinSet;

use super::scratch::{Scratch, Watched, bytes};
use super::{CaseResult, Stop, Suite, require};
use crate::{Body, ErrorKind, Key, PutMode, Sha256};

const RACES: u64 = 8;
const REPLACEMENTS: u64 = 12;
/// How often an abandoned put is looked at, and the pause between: two minutes, for disks that are very busy.
const ABANDONED_LOOKS_MAX: u32 = 2400;
const ABANDONED_LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(scratch: &Scratch, suite: &mut Suite<'_>) {
    suite.run("one_of_many_creators_wins", create_race(scratch)).await;
    suite.run("puts_at_once_all_arrive", puts_at_once(scratch)).await;
    suite.run("replacing_is_atomic_for_readers", replace_race(scratch)).await;
    suite.run("abandoned_put_is_whole_or_nothing", abandoned(scratch)).await;
}

async fn create_race(scratch: &Scratch) -> CaseResult {
    if !scratch.provider.capabilities().conditional_create {
        return Err(Stop::NotSupported("the store has no atomic create".to_owned()));
    }
    for race in 0..RACES {
        let key = scratch.key(&format!("race/{race}"))?;
        let mut writers = JoinSet::new();
        for writer in 0..scratch.options.writers as u64 {
            let (provider, key) = (scratch.provider.clone(), key.clone());
            writers.spawn(async move {
                let body = bytes(race * 1000 + writer, 2000);
                let digest = Sha256::of(&body);
                (body.clone(), provider.put(&key, body.into(), digest, PutMode::CreateNew).await)
            });
        }
        let mut winners: Vec<Bytes> = Vec::new();
        while let Some(writer) = writers.join_next().await {
            match writer.map_err(|error| Stop::Failed(error.to_string()))? {
                (body, Ok(_)) => winners.push(body),
                (_, Err(error)) if error.kind() == ErrorKind::Exists => {}
                (_, Err(error)) => return Err(error.into()),
            }
        }
        let [winner] = winners.as_slice() else {
            return Err(Stop::Failed(format!("{} of the writers created {key}", winners.len())));
        };
        scratch.require_bytes(&key, winner).await?;
    }
    Ok(())
}

async fn puts_at_once(scratch: &Scratch) -> CaseResult {
    let mut puts = JoinSet::new();
    let mut keys = Vec::new();
    for number in 0..scratch.options.writers as u64 * 2 {
        let key = scratch.key(&format!("at-once/{}/{number}", number % 4))?;
        keys.push((key.clone(), number));
        let provider = scratch.provider.clone();
        puts.spawn(async move {
            let body = bytes(number, 30_000 + number as usize);
            let digest = Sha256::of(&body);
            provider.put(&key, body.into(), digest, PutMode::CreateNew).await
        });
    }
    while let Some(put) = puts.join_next().await {
        put.map_err(|error| Stop::Failed(error.to_string()))??;
    }
    for (key, number) in keys {
        scratch.require_bytes(&key, &bytes(number, 30_000 + number as usize)).await?;
    }
    Ok(())
}

/// Two writers replace an object by turns with bodies of different length; a reader sees one or the other.
async fn replace_race(scratch: &Scratch) -> CaseResult {
    let key = scratch.key("replace-race")?;
    let bodies = [bytes(1, 60_000), bytes(2, 90_000)];
    scratch.put(&key, &bodies[0], PutMode::Replace).await?;
    let mut writers = JoinSet::new();
    for body in bodies.clone() {
        let (provider, key) = (scratch.provider.clone(), key.clone());
        writers.spawn(async move {
            let digest = Sha256::of(&body);
            for _ in 0..REPLACEMENTS {
                provider.put(&key, body.clone().into(), digest, PutMode::Replace).await?;
            }
            Ok::<(), crate::Error>(())
        });
    }
    while !writers.is_empty() {
        let found = scratch.provider.get(&key, None).await?;
        require(bodies.contains(&found), format_args!("a reader saw {} bytes of neither", found.len()))?;
        // A store that answers at once would never let the writers run on a single thread.
        tokio::task::yield_now().await;
        while let Some(writer) = writers.try_join_next() {
            writer.map_err(|error| Stop::Failed(error.to_string()))??;
        }
    }
    let last = scratch.provider.get(&key, None).await?;
    require(bodies.contains(&last), "neither body is left in the end")
}

async fn abandoned(scratch: &Scratch) -> CaseResult {
    let body = bytes(3, scratch.options.large_bytes);
    let digest = Sha256::of(&body);
    for number in 0..4 {
        let key = scratch.key(&format!("abandoned/{number}"))?;
        let (watched, in_use) = Watched::bytes(body.clone());
        // Polled once, then dropped.
        poll_immediate(scratch.provider.put(&key, Body::from(watched), digest, PutMode::CreateNew)).await;
        settled(scratch, &key, &body, &in_use).await?;
    }
    Ok(())
}

/// It may still take effect: until it has, or nobody holds its bytes any more, each look must find all or nothing.
async fn settled(scratch: &Scratch, key: &Key, body: &Bytes, in_use: &Weak<()>) -> CaseResult {
    for _ in 0..ABANDONED_LOOKS_MAX {
        let is_over = in_use.strong_count() == 0;
        if whole_or_nothing(scratch, key, body).await? || is_over {
            return Ok(());
        }
        tokio::time::sleep(ABANDONED_LOOK).await;
    }
    Err(Stop::Failed("an abandoned put neither ends nor takes effect, and may do so at any time".to_owned()))
}

/// Whether it is there, whole.
async fn whole_or_nothing(scratch: &Scratch, key: &Key, body: &Bytes) -> CaseResult<bool> {
    match scratch.provider.get(key, None).await {
        Ok(found) => {
            require(found == *body, format_args!("{} bytes of an abandoned put", found.len()))?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
