//! Entries and exits: refusals, turns, reuse, what is due and what went early; the counters never go back.

use proptest::prelude::*;

use super::*;

fn client(unit: u64) -> OwnedBy<Cgroup> {
    OwnedBy { role: Role::Client, unit: Cgroup::new(unit) }
}

/// A census at `seconds`: sockets by the milliseconds left.
fn level(seconds: u64, left_ms: &[(u32, u64)], recycled: u64) -> Level {
    let mut level = Level { began: KernelTime(seconds * 1_000_000_000), recycled: Some(recycled), ..Level::default() };
    for &(ms, sockets) in left_ms {
        (0..sockets).for_each(|_| level.time_left.add(ms));
        level.standing += sockets;
    }
    level
}

fn end(flows: &mut Flows, count: u64) {
    (0..count).for_each(|_| flows.ended(client(1), Substate::TimeWait));
    flows.settle_refusals(Some(0));
}

/// In the order of [`Leave::ALL`].
fn left(flows: &Flows) -> [u64; Leave::COUNT] {
    flows.left()
}

/// Expired, reused, unknown; nothing else is ever derived.
fn derived([expired, reused, unknown]: [u64; 3]) -> [u64; Leave::COUNT] {
    let mut left = [0; Leave::COUNT];
    (left[Leave::Expired.index()], left[Leave::Reused.index()], left[Leave::Unknown.index()]) =
        (expired, reused, unknown);
    left
}

#[test]
fn exits_are_told_apart() {
    struct Case {
        entered: u64,
        vanished: u64,
        before: &'static [(u32, u64)],
        after: &'static [(u32, u64)],
        /// Milliseconds that the walk took which found this.
        took_ms: u64,
        recycled: u64,
    }
    let check = |name, case: Case, expected: [u64; 3], entered| {
        let mut flows = Flows::default();
        flows.take(level(100, case.before, 0));
        end(&mut flows, case.entered);
        (0..case.vanished).for_each(|_| flows.vanished(client(1)));
        flows.take(Level { took_ms: case.took_ms, ..level(102, case.after, case.recycled) });
        assert_eq!(left(&flows), derived(expected), "{name}");
        assert_eq!(flows.entered_total(), entered, "{name}");
    };
    let quiet = Case { entered: 0, vanished: 0, before: &[], after: &[], took_ms: 0, recycled: 0 };
    check("nothing", Case { ..quiet }, [0; 3], 0);
    check("all stay", Case { entered: 3, after: &[(59_000, 3)], ..quiet }, [0; 3], 3);
    check("time is over", Case { before: &[(1500, 4)], ..quiet }, [4, 0, 0], 0);
    check("jiffies that lag", Case { before: &[(2450, 4)], ..quiet }, [4, 0, 0], 0);
    check("early by more than they lag", Case { before: &[(2600, 4)], ..quiet }, [0, 0, 4], 0);
    check("a late timer", Case { before: &[(1500, 4)], after: &[(0, 1)], ..quiet }, [3, 0, 0], 0);
    let slow = Case { took_ms: 700, ..quiet };
    check("over during the walk", Case { before: &[(2500, 4)], ..slow }, [4, 0, 0], 0);
    check("almost over", Case { before: &[(2500, 4)], after: &[(300, 1)], ..slow }, [3, 0, 0], 0);
    check("early, whatever the walk took", Case { before: &[(40_000, 4)], ..slow }, [0, 0, 4], 0);
    check("early", Case { before: &[(40_000, 4)], after: &[(38_000, 1)], ..quiet }, [0, 0, 3], 0);
    check("taken over", Case { before: &[(40_000, 4)], recycled: 3, ..quiet }, [0, 3, 1], 0);
    check("taken over when due", Case { before: &[(1000, 4)], recycled: 3, ..quiet }, [1, 3, 0], 0);
    check("never seen in TIME_WAIT", Case { vanished: 5, recycled: 3, ..quiet }, [0, 3, 0], 3);
    check("gone in FIN_WAIT2", Case { vanished: 5, ..quiet }, [0; 3], 0);
}

