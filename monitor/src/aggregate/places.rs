//! Places on a page: a bounded number of keys, the rest in one sum, counters that never go back.

use std::collections::BTreeMap;

use super::{Tally, TopK};

/// Keys remembered with what they counted so far, to decide who gets a place.
const RANKED_CAPACITY: usize = 1024;

/// Who wants a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a, K> {
    pub key: &'a K,
    /// It has a place whatever its weight.
    pub pinned: bool,
    pub weight: u64,
}

/// Who is shown, and what was counted while it was.
///
/// A key keeps its place when it is no candidate any more, so that its counters stay, until somebody needs the place: such give way
/// first, those that counted nothing before all; of the candidates only one with less than half the weight of the newcomer, so that two
/// of a size do not take turns. What a displaced key had counted goes to the remainder, so that the sum is exact at any moment.
#[derive(Clone, Debug)]
pub struct Places<K, C> {
    limit: usize,
    shown: BTreeMap<K, C>,
    other: C,
    folded: u64,
}

impl<K: Ord + Clone, C: Tally + Copy> Places<K, C> {
    /// Shows at most `limit` keys beside the remainder.
    pub fn new(limit: usize) -> Self {
        Self { limit, shown: BTreeMap::new(), other: C::default(), folded: 0 }
    }

    /// Gives out places. `candidates`: each key once.
    pub fn choose(&mut self, candidates: &[Candidate<'_, K>]) {
        let by_key: BTreeMap<&K, &Candidate<'_, K>> = candidates.iter().map(|each| (each.key, each)).collect();
        let mut waiting: Vec<&Candidate<'_, K>> =
            candidates.iter().filter(|each| !self.shown.contains_key(each.key)).collect();
        waiting.sort_by_key(|each| (!each.pinned, std::cmp::Reverse(each.weight), each.key));
        for each in waiting {
            if self.shown.len() >= self.limit && !self.make_room(each, &by_key) {
                continue;
            }
            self.shown.entry(each.key.clone()).or_default();
        }
        self.folded = candidates.iter().filter(|each| !self.shown.contains_key(each.key)).count() as u64;
    }

    fn make_room(&mut self, newcomer: &Candidate<'_, K>, candidates: &BTreeMap<&K, &Candidate<'_, K>>) -> bool {
        let least = self.shown.iter().min_by_key(|(key, counted)| match candidates.get(key) {
            None => (0, false, counted.weight()),
            Some(each) => (1, each.pinned, each.weight),
        });
        let Some((key, _)) = least else { return false };
        let gives_way = match candidates.get(key) {
            None => true,
            Some(least) if least.pinned => false,
            Some(least) => newcomer.pinned || newcomer.weight / 2 > least.weight,
        };
        let key = key.clone();
        if gives_way {
            self.other.add(self.shown.remove(&key).unwrap_or_default());
        }
        gives_way
    }

    /// Counts what came for a key since the last time.
    pub fn count(&mut self, key: &K, grown: C) {
        self.shown.get_mut(key).unwrap_or(&mut self.other).add(grown);
    }

    /// Counts what belongs to no key.
    pub fn count_other(&mut self, grown: C) {
        self.other.add(grown);
    }

    /// A key got a better name: it goes on under that.
    pub fn rename(&mut self, old: &K, new: &K) {
        if let Some(counted) = self.shown.remove(old) {
            self.shown.entry(new.clone()).or_default().add(counted);
        }
    }

    /// All keys go on under other names. Those that get the same one are one from then on, with what they counted together.
    pub fn rename_all(&mut self, name: impl Fn(&K) -> K) {
        for (old, counted) in std::mem::take(&mut self.shown) {
            self.shown.entry(name(&old)).or_default().add(counted);
        }
    }

    /// Shows at most so many from now on; those beyond, who counted the least, go to the remainder.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        while self.shown.len() > limit {
            let least = self.shown.iter().min_by_key(|(_, counted)| counted.weight()).map(|(key, _)| key.clone());
            let Some(counted) = least.and_then(|key| self.shown.remove(&key)) else { break };
            self.other.add(counted);
        }
    }

    /// Those that are shown, in their order.
    pub fn shown(&self) -> impl Iterator<Item = (&K, C)> {
        self.shown.iter().map(|(key, counted)| (key, *counted))
    }

    /// What was counted elsewhere.
    pub fn other(&self) -> C {
        self.other
    }

    /// Candidates without a place.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

/// Places that go to whoever counted the most so far.
#[derive(Clone, Debug)]
pub struct Ranked<K, C> {
    places: Places<K, C>,
    /// By key, whether it has a place or not.
    counted: TopK<K, u64>,
}

impl<K: Ord + Clone + std::hash::Hash, C: Tally + Copy> Ranked<K, C> {
    /// As [`Places::new`].
    pub fn new(limit: usize) -> Self {
        Self { places: Places::new(limit), counted: TopK::new(RANKED_CAPACITY.max(2 * limit)) }
    }

    /// Counts what came since the last time: each key once, in the same order each time, and what belongs to no key.
    pub fn take(&mut self, grown: impl IntoIterator<Item = (K, C)>, other: C) {
        let grown: Vec<(K, C)> = grown.into_iter().collect();
        for (key, counts) in &grown {
            self.counted.add(key.clone(), counts.weight());
        }
        let candidate = |(key, &weight)| Candidate { key, pinned: false, weight };
        self.places.choose(&self.counted.iter().map(candidate).collect::<Vec<_>>());
        for (key, counts) in grown {
            self.places.count(&key, counts);
        }
        self.places.count_other(other);
    }

    /// As [`Places::rename_all`].
    pub fn rename_all(&mut self, name: impl Fn(&K) -> K) {
        let mut counted = TopK::new(self.counted.capacity());
        self.counted.iter().for_each(|(key, weight)| counted.add(name(key), *weight));
        self.counted = counted;
        self.places.rename_all(name);
    }

    /// Nobody is a candidate until it counts again: who is shown stays so until somebody else needs the place.
    pub fn forget_candidates(&mut self) {
        self.counted = TopK::new(self.counted.capacity());
    }

    /// As [`Places::set_limit`].
    pub fn set_limit(&mut self, limit: usize) {
        let mut counted = TopK::new(RANKED_CAPACITY.max(2 * limit));
        // Heaviest first, so that a smaller table keeps them.
        let held = std::mem::replace(&mut self.counted, TopK::new(0));
        let all = held.len();
        held.finish(all).entries.into_iter().for_each(|(key, weight)| counted.add(key, weight));
        self.counted = counted;
        self.places.set_limit(limit);
    }

    /// As [`Places`].
    pub fn places(&self) -> &Places<K, C> {
        &self.places
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
