//! Places on a page: who once had one keeps it, at 0 if need be, until somebody needs it.

use std::collections::VecDeque;

/// Remembers the keys of the last pages.
#[derive(Clone, Debug)]
pub struct Sticky<K> {
    places: usize,
    /// Those that were shown and have nothing now, the latest first.
    empty: VecDeque<K>,
    shown: Vec<K>,
}

impl<K: Clone + Ord> Sticky<K> {
    /// `places`: keys on a page.
    pub fn new(places: usize) -> Self {
        Self { places, empty: VecDeque::new(), shown: Vec::new() }
    }

    /// Another number of keys on a page.
    pub fn set_places(&mut self, places: usize) {
        self.places = places;
    }

    /// Those without anything leave the page.
    pub fn forget(&mut self) {
        self.empty.clear();
        self.shown.clear();
    }

    /// The keys of the next page: the first of `rows` (the most important first), then, as far as there is room, those that were shown
    /// before. Each comes once.
    pub fn page<V: Default>(&mut self, rows: Vec<(K, V)>) -> Vec<(K, V)> {
        let mut page: Vec<(K, V)> = rows;
        page.truncate(self.places);
        let now: std::collections::BTreeSet<&K> = page.iter().map(|(key, _)| key).collect();
        let left = self.shown.iter().chain(&self.empty).filter(|key| !now.contains(key));
        let empty: VecDeque<K> = left.take(self.places - page.len()).cloned().collect();
        self.shown = page.iter().map(|(key, _)| key.clone()).collect();
        page.extend(empty.iter().map(|key| (key.clone(), V::default())));
        self.empty = empty;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptied_stay_until_their_place_is_needed() {
        let mut sticky = Sticky::new(3);
        let mut check = |rows: &[(char, u64)], page: &[(char, u64)]| assert_eq!(sticky.page(rows.to_vec()), page);
        check(&[('a', 2), ('b', 1)], &[('a', 2), ('b', 1)]);
        check(&[('c', 5)], &[('c', 5), ('a', 0), ('b', 0)]);
        check(&[('c', 5), ('d', 4)], &[('c', 5), ('d', 4), ('a', 0)]);
        check(&[('a', 9), ('c', 5), ('e', 4), ('d', 3)], &[('a', 9), ('c', 5), ('e', 4)]);
        check(&[], &[('a', 0), ('c', 0), ('e', 0)]);
        check(&[], &[('a', 0), ('c', 0), ('e', 0)]);
    }

    #[test]
    fn places_can_become_more_or_fewer_and_the_emptied_be_forgotten() {
        let mut sticky = Sticky::new(2);
        sticky.page(vec![('a', 2), ('b', 1)]);
        sticky.set_places(1);
        assert_eq!(sticky.page(vec![('a', 2), ('b', 1)]), [('a', 2)]);
        sticky.set_places(3);
        assert_eq!(sticky.page(vec![('c', 1)]), [('c', 1), ('a', 0)]);
        sticky.forget();
        assert_eq!(sticky.page(vec![('b', 1)]), [('b', 1)]);
    }

    #[test]
    fn without_places_nothing_is_shown() {
        assert_eq!(Sticky::new(0).page(vec![('a', 1)]), []);
    }
}