#[test]
fn refused_sockets_are_no_entries() {
    let check = |time_wait: u64, fin_wait2: u64, refused: u64, entered| {
        let mut flows = Flows::default();
        flows.settle_refusals(Some(10));
        (0..time_wait).for_each(|_| flows.ended(client(1), Substate::TimeWait));
        (0..fin_wait2).for_each(|_| flows.ended(client(2), Substate::FinWait2));
        flows.settle_refusals(Some(10 + refused));
        assert_eq!(flows.entered_total(), entered, "{time_wait} {fin_wait2} {refused}");
    };
    check(10, 0, 0, 10);
    check(10, 0, 4, 6);
    check(10, 10, 10, 5);
    check(10, 0, 30, 0);
}

#[test]
fn refusals_wait_for_records_that_are_still_in_the_ring() {
    let mut flows = Flows::default();
    flows.settle_refusals(Some(0));
    flows.settle_refusals(Some(4));
    (0..5).for_each(|_| flows.ended(client(1), Substate::TimeWait));
    flows.settle_refusals(Some(4));
    assert_eq!(flows.entered_total(), 1);
    flows.settle_refusals(Some(9));
    flows.settle_refusals(Some(9));
    end(&mut flows, 5);
    assert_eq!(flows.entered_total(), 6, "records that were lost are waited for once");
}

#[test]
fn a_surplus_is_an_entry_only_if_no_record_explains_it() {
    let check = |name, record_comes, entered, unknown| {
        let mut flows = Flows::default();
        flows.take(level(100, &[], 0));
        flows.take(level(101, &[(59_000, 2)], 0));
        assert_eq!(flows.entered_total(), 0, "{name}");
        if record_comes {
            end(&mut flows, 2);
        }
        flows.take(level(102, &[(58_000, 2)], 0));
        flows.take(level(103, &[(57_000, 2)], 0));
        assert_eq!((flows.entered_total(), left(&flows)), (entered, derived([0; 3])), "{name}");
        let unseen = flows.take_entered().get(&(Role::Unknown, Unit::Unknown)).copied();
        assert_eq!(unseen.unwrap_or(0), unknown, "{name}");
    };
    check("a record that came late", true, 2, 0);
    check("a record that was lost", false, 2, 2);
}

#[test]
fn what_records_are_known_to_be_lost_has_entered_at_once() {
    let check = |name, lost, [entered, expired]: [u64; 2]| {
        let mut flows = Flows::default();
        flows.take(level(100, &[], 0));
        end(&mut flows, 5);
        // Eight are there, and all of them have expired when the next census comes.
        flows.take(Level { lost, ..level(101, &[(59_000, 8)], 0) });
        flows.take(level(161, &[], 0));
        assert_eq!((flows.entered_total(), left(&flows)), (entered, [expired, 0, 0, 0, 0, 0, 0]), "{name}");
    };
    check("no loss is known of", 0, [5, 5]);
    check("some are", 2, [7, 7]);
    check("more than were needed", 9, [8, 8]);
}

#[test]
fn a_thousand_units_are_bounded() {
    let mut flows = Flows::default();
    (1..=10_000).for_each(|unit| flows.ended(client(unit), Substate::TimeWait));
    flows.settle_refusals(None);
    let entered = flows.take_entered();
    assert!(entered.len() <= MAKERS_LIMIT + Role::COUNT);
    assert_eq!(entered.values().sum::<u64>(), 10_000);
}

proptest! {
    /// Whatever happens: entered − left is the change of the level once nothing is under way.
    #[test]
    fn flows_are_conserved(steps in prop::collection::vec((0..50_u64, 0..60_u64, 0..10_u64, 0..70_u64), 1..20)) {
        let mut flows = Flows::default();
        flows.take(level(0, &[(30_000, 20)], 0));
        let (mut standing, mut recycled, mut seconds) = (20, 0, 0);
        let (mut before, mut entered_before) = ([0; Leave::COUNT], 0);
        for (enter, leave, reuse, pass) in steps {
            end(&mut flows, enter);
            standing = (standing + enter).saturating_sub(leave);
            recycled += reuse;
            seconds += 1 + pass;
            flows.take(level(seconds, &[(30_000, standing)], recycled));
            let now = left(&flows);
            prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before));
            prop_assert!(flows.entered_total() >= entered_before);
            (before, entered_before) = (now, flows.entered_total());
            prop_assert_eq!(20 + entered_before - now.iter().sum::<u64>(), standing);
        }
    }
}
