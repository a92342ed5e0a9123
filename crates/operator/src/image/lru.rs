//! Memory with a bound: what was used least recently goes first. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// Values by key, of which neither too many nor too heavy ones are kept.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    entries: HashMap<K, Kept<V>>,
    /// Keys by when they were last used.
    order: BTreeMap<u64, K>,
    /// Counts uses.
    clock: u64,
    weight: usize,
    bounds: Bounds,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Entries.
    pub(super) count: usize,
    /// Bytes.
    pub(super) weight: usize,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    used: u64,
    weight: usize,
}

/// What one entry takes besides its key and value, in bytes: two hash slots and a node of the order.
const OVERHEAD: usize = 160;

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, weight: 0, bounds }
    }

    /// A value, which counts as used now.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut V> {
        let kept = self.entries.get_mut(key)?;
        let place = self.order.remove(&kept.used);
        self.clock += 1;
        kept.used = self.clock;
        if let Some(key) = place {
            self.order.insert(self.clock, key);
        }
        Some(&mut kept.value)
    }

    /// Keeps a value of that many bytes, unless it alone is too heavy.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        let weight = bytes.saturating_add(OVERHEAD);
        if weight > self.bounds.weight || self.bounds.count == 0 {
            return;
        }
        while self.entries.len() >= self.bounds.count || self.weight + weight > self.bounds.weight {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            if let Some(kept) = self.entries.remove(&oldest) {
                self.weight -= kept.weight;
            }
        }
        self.clock += 1;
        self.weight += weight;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, Kept { value, used: self.clock, weight });
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(kept) = self.entries.remove(key) {
            self.order.remove(&kept.used);
            self.weight -= kept.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Lru, OVERHEAD};
    use proptest::prelude::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut lru = Lru::new(Bounds { count: 3, weight: usize::MAX });
        for key in 0..3 {
            lru.put(key, key, 1);
        }
        assert_eq!(lru.get(&0), Some(&mut 0));
        lru.put(3, 3, 1);
        let left: Vec<_> = (0..4).filter(|key| lru.get(key).is_some()).collect();
        assert_eq!(left, [0, 2, 3]);
    }

    #[test]
    fn what_is_too_heavy_alone_takes_nothing_elses_place() {
        let mut lru = Lru::new(Bounds { count: 10, weight: 10 * OVERHEAD });
        lru.put('a', (), 1);
        lru.put('b', (), usize::MAX);
        assert!(lru.get(&'a').is_some() && lru.get(&'b').is_none());
        lru.put('c', (), 9 * OVERHEAD);
        assert!(lru.get(&'a').is_none() && lru.get(&'c').is_some());
        lru.put('c', (), 1);
        assert_eq!((lru.entries.len(), lru.weight), (1, OVERHEAD + 1));
    }

    proptest! {
        #[test]
        fn neither_bound_is_ever_passed(steps in proptest::collection::vec((0..20_u8, 0..400_usize, 0..3_u8), 0..200)) {
            let bounds = Bounds { count: 5, weight: 1500 };
            let mut lru = Lru::new(bounds);
            for (key, bytes, what) in steps {
                match what {
                    0 => drop(lru.get(&key)),
                    1 => lru.remove(&key),
                    _ => {
                        lru.put(key, bytes, bytes);
                        prop_assert_eq!(lru.get(&key), Some(&mut bytes.clone()));
                    }
                }
                prop_assert!(lru.entries.len() <= bounds.count && lru.weight <= bounds.weight);
                prop_assert_eq!(lru.entries.len(), lru.order.len());
                let weight: usize = lru.entries.values().map(|kept| kept.weight).sum();
                prop_assert_eq!(weight, lru.weight);
            }
        }
    }
}
