//! A hash map that never grows above its limit: the entry inserted first makes room for a new one, in O(1).
//!
//! Entries live in one vector, linked by age; the hash table holds positions only. Against a queue of keys with lazy deletion
//! this has no stale entries to compact, iterates in order of insertion (so two equal histories give equal results), and grows
//! by moving 4-byte positions.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// The end of a chain of positions.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    /// Towards the oldest.
    older: u32,
    /// Towards the newest; in a free slot, the next free one.
    newer: u32,
}

/// What an insertion pushed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Displaced<K, V> {
    /// The value that the same key had.
    pub replaced: Option<V>,
    /// The oldest entry, when the map was full.
    pub evicted: Option<(K, V)>,
}

/// At most [`Self::limit`] entries. The hash is seeded with a constant: keys are kernel addresses and the like, which no peer chooses
/// freely, and replays must not differ.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    positions: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    free: u32,
    oldest: u32,
    newest: u32,
    limit: usize,
    hasher: FixedState,
}

impl<K: Copy + Eq + Hash, V: Copy> Bounded<K, V> {
    /// An empty map for `limit` entries (at least 1, at most 2³² − 1). Memory is taken as it fills.
    pub fn new(limit: usize) -> Self {
        Self {
            positions: HashTable::new(),
            slots: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            limit: limit.clamp(1, NONE as usize),
            hasher: FixedState::default(),
        }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    fn find(&self, key: &K) -> Option<u32> {
        self.positions.find(self.hasher.hash_one(key), |&at| self.slots[at as usize].key == *key).copied()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).map(|at| &self.slots[at as usize].value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).map(|at| &mut self.slots[at as usize].value)
    }

    /// Inserts as the newest. An entry of the same key is replaced and becomes the newest; otherwise a full map drops its oldest.
    pub fn insert(&mut self, key: K, value: V) -> Displaced<K, V> {
        if let Some(at) = self.find(&key) {
            self.unlink(at);
            self.link_newest(at);
            let replaced = std::mem::replace(&mut self.slots[at as usize].value, value);
            return Displaced { replaced: Some(replaced), evicted: None };
        }
        let evicted = if self.len() >= self.limit { self.remove_oldest() } else { None };
        let slot = Slot { key, value, older: NONE, newer: NONE };
        let at = if self.free == NONE {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.slots[at as usize].newer;
            self.slots[at as usize] = slot;
            at
        };
        self.link_newest(at);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash_at = |&at: &u32| hasher.hash_one(slots[at as usize].key);
        self.positions.insert_unique(self.hasher.hash_one(key), at, hash_at);
        Displaced { replaced: None, evicted }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slots = &self.slots;
        let found = self.positions.find_entry(self.hasher.hash_one(key), |&at| slots[at as usize].key == *key);
        let (at, _) = found.ok()?.remove();
        self.unlink(at);
        let slot = &mut self.slots[at as usize];
        slot.newer = self.free;
        self.free = at;
        Some(slot.value)
    }

    /// The entry inserted first.
    pub fn oldest(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    pub fn remove_oldest(&mut self) -> Option<(K, V)> {
        let key = *self.oldest()?.0;
        self.remove(&key).map(|value| (key, value))
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(next as usize)?;
            next = slot.newer;
            Some((&slot.key, &slot.value))
        })
    }

    fn unlink(&mut self, at: u32) {
        let (older, newer) = (self.slots[at as usize].older, self.slots[at as usize].newer);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let older = self.newest;
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        let slot = &mut self.slots[at as usize];
        (slot.older, slot.newer) = (older, NONE);
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u8, u32),
        Remove(u8),
        RemoveOldest,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..12, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0u8..12).prop_map(Step::Remove),
            1 => Just(Step::RemoveOldest),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a plain queue of pairs: the same answers, the same order, never above the limit.
        #[test]
        fn behaves_as_a_queue_with_lookup(limit in 1usize..8, steps in steps()) {
            let mut map = Bounded::new(limit);
            let mut model: VecDeque<(u8, u32)> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        let place = model.iter().position(|&(other, _)| other == key);
                        let replaced = place.and_then(|place| model.remove(place)).map(|(_, value)| value);
                        let evicted = if model.len() >= limit { model.pop_front() } else { None };
                        model.push_back((key, value));
                        prop_assert_eq!(map.insert(key, value), Displaced { replaced, evicted });
                    }
                    Step::Remove(key) => {
                        let place = model.iter().position(|&(other, _)| other == key);
                        let removed = place.and_then(|place| model.remove(place)).map(|(_, value)| value);
                        prop_assert_eq!(map.remove(&key), removed);
                    }
                    Step::RemoveOldest => prop_assert_eq!(map.remove_oldest(), model.pop_front()),
                }
                prop_assert!(map.len() <= limit);
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.iter().map(|(&k, &v)| (k, v)).collect::<Vec<_>>(), Vec::from(model.clone()));
                for &(key, value) in &model {
                    prop_assert_eq!(map.get(&key), Some(&value));
                }
            }
        }
    }

    #[test]
    fn a_limit_of_zero_still_holds_one() {
        let mut map = Bounded::new(0);
        map.insert(1, 'a');
        assert_eq!(map.insert(2, 'b').evicted, Some((1, 'a')));
    }
}
