//! A load on one destination, second by second, with and without censuses.

use super::*;
use crate::event::{Endpoint, NetnsId};

const KEY: PortKey = PortKey { netns: NetnsId(1), source: [1; 16], destination: Endpoint { addr: [2; 16], port: 80 } };

fn at(seconds: u64) -> KernelTime {
    KernelTime(seconds * 1_000_000_000)
}

#[derive(Default)]
struct World {
    growth: Growth,
    contacts: Contacts,
    seconds: u64,
}

impl World {
    /// So many seconds with so many connections each, of which so many wait in TIME_WAIT, the others give their port back.
    fn pass(&mut self, seconds: u64, opened: u64, waiting: u64) -> &mut Self {
        for _ in 0..seconds {
            self.growth.look(at(self.seconds), &self.contacts);
            let flow = PortFlow { opened, waiting, released: opened - waiting, ..PortFlow::default() };
            if opened > 0 {
                self.contacts.flows.add(KEY, flow);
            }
            self.seconds += 1;
        }
        self
    }

    /// A census that meets so many; `folded`: some had no room in its list.
    fn census(&mut self, used: u64, folded: u64) -> &mut Self {
        self.census_due(used, folded, 0)
    }

    /// The same, and so many of them will have expired ten seconds later.
    fn census_due(&mut self, used: u64, folded: u64, due: u64) -> &mut Self {
        let tally = PortTally { used, time_wait: used, due, ..PortTally::default() };
        let entries = if used == 0 { vec![] } else { vec![(KEY, tally)] };
        let tuples = Top { entries, other: 0, total: used, folded, understated: 0 };
        self.growth.take_census(at(self.seconds), &tuples, &self.contacts);
        self
    }
}

/// Used now, opened per second, grown per second.
fn check(name: &str, play: impl FnOnce(&mut World), expected: Option<(u64, f64, f64)>) {
    let mut world = World::default();
    play(&mut world);
    let taken = world.growth.taken(&KEY, at(world.seconds), &world.contacts);
    let said = taken.map(|taken| {
        let pace = taken.pace.expect("looks were taken");
        (taken.used, pace.opened.round(), pace.grown.round())
    });
    assert_eq!(said, expected, "{name}");
}

#[test]
fn a_census_is_carried_on_by_what_was_seen_since() {
    check("no census", |w| _ = w.pass(9, 100, 100), None);
    check("none since", |w| _ = w.pass(9, 100, 100).census(900, 0), Some((900, 100.0, 100.0)));
    check("a load since", |w| _ = w.pass(1, 0, 0).census(0, 0).pass(7, 100, 100), Some((700, 100.0, 100.0)));
    check("it has just begun", |w| _ = w.pass(9, 0, 0).census(0, 0).pass(2, 100, 100), Some((200, 100.0, 100.0)));
    check("it has ended", |w| _ = w.census(0, 0).pass(9, 100, 100).pass(9, 0, 0), Some((900, 0.0, 0.0)));
    check("ports given back", |w| _ = w.census(0, 0).pass(9, 100, 0), Some((0, 100.0, 0.0)));
    check("absent from a list that was cut", |w| _ = w.pass(1, 0, 0).census(0, 1).pass(9, 100, 100), None);
    check("it became faster", |w| _ = w.census(0, 0).pass(60, 1, 1).pass(10, 100, 100), Some((1060, 100.0, 100.0)));
}

#[test]
fn what_leaves_time_wait_is_told_by_the_census() {
    let steady = |w: &mut World| _ = w.pass(60, 100, 100).census_due(6000, 0, 1000).pass(5, 100, 100);
    check("as much as comes", steady, Some((6000, 100.0, 0.0)));
    let slower = |w: &mut World| _ = w.pass(60, 100, 100).census_due(6000, 0, 400).pass(5, 100, 100);
    check("less than comes", slower, Some((6300, 100.0, 60.0)));
    let drains = |w: &mut World| _ = w.census_due(600, 0, 200).pass(5, 0, 0);
    check("and no more come", drains, Some((500, 0.0, -20.0)));
    let empties = |w: &mut World| _ = w.census_due(100, 0, 100).pass(20, 0, 0);
    check("never below nothing", empties, Some((0, 0.0, -10.0)));
}

#[test]
fn a_connection_that_takes_over_a_port_takes_no_other() {
    let reuse = |w: &mut World| _ = w.census(500, 0).pass(5, 100, 100).census(500, 0).pass(5, 100, 100);
    check("all of them", reuse, Some((500, 100.0, 0.0)));
    let half = |w: &mut World| _ = w.census(500, 0).pass(5, 100, 100).census(750, 0).pass(5, 100, 100);
    check("half of them", half, Some((1000, 100.0, 50.0)));
    let over = |w: &mut World| _ = w.census(500, 0).pass(5, 100, 100).census(500, 0).pass(9, 0, 0);
    check("and then none", over, Some((500, 0.0, 0.0)));
    let unseen = |w: &mut World| _ = w.census(500, 0).pass(5, 0, 0).census(700, 0).pass(5, 0, 0);
    check("what came unseen is counted and not foretold", unseen, Some((700, 0.0, 0.0)));
}

#[test]
fn few_looks_are_kept() {
    let mut world = World::default();
    world.pass(100, 1, 1);
    assert_eq!(world.growth.looks.len(), 6);
    world.growth.look(KernelTime(at(99).0 + STEP_NS - 1), &world.contacts);
    assert_eq!(world.growth.looks.len(), 6, "not due yet");
}
