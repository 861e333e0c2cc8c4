//! Windows over a history, trends, and connects by destination.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::*;
use crate::aggregate::Histogram;
use crate::aggregate::bounds::HANDSHAKE_NS;
use crate::diagnose::{CloseWait, Counters, Level, TupleUse};
use crate::event::{Tuple, mapped};
use crate::lifecycle::samples::FINISHED;
use crate::lifecycle::{Close, ConnectFailure, Failed, Finished, Role, Wait};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn to(port: u16) -> Endpoint {
    Endpoint { addr: mapped(THERE), port }
}

/// All numbers grow with `n`.
fn moment(at_seconds: f64, n: u64) -> Moment {
    let tuple = |port, used| TupleUse {
        source: IpAddr::V4(HERE),
        destination: to(port),
        used,
        time_wait: used,
        role: Role::Client,
        unit: "u".into(),
        opens_per_second: None,
        trend: None,
    };
    let close_wait = CloseWait { unit: "u".into(), sockets: n, oldest_seconds: None, trend: None };
    let now = Evidence {
        fin_wait2: Some(Level { now: 2 * n, trend: None }),
        close_wait: Some(vec![close_wait]),
        tuples: Some(vec![tuple(80, 10 * n)]),
        ..Evidence::default()
    };
    let mut handshake = [(); 3].map(|()| Histogram::new(&HANDSHAKE_NS));
    (0..n).for_each(|_| handshake[Role::Client.index()].observe(2_000_000_000));
    let counters = Counters { listen_drops: Some(5 * n), ..Counters::default() };
    Moment { at_seconds, now, totals: Totals { counters, closes: [n; Close::COUNT], handshake, elsewhere: n } }
}

fn evidence(history: &History, window: u64, moment: Moment) -> Option<Evidence> {
    let open = |destinations: &[Endpoint]| destinations.iter().map(|to| u64::from(to.port == 9)).collect();
    history.evidence(Duration::from_secs(window), moment, open, |cgroup| format!("unit{}", cgroup.0))
}

fn tuple(port: u16) -> Tuple {
    Tuple { saddr: mapped(HERE), daddr: mapped(THERE), dport: port, ..Tuple::UNKNOWN }
}

fn failed(reason: ConnectFailure, port: u16, cgroup: u64) -> Outcome {
    let Finished { at, socket, netns, owner, .. } = FINISHED;
    let (tuple, cgroup) = (tuple(port), CgroupId(cgroup));
    Outcome::Failed(Failed {
        at,
        socket,
        netns,
        cgroup,
        tuple,
        owner,
        reason,
        sk_err: 0,
        lasted_ns: None,
        retransmits: 0,
    })
}

fn finished(port: u16, wait: Wait) -> Outcome {
    Outcome::Finished(Finished { role: Role::Client, tuple: tuple(port), wait, ..FINISHED })
}

#[test]
fn the_window_begins_at_the_newest_sample_that_is_old_enough() {
    let mut history = History::new(3);
    assert_eq!(evidence(&history, 10, moment(0.0, 0)), None);
    for at in [0.0, 10.0, 20.0, 30.0] {
        history.push(&moment(at, at as u64));
    }
    assert_eq!(history.sampled_at(), Some(30.0));
    let check = |window, seconds| {
        let found = evidence(&history, window, moment(35.0, 35)).unwrap();
        assert_eq!(found.window_seconds, Some(seconds), "{window} s");
        assert_eq!(found.counters.listen_drops, Some(5 * seconds as u64));
        assert_eq!(found.closes, Some([seconds as u64; Close::COUNT]));
    };
    check(1, 5.0);
    check(5, 5.0);
    check(6, 15.0);
    check(25, 25.0);
    // The first sample has made room for the fourth.
    check(1000, 25.0);
}

