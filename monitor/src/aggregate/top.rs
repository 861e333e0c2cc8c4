//! The K largest of many keys in bounded memory, with an exact remainder.
//!
//! Up to `capacity` distinct keys everything is exact. Beyond it the smaller half is folded into the remainder each time
//! the table is full: sums stay exact, no key is ever overstated, and how much one may be understated is known.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// What is added up for a key.
pub trait Tally: Default {
    /// Decides the order, and is what the remainder counts. Must add up: the weight of a sum is the sum of the weights.
    fn weight(&self) -> u64;
    fn add(&mut self, other: Self);
}

impl Tally for u64 {
    fn weight(&self) -> u64 {
        *self
    }
    fn add(&mut self, other: Self) {
        *self += other;
    }
}

/// Adds up by key.
#[derive(Clone, Debug)]
pub struct TopK<K, V> {
    slots: HashMap<K, V, RandomState>,
    capacity: usize,
    total: u64,
    folded: u64,
    understated: u64,
}

/// The largest keys, and all the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top<K, V> {
    /// Largest weight first; equal weights by key, ascending. At most K.
    pub entries: Vec<(K, V)>,
    /// Weight of all other keys: `entries` and `other` sum to `total` exactly.
    pub other: u64,
    pub total: u64,
    /// Keys that went into `other`. A key folded, seen again and folded again counts twice.
    pub folded: u64,
    /// No entry weighs less than it should by more than this; 0 unless more than `capacity` keys came.
    pub understated: u64,
}

impl<K: Hash + Ord + Clone, V: Tally> TopK<K, V> {
    /// `capacity`: distinct keys held at once, at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { slots: HashMap::default(), capacity: capacity.max(2), total: 0, folded: 0, understated: 0 }
    }

    pub fn add(&mut self, key: K, value: V) {
        self.total += value.weight();
        if let Some(slot) = self.slots.get_mut(&key) {
            return slot.add(value);
        }
        if self.slots.len() >= self.capacity {
            self.fold_smaller_half();
        }
        self.slots.insert(key, value);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// As in [`Top::folded`], so far.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// What is held of a key now.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.slots.get(key)
    }

    /// What is held now, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter()
    }

    /// Keys held at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Keys held now.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// By weight and, among equals, by key: what is kept does not depend on the order of the table.
    fn fold_smaller_half(&mut self) {
        let keep = self.capacity / 2;
        let mut held: Vec<(K, V)> = self.slots.drain().collect();
        held.select_nth_unstable_by(keep, order);
        let folded = held.split_off(keep);
        self.folded += folded.len() as u64;
        // A key that comes again starts from 0: it has lost at most the heaviest that was folded this time.
        self.understated += folded.iter().map(|(_, value)| value.weight()).max().unwrap_or(0);
        self.slots.extend(held);
    }

    /// The `k` largest.
    pub fn finish(self, k: usize) -> Top<K, V> {
        let mut entries: Vec<(K, V)> = self.slots.into_iter().collect();
        entries.sort_unstable_by(order);
        let folded = self.folded + entries.len().saturating_sub(k) as u64;
        entries.truncate(k);
        let shown: u64 = entries.iter().map(|(_, value)| value.weight()).sum();
        Top { entries, other: self.total - shown, total: self.total, folded, understated: self.understated }
    }
}

/// Heaviest first, then by key.
fn order<K: Ord, V: Tally>(a: &(K, V), b: &(K, V)) -> std::cmp::Ordering {
    b.1.weight().cmp(&a.1.weight()).then_with(|| a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn top(capacity: usize, k: usize, keys: &[(u32, u64)]) -> Top<u32, u64> {
        let mut top = TopK::new(capacity);
        for &(key, weight) in keys {
            top.add(key, weight);
        }
        top.finish(k)
    }

    #[test]
    fn the_largest_come_first_and_the_rest_is_exact() {
        let check = |name, k, keys: &[(u32, u64)], entries: &[(u32, u64)], other, folded| {
            let expected = Top {
                entries: entries.to_vec(),
                other,
                total: keys.iter().map(|(_, weight)| weight).sum(),
                folded,
                understated: 0,
            };
            assert_eq!(top(16, k, keys), expected, "{name}");
        };
        check("nothing", 2, &[], &[], 0, 0);
        check("fewer than k", 2, &[(7, 1)], &[(7, 1)], 0, 0);
        check("by weight", 2, &[(1, 1), (2, 5), (3, 3)], &[(2, 5), (3, 3)], 1, 1);
        check("equals by key", 2, &[(3, 1), (2, 1), (1, 1)], &[(1, 1), (2, 1)], 1, 1);
        check("added up", 1, &[(1, 2), (2, 3), (1, 2)], &[(1, 4)], 3, 1);
        check("k of 0 folds everything", 0, &[(1, 2), (2, 3)], &[], 5, 2);
    }

    #[test]
    fn memory_is_bounded_under_200_000_keys_and_a_heavy_one_survives() {
        let mut top = TopK::new(4096);
        for key in 1..=200_000_u32 {
            top.add(key, 1_u64);
            // One in 100 belongs to the heavy key, from the middle on.
            if key > 100_000 && key % 100 == 0 {
                top.add(0, 1);
            }
            assert!(top.len() <= 4096);
        }
        let top = top.finish(10);
        assert_eq!(top.total, 201_000);
        assert_eq!(top.entries.iter().map(|(_, weight)| weight).sum::<u64>() + top.other, 201_000);
        let (key, weight) = top.entries[0];
        assert_eq!(key, 0);
        assert!(weight <= 1000 && weight + top.understated >= 1000, "{weight} understated by {}", top.understated);
        assert_eq!(top.folded, 200_001 - 10);
    }

    proptest! {
        #[test]
        fn sums_are_exact_whatever_k_and_capacity(
            keys in prop::collection::vec((0..60_u32, 0..1000_u64), 0..400),
            k in 0..70_usize,
            capacity in 0..70_usize,
        ) {
            let result = top(capacity, k, &keys);
            let mut exact = std::collections::BTreeMap::<u32, u64>::new();
            for &(key, weight) in &keys {
                *exact.entry(key).or_default() += weight;
            }
            let shown: u64 = result.entries.iter().map(|(_, weight)| weight).sum();
            prop_assert_eq!(shown + result.other, keys.iter().map(|(_, weight)| weight).sum::<u64>());
            prop_assert!(result.entries.len() <= k);
            for (key, weight) in &result.entries {
                prop_assert!(*weight <= exact[key] && weight + result.understated >= exact[key]);
            }
            if exact.len() <= capacity {
                let mut largest: Vec<_> = exact.into_iter().collect();
                largest.sort_by_key(|&(key, weight)| (std::cmp::Reverse(weight), key));
                largest.truncate(k);
                prop_assert_eq!((result.entries, result.understated), (largest, 0));
            }
        }

        #[test]
        fn the_order_of_arrival_does_not_matter_within_capacity(
            keys in prop::collection::vec((0..30_u32, 1..9_u64), 0..200),
        ) {
            let mut reversed = keys.clone();
            reversed.reverse();
            prop_assert_eq!(top(30, 5, &keys), top(30, 5, &reversed));
        }
    }
}
