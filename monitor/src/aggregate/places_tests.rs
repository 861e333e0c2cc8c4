//! Who gets a place, and that nothing is lost.

use proptest::prelude::*;

use super::*;
use crate::aggregate::Counted;

type ByName = Places<&'static str, Counted>;

fn choose(places: &mut ByName, living: &[(&'static str, u64)]) -> String {
    let candidates = living.iter().map(|(key, weight)| Candidate { key, pinned: *key == "host", weight: *weight });
    places.choose(&candidates.collect::<Vec<_>>());
    places.shown().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

#[test]
fn places_go_to_the_busiest_and_change_hands_seldom() {
    let mut places = ByName::new(3);
    let mut check = |why, living: &[(&'static str, u64)], shown, folded| {
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
    let mut places = ByName::new(1);
    let one = Counted { time_wait_overflows: 1, listen_overflows: 2, listen_drops: 3 };
    choose(&mut places, &[("a", 9), ("b", 1)]);
    places.count(&"a", one);
    places.count(&"b", one);
    assert_eq!((places.shown().collect::<Vec<_>>(), places.other()), (vec![(&"a", one)], one));
    places.rename(&"a", &"better");
    assert_eq!(places.shown().collect::<Vec<_>>(), [(&"better", one)]);
    choose(&mut places, &[("b", 1)]);
    let two = Counted { time_wait_overflows: 2, listen_overflows: 4, listen_drops: 6 };
    assert_eq!((places.shown().collect::<Vec<_>>(), places.other()), (vec![(&"b", Counted::default())], two));
}

#[test]
fn without_places_all_is_in_the_remainder() {
    let mut places = ByName::new(0);
    assert_eq!((choose(&mut places, &[("host", 9)]), places.folded()), (String::new(), 1));
    places.count(&"host", Counted { listen_drops: 1, ..Counted::default() });
    assert_eq!(places.other().listen_drops, 1);
}

#[test]
fn the_ranked_are_those_that_counted_most_so_far() {
    let mut ranked = Ranked::<&str, u64>::new(2);
    let mut check = |why, grown: &[(&'static str, u64)], other, shown: &[(&str, u64)], rest, folded| {
        ranked.take(grown.to_vec(), other);
        let places = ranked.places();
        let found: Vec<_> = places.shown().map(|(key, count)| (*key, count)).collect();
        assert_eq!((found.as_slice(), places.other(), places.folded()), (shown, rest, folded), "{why}");
    };
    check("nobody", &[], 0, &[], 0, 0);
    check("room for all, and what is nobody's", &[("b", 2), ("a", 5)], 1, &[("a", 5), ("b", 2)], 1, 0);
    check("not yet more than twice the least", &[("c", 4)], 0, &[("a", 5), ("b", 2)], 5, 1);
    check("more than twice in all", &[("c", 2), ("a", 1)], 0, &[("a", 6), ("c", 2)], 7, 1);
    check(
        "who had a place starts anew, as long as it has none it is in the rest",
        &[("b", 9)],
        0,
        &[("a", 6), ("c", 2)],
        16,
        1,
    );
    check("and comes back", &[("b", 3)], 0, &[("b", 3), ("c", 2)], 22, 1);
}

#[test]
fn the_ranked_go_on_under_other_names_and_in_fewer_places() {
    let mut ranked = Ranked::<String, u64>::new(3);
    let grown = |keys: &[(&str, u64)]| keys.iter().map(|&(key, count)| (key.to_owned(), count)).collect::<Vec<_>>();
    let shown = |ranked: &Ranked<String, u64>| {
        let rows = ranked.places().shown().map(|(key, count)| format!("{key} {count}"));
        rows.chain([format!("rest {}", ranked.places().other())]).collect::<Vec<_>>().join(", ")
    };
    ranked.take(grown(&[("a1", 5), ("a2", 7), ("b1", 1), ("c1", 2)]), 0);
    assert_eq!(shown(&ranked), "a1 5, a2 7, c1 2, rest 1");
    ranked.rename_all(|key| key[..1].to_owned());
    assert_eq!(shown(&ranked), "a 12, c 2, rest 1", "what was in the rest stays there");
    ranked.take(grown(&[("a", 1), ("b", 1)]), 0);
    assert_eq!(shown(&ranked), "a 13, b 1, c 2, rest 1");
    ranked.set_limit(1);
    assert_eq!(shown(&ranked), "a 13, rest 4");
    ranked.take(grown(&[("a1", 1)]), 0);
    assert_eq!(shown(&ranked), "a 13, rest 5");
    ranked.forget_candidates();
    ranked.take(grown(&[("a1", 1)]), 0);
    assert_eq!(shown(&ranked), "a1 1, rest 18", "who counts no more gives way");
}

proptest! {
    #[test]
    fn nothing_counted_is_lost_and_the_remainder_never_goes_back(
        steps in prop::collection::vec((prop::collection::btree_map(0..8usize, 0..100u64, 0..8), 0..8usize, 0..5u64), 1..40),
        limit in 0..5usize,
    ) {
        const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let (mut places, mut total, mut other) = (ByName::new(limit), 0, 0);
        for (living, name, drops) in steps {
            let living: Vec<_> = living.iter().map(|(&name, &weight)| (NAMES[name], weight)).collect();
            choose(&mut places, &living);
            places.count(&NAMES[name], Counted { listen_drops: drops, ..Counted::default() });
            total += drops;
            let shown: u64 = places.shown().map(|(_, counted)| counted.listen_drops).sum();
            prop_assert_eq!(shown + places.other().listen_drops, total);
            prop_assert!(places.shown().count() <= limit && places.other().listen_drops >= other);
            other = places.other().listen_drops;
        }
    }
}