#[test]
fn levels_get_their_trends_and_leaks_the_longest_one() {
    let mut history = History::new(9);
    history.push(&moment(0.0, 1));
    history.push(&moment(10.0, 2));
    let found = evidence(&history, 5, moment(20.0, 4)).unwrap();
    let trend = |delta, seconds| Some(crate::diagnose::Trend { delta, seconds });
    assert_eq!(found.fin_wait2, Some(Level { now: 8, trend: trend(4, 10.0) }));
    assert_eq!(found.tuples.unwrap()[0].trend, trend(20, 10.0));
    assert_eq!(found.close_wait.unwrap()[0].trend, trend(3, 20.0));
    let tails = found.handshakes.unwrap();
    assert_eq!((tails[0].measured, tails[0].steps), (2, [2, 0, 0]));
    // A unit and a destination that were not there before.
    let mut history = History::new(9);
    let mut empty = moment(0.0, 0);
    (empty.now.close_wait, empty.now.tuples) = (Some(vec![]), Some(vec![]));
    history.push(&empty);
    let found = evidence(&history, 5, moment(10.0, 4)).unwrap();
    assert_eq!(found.close_wait.unwrap()[0].trend, trend(4, 10.0));
    assert_eq!(found.tuples.unwrap()[0].trend, trend(40, 10.0));
    // Not measured then: nothing to compare with.
    let mut history = History::new(9);
    (empty.now.close_wait, empty.now.tuples) = (None, None);
    empty.now.fin_wait2 = None;
    history.push(&empty);
    let found = evidence(&history, 5, moment(10.0, 4)).unwrap();
    assert_eq!((found.fin_wait2.unwrap().trend, found.tuples.unwrap()[0].trend), (None, None));
    assert_eq!(found.close_wait.unwrap()[0].trend, None);
}

#[test]
fn failures_belong_to_the_window_in_which_they_happened() {
    use ConnectFailure::{NoLocalPort, Refused, Timeout};
    let mut history = History::new(9);
    history.outcome(&failed(NoLocalPort, 7, 1));
    history.push(&moment(0.0, 0));
    history.outcome(&failed(Timeout, 8, 1));
    history.outcome(&failed(Timeout, 9, 1));
    history.push(&moment(10.0, 0));
    history.outcome(&failed(Refused, 8, 2));
    history.outcome(&failed(Refused, 8, 2));
    history.outcome(&finished(8, Wait::TimeWait));
    history.outcome(&finished(80, Wait::FinWait2));
    history.outcome(&finished(80, Wait::None));
    let rows = |window| {
        let failures = evidence(&history, window, moment(20.0, 0)).unwrap().failures.unwrap();
        let rows = failures
            .iter()
            .map(|row| (row.reason.label(), row.destination.port, row.unit.clone(), row.count, row.opened));
        rows.collect::<Vec<_>>()
    };
    let refused = ("refused", 8, "unit2".to_owned(), 2, Some(1));
    assert_eq!(rows(5), [refused.clone()]);
    let timeout = |port, opened| ("timeout", port, "unit1".to_owned(), 1, Some(opened));
    // One is open to port 9; the one that ended at port 8 did succeed.
    assert_eq!(rows(1000), [refused, timeout(8, 1), timeout(9, 1)]);
    let found = evidence(&history, 5, moment(20.0, 1)).unwrap();
    assert_eq!(found.time_wait_entered_per_second, Some(0.2));
    assert_eq!(found.tuples.unwrap()[0].opens_per_second, Some(0.2));
}

#[test]
fn many_destinations_are_bounded_and_none_is_lost_from_the_sum() {
    let mut history = History::new(9);
    history.push(&moment(0.0, 0));
    for slot in 0..3_u16 {
        (0..1000).for_each(|port| history.outcome(&failed(ConnectFailure::Timeout, 1 + slot * 1000 + port, 1)));
        (0..1000).for_each(|port| history.outcome(&finished(1 + slot * 1000 + port, Wait::None)));
        history.push(&moment(f64::from(slot) + 1.0, 0));
    }
    let failures = evidence(&history, 1000, moment(20.0, 0)).unwrap().failures.unwrap();
    assert_eq!(failures.len(), 33);
    assert_eq!(failures.iter().map(|row| row.count).sum::<u64>(), 3000);
    let last = failures.last().unwrap();
    assert_eq!((last.unit.as_str(), last.destination.port, last.opened), ("other", 0, None));
    // With so many destinations nobody can say that none succeeded.
    assert!(failures.iter().all(|row| row.opened != Some(0)));
}
