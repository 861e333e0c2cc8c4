//! Places of namespaces on a page: a bounded number of names, the rest in `other`, counters that never go back.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::OTHER;

/// Name of the namespace of process 1: the host's own.
pub const HOST_NAMESPACE: &str = "host";

/// What the kernel counted in one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// `TCPTimeWaitOverflow`.
    pub time_wait_overflows: u64,
    /// `ListenOverflows`.
    pub listen_overflows: u64,
    /// `ListenDrops`.
    pub listen_drops: u64,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, more: Self) {
        self.time_wait_overflows += more.time_wait_overflows;
        self.listen_overflows += more.listen_overflows;
        self.listen_drops += more.listen_drops;
    }
}

impl Counted {
    fn sum(self) -> u64 {
        self.time_wait_overflows + self.listen_overflows + self.listen_drops
    }
}

/// A living namespace that wants a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub name: &'a str,
    /// It has a place whatever its weight.
    pub pinned: bool,
    /// Sockets.
    pub weight: u64,
}

/// Who is shown, and what was counted while it was.
///
/// A name keeps its place after its namespace is gone, so that its counters stay, until somebody needs the place: the gone give way
/// first, those that counted nothing before all; of the living only one with less than half the sockets of the newcomer, so that two
/// of a size do not take turns. What a displaced name had counted goes to the remainder, so that the sum is exact at any moment.
#[derive(Clone, Debug)]
pub struct Places {
    limit: usize,
    shown: BTreeMap<String, Counted>,
    other: Counted,
    folded: u64,
}

impl Places {
    /// Shows at most `limit` names beside the remainder.
    pub fn new(limit: usize) -> Self {
        Self { limit, shown: BTreeMap::new(), other: Counted::default(), folded: 0 }
    }

    /// Gives out places. `living`: all namespaces that exist, each once.
    pub fn choose(&mut self, living: &[Candidate<'_>]) {
        let by_name: BTreeMap<&str, &Candidate<'_>> = living.iter().map(|each| (each.name, each)).collect();
        let mut waiting: Vec<&Candidate<'_>> =
            living.iter().filter(|each| !self.shown.contains_key(each.name) && each.name != OTHER).collect();
        waiting.sort_by_key(|each| (!each.pinned, std::cmp::Reverse(each.weight), each.name));
        for each in waiting {
            if self.shown.len() >= self.limit && !self.make_room(each, &by_name) {
                continue;
            }
            self.shown.entry(each.name.to_owned()).or_default();
        }
        self.folded = living.iter().filter(|each| !self.shown.contains_key(each.name)).count() as u64;
    }

    fn make_room(&mut self, newcomer: &Candidate<'_>, living: &BTreeMap<&str, &Candidate<'_>>) -> bool {
        let least = self.shown.iter().min_by_key(|(name, counted)| match living.get(name.as_str()) {
            None => (0, false, counted.sum()),
            Some(each) => (1, each.pinned, each.weight),
        });
        let Some((name, _)) = least else { return false };
        let gives_way = match living.get(name.as_str()) {
            None => true,
            Some(least) if least.pinned => false,
            Some(least) => newcomer.pinned || newcomer.weight / 2 > least.weight,
        };
        let name = name.clone();
        if gives_way {
            self.other += self.shown.remove(&name).unwrap_or_default();
        }
        gives_way
    }

    /// Counts what was counted in a namespace since the last time.
    pub fn count(&mut self, name: &str, grown: Counted) {
        *self.shown.get_mut(name).unwrap_or(&mut self.other) += grown;
    }

    /// A namespace got a better name: it goes on under that.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(counted) = self.shown.remove(old) {
            *self.shown.entry(new.to_owned()).or_default() += counted;
        }
    }

    /// Those that are shown, by name.
    pub fn shown(&self) -> impl Iterator<Item = (&str, Counted)> {
        self.shown.iter().map(|(name, counted)| (name.as_str(), *counted))
    }

    /// What was counted elsewhere.
    pub fn other(&self) -> Counted {
        self.other
    }

    /// Living namespaces without a place.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choose(places: &mut Places, living: &[(&str, u64)]) -> String {
        let living: Vec<_> =
            living.iter().map(|&(name, weight)| Candidate { name, pinned: name == "host", weight }).collect();
        places.choose(&living);
        places.shown().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn places_go_to_the_busiest_and_change_hands_seldom() {
        let mut places = Places::new(3);
        let mut check = |why, living: &[(&str, u64)], shown, folded| {
            assert_eq!((choose(&mut places, living).as_str(), places.folded()), (shown, folded), "{why}");
        };
        check("nobody", &[], "", 0);
        check("room for all", &[("b", 0), ("a", 0)], "a b", 0);
        check("the pinned and one far busier", &[("a", 9), ("b", 8), ("c", 99), ("host", 0)], "a c host", 1);
        check("more than twice as busy", &[("a", 9), ("b", 50), ("c", 99), ("host", 0)], "b c host", 1);
        check("twice is not enough", &[("a", 9), ("b", 50), ("c", 30), ("d", 60), ("host", 0)], "b c host", 2);
        check("gone, and nobody comes", &[("b", 50), ("host", 0)], "b c host", 0);
        check("the gone give way", &[("b", 50), ("d", 0), ("host", 0)], "b d host", 0);
        check("the pinned never", &[("b", 50), ("d", 40), ("e", 999), ("host", 0)], "b e host", 1);
    }

    #[test]
    fn counts_move_to_the_remainder_with_the_place() {
        let mut places = Places::new(1);
        let one = Counted { time_wait_overflows: 1, listen_overflows: 2, listen_drops: 3 };
        choose(&mut places, &[("a", 9), ("b", 1)]);
        places.count("a", one);
        places.count("b", one);
        assert_eq!((places.shown().collect::<Vec<_>>(), places.other()), (vec![("a", one)], one));
        places.rename("a", "better");
        assert_eq!(places.shown().collect::<Vec<_>>(), [("better", one)]);
        choose(&mut places, &[("b", 1)]);
        let two = Counted { time_wait_overflows: 2, listen_overflows: 4, listen_drops: 6 };
        assert_eq!((places.shown().collect::<Vec<_>>(), places.other()), (vec![("b", Counted::default())], two));
    }

    #[test]
    fn without_places_all_is_in_the_remainder() {
        let mut places = Places::new(0);
        assert_eq!((choose(&mut places, &[("host", 9)]), places.folded()), (String::new(), 1));
        places.count("host", Counted { listen_drops: 1, ..Counted::default() });
        assert_eq!(places.other().listen_drops, 1);
    }

    proptest! {
        #[test]
        fn nothing_counted_is_lost_and_the_remainder_never_goes_back(
            steps in prop::collection::vec((prop::collection::btree_map("[a-h]", 0..100u64, 0..8), "[a-h]", 0..5u64), 1..40),
            limit in 0..5usize,
        ) {
            let (mut places, mut total, mut other) = (Places::new(limit), 0, 0);
            for (living, name, drops) in steps {
                let living: Vec<_> = living.iter().map(|(name, &weight)| (name.as_str(), weight)).collect();
                choose(&mut places, &living);
                places.count(&name, Counted { listen_drops: drops, ..Counted::default() });
                total += drops;
                let shown: u64 = places.shown().map(|(_, counted)| counted.listen_drops).sum();
                prop_assert_eq!(shown + places.other().listen_drops, total);
                prop_assert!(places.shown().count() <= limit && places.other().listen_drops >= other);
                other = places.other().listen_drops;
            }
        }
    }
}
