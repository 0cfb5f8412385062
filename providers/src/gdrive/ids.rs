//! A pool of ids that Drive generated: a file is made under an id chosen before, so that a repeated create cannot
//! make a second file.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::api::Api;
use super::error::{Failure, Outcome};
use crate::Key;

/// Ids not used yet.
#[derive(Default)]
pub(super) struct IdPool {
    free: Mutex<Vec<String>>,
    /// Held by the one who fetches more.
    fetching: tokio::sync::Mutex<()>,
}

impl IdPool {
    /// An id that nobody else gets.
    pub(super) async fn take(&self, api: &Api) -> Outcome<String> {
        if let Some(id) = self.free.lock().pop() {
            return Ok(id);
        }
        let _alone = self.fetching.lock().await;
        if let Some(id) = self.free.lock().pop() {
            return Ok(id);
        }
        let mut ids = api.generate_ids().await?;
        let first = ids.pop().ok_or_else(|| Failure::Broken("Google Drive gave no ids".to_owned()))?;
        self.free.lock().append(&mut ids);
        Ok(first)
    }
}

/// One writer at a time for each key, within this process.
#[derive(Default)]
pub(super) struct KeyLocks(Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>);

/// So many locks may lie about before those that nobody holds are dropped.
const IDLE_LOCKS_MAX: usize = 1024;

impl KeyLocks {
    pub(super) async fn lock(&self, key: &Key) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            if locks.len() > IDLE_LOCKS_MAX {
                locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            locks.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;

    #[tokio::test]
    async fn writers_of_one_key_wait_and_idle_locks_are_dropped() {
        let locks = KeyLocks::default();
        let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
        let held = locks.lock(&a).await;
        assert!(poll_immediate(locks.lock(&a)).await.is_none());
        assert!(poll_immediate(locks.lock(&b)).await.is_some());
        for number in 0..3000 {
            drop(locks.lock(&Key::new(format!("k/{number}")).unwrap()).await);
        }
        assert!(locks.0.lock().len() <= IDLE_LOCKS_MAX + 1);
        assert!(poll_immediate(locks.lock(&a)).await.is_none(), "a lock that is held was dropped");
        drop(held);
        assert!(poll_immediate(locks.lock(&a)).await.is_some());
    }
}
