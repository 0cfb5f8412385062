//! What was used lately, bounded in number: two generations, of which the older is dropped when the younger is full.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// A cache of at most twice `capacity` values.
pub(super) struct Cache<K, V> {
    state: Mutex<Generations<K, V>>,
    capacity: usize,
}

struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }), capacity }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut state = self.state.lock();
        if let Some(value) = state.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = state.old.remove_entry(key)?;
        state.young.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&self, key: K, value: V) {
        let mut state = self.state.lock();
        if state.young.len() >= self.capacity {
            state.old = std::mem::take(&mut state.young);
        }
        state.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let cache = Cache::new(10);
        for n in 0..1000 {
            cache.insert(n, n);
            assert_eq!(cache.get(&0), Some(0), "after {n}");
        }
        assert_eq!(cache.get(&500), None);
        let state = cache.state.lock();
        assert!(state.young.len() + state.old.len() <= 22);
    }
}
