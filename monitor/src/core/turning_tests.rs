//! FIN_WAIT2 between two censuses: churn that goes on or ends, peers that stop closing, sockets whose time is over.

use proptest::prelude::*;

use super::*;

const HERE: NetnsId = NetnsId(1);
const MS: u64 = 1_000_000;

fn at(ms: u64) -> KernelTime {
    KernelTime(ms * MS)
}

/// Ends of `count` connections in a time, milliseconds, evenly.
fn end(turning: &mut Turning, ms: std::ops::Range<u64>, count: u64) {
    let length = ms.end - ms.start;
    (0..count).for_each(|n| turning.end(HERE, at(ms.start + n * length / count)));
}

/// A census at `ms`. `found`: when they died, milliseconds.
fn census(turning: &mut Turning, ms: u64, found: impl Iterator<Item = u64>) {
    turning.begin(at(ms), Some(60));
    for died in found {
        turning.find(HERE, Some(at(died)), u32::try_from(60_000 - (ms - died)).unwrap_or(0));
    }
    turning.finish(at(ms));
}

/// Churn of 10,000 a second from 1 s to 20 s, of which a census at `ms` finds 140, and 20 that have stayed.
fn churn(ms: u64) -> Turning {
    let mut turning = Turning::default();
    end(&mut turning, 1000..ms, 10 * (ms - 1000));
    census(&mut turning, ms, (0..140).map(|_| ms - 14).chain((0..20).map(|_| 1500)));
    turning
}

#[test]
fn churn_that_goes_on_has_as_many_and_churn_that_ends_has_turned() {
    let mut turning = churn(11_000);
    let now = |turning: &Turning, ms| turning.now(None, at(ms));
    assert_eq!(now(&turning, 11_000), 160);
    // No end came since: after a second all have turned but those that stay, and no more of these came.
    assert!((20..=22).contains(&now(&turning, 12_500)));
    end(&mut turning, 11_000..20_000, 90_000);
    let later = now(&turning, 20_000);
    assert!((160..=180).contains(&later), "{later}: those that stay come on at their pace");
    assert!(!turning.is_unsure(100_000, at(20_000)));
    assert!((20..=40).contains(&now(&turning, 21_500)));
}

#[test]
fn peers_that_stop_closing_are_asked_about_once_and_then_known() {
    let mut turning = churn(11_000);
    census(&mut turning, 14_000, (0..20).map(|_| 1500));
    assert!(!turning.is_unsure(52_732, at(19_000)));
    end(&mut turning, 20_000..20_300, 3000);
    assert!(!turning.is_unsure(52_732, at(20_400)), "the round trip is not over");
    assert!(turning.is_unsure(52_732, at(21_500)));
    assert!(!turning.is_unsure(400_000, at(21_500)), "less than one in a hundred");
    let stay = || (0..20).map(|_| 1500).chain((0..3000).map(|n| 20_000 + n / 10));
    // However long after, within a second, somebody asks.
    assert!(turning.is_unsure(52_732, at(22_200)));
    census(&mut turning, 22_100, stay());
    assert!(!turning.is_unsure(52_732, at(24_500)));
    for ms in [22_100, 25_000, 40_000, 50_000] {
        assert_eq!(turning.now(None, at(ms)), 3020, "{ms}");
    }
    let over = turning.now(None, at(83_000));
    assert!(over == 0, "{over} after their time");
    // Then churn again: more of it is not taken to stay than came to stay before in such a time.
    let mut turning = churn(11_000);
    end(&mut turning, 20_000..20_300, 3000);
    census(&mut turning, 22_100, stay());
    end(&mut turning, 23_000..26_000, 30_000);
    let guessed = turning.now(None, at(26_000));
    assert!((3020..5000).contains(&guessed), "{guessed}");
    assert!(turning.is_unsure(52_732, at(26_000)));
}

#[test]
fn right_after_a_census_it_is_asked_for_the_next() {
    let mut turning = churn(11_000);
    census(&mut turning, 14_000, (0..20).map(|_| 1500));
    end(&mut turning, 14_050..14_100, 900);
    let asked = (0..5).map(|n| turning.is_unsure(40_000, at(14_000 + n * 990)));
    assert_eq!(asked.collect::<Vec<_>>(), [false, false, true, true, false]);
}

#[test]
fn those_older_than_the_daemon_stay_and_namespaces_are_apart() {
    let mut turning = Turning::default();
    turning.begin(at(100_000), Some(60));
    for remaining_ms in [30_000, 59_900] {
        turning.find(HERE, None, remaining_ms);
        turning.find(NetnsId(2), None, remaining_ms);
    }
    turning.finish(at(100_000));
    let check = |ms, here| {
        assert_eq!((turning.now(Some(HERE), at(ms)), turning.now(None, at(ms))), (here, 2 * here), "{ms}");
    };
    check(100_000, 2);
    check(120_000, 2);
    check(136_000, 1);
    check(160_000, 0);
    assert_eq!(turning.now(Some(NetnsId(3)), at(100_000)), 0);
    turning.begin(at(170_000), Some(60));
    turning.finish(at(170_000));
    assert!(turning.waits.is_empty(), "{turning:?}");
}

proptest! {
    #[test]
    fn never_more_than_were_found_and_ended(
        rounds in prop::collection::vec((prop::collection::vec(0..3000_u64, 0..50), 0..4000_u64, 0..200_u64), 1..6),
    ) {
        let (mut turning, mut ms, mut ended, mut found) = (Turning::default(), 5000, 0, 0);
        for (steps, rest, finds) in rounds {
            for step in steps {
                ms += step;
                turning.end(HERE, at(ms));
                ended += 1;
                prop_assert!(turning.now(None, at(ms)) <= ended + found);
            }
            ms += rest;
            census(&mut turning, ms, (0..finds).map(|n| ms - n * 20));
            (ended, found) = (ended, finds);
            prop_assert!(turning.now(None, at(ms)) <= ended + found);
        }
    }
}
