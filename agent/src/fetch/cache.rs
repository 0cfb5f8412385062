//! Decoded segments that were used lately, bounded in bytes.

use std::collections::HashMap;
use std::sync::Arc;

use lifeboat_providers::Sha256;
use parking_lot::Mutex;

/// A segment: its pack and number.
pub type SegmentKey = (Sha256, u32);

/// A cache that forgets what was not used for longest.
pub struct SegmentCache {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    segments: HashMap<SegmentKey, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    clock: u64,
}

impl SegmentCache {
    /// A cache of at most about `bytes_max` decoded bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// The segment, if it is here.
    pub fn get(&self, key: &SegmentKey) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        let (plain, used) = state.segments.get_mut(key)?;
        *used = now;
        Some(plain.clone())
    }

    /// Keeps a segment, and forgets others while there are too many bytes.
    pub fn insert(&self, key: SegmentKey, plain: Arc<Vec<u8>>) {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        state.bytes += plain.capacity();
        if let Some((old, _)) = state.segments.insert(key, (plain, now)) {
            state.bytes -= old.capacity();
        }
        // A segment is large, so there are few: a scan costs less than keeping a list in order.
        while state.bytes > self.bytes_max && state.segments.len() > 1 {
            let Some(oldest) = state.segments.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            else {
                return;
            };
            if let Some((plain, _)) = state.segments.remove(&oldest) {
                state.bytes -= plain.capacity();
            }
        }
    }
}
