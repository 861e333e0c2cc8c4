//! The range against the kernel's text, and ports in use per destination and source.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::event::mapped;

fn endpoint(host: u8, port: u16) -> Endpoint {
    Endpoint { addr: mapped(Ipv4Addr::new(10, 0, 0, host)), port }
}

fn socket(sport: u16, destination: Endpoint) -> PortSocket<u32> {
    let (netns, source) = (NetnsId(1), endpoint(1, sport));
    PortSocket { netns, source, destination, time_wait: false, due: false, role: Role::Client, unit: Some(7) }
}

fn ranges(range: &str, reserved: &str) -> EphemeralRanges {
    EphemeralRanges { own: EphemeralRange::parse(range, reserved).ok(), others: BTreeMap::new() }
}

fn range() -> EphemeralRanges {
    ranges("32768\t60999\n", "\n")
}

#[test]
fn p_is_the_range_less_what_is_reserved_inside_it() {
    let check = |range: &str, reserved: &str, available| {
        assert_eq!(
            EphemeralRange::parse(range, reserved).map(|range| range.available()),
            Ok(available),
            "{reserved:?}"
        );
    };
    check("32768\t60999\n", "\n", 28_232);
    check("32768 60999", "40000", 28_231);
    check("32768 60999", "8080,40000-40009", 28_222);
    check("32768 60999", "32000-32768,60999-65535", 28_230);
    check("32768 60999", "40000-40009,40005-40019", 28_212);
    check("32768 60999", "1-65535", 0);
    check("1024 65535", "", 64_512);
    check("5000 5000", "", 1);
}

#[test]
fn text_that_the_kernel_would_not_write_is_refused() {
    let check = |range: &str, reserved: &str, error| assert_eq!(EphemeralRange::parse(range, reserved), Err(error));
    check("", "", RangeError::Range(String::new()));
    check("1", "", RangeError::Range("1".into()));
    check("1 2 3", "", RangeError::Range("1 2 3".into()));
    check("2 1", "", RangeError::Range("2 1".into()));
    check("1 70000", "", RangeError::Range("1 70000".into()));
    check("1 2", "x", RangeError::Reserved("x".into()));
    check("1 2", "2-1", RangeError::Reserved("2-1".into()));
}

#[test]
fn a_port_is_counted_when_connect_could_have_chosen_it() {
    let check = |name, port, role, used| {
        let ranges = ranges("32768 60999", "40000-40009");
        let mut ports = Ports::new(&ranges, 16);
        ports.add(PortSocket { role, ..socket(port, endpoint(9, 80)) });
        assert_eq!(ports.finish(4).tuples.total, used, "{name}");
    };
    check("the lowest", 32_768, Role::Client, 1);
    check("below", 32_767, Role::Client, 0);
    check("the highest", 60_999, Role::Client, 1);
    check("above", 61_000, Role::Client, 0);
    check("reserved", 40_009, Role::Client, 0);
    check("not reserved", 40_010, Role::Client, 1);
    check("a listener's port inside the range", 50_000, Role::Server, 0);
    check("opening not seen", 50_000, Role::Unknown, 1);
}

#[test]
fn destinations_and_sources_are_told_apart() {
    let range = range();
    let mut ports = Ports::new(&range, 16);
    for sport in [40_000, 40_002, 40_004] {
        ports.add(PortSocket { time_wait: true, ..socket(sport, endpoint(9, 80)) });
    }
    ports.add(socket(40_000, endpoint(9, 81)));
    ports.add(PortSocket { source: endpoint(2, 40_000), unit: None, ..socket(0, endpoint(9, 80)) });
    let usage = ports.finish(2);
    let rows: Vec<_> = (usage.tuples.entries.iter())
        .map(|(key, tally)| {
            (key.source[15], key.destination.port, tally.used, tally.time_wait, tally.unit.winner().copied())
        })
        .collect();
    assert_eq!(rows, [(1, 80, 3, 3, Some(7)), (1, 81, 1, 0, Some(7))]);
    assert_eq!((usage.tuples.other, usage.tuples.total), (1, 5));
    let sources: Vec<_> = usage.sources.iter().map(|s| (s.source[15], s.sockets, s.distinct_ports)).collect();
    assert_eq!(sources, [(1, 4, 3), (2, 1, 1)]);
}

#[test]
fn each_namespace_has_its_own_range_and_its_own_ports() {
    let mut ranges = range();
    ranges.others.insert(NetnsId(2), EphemeralRange::parse("1000 1009", "1005").unwrap());
    let mut ports = Ports::new(&ranges, 16);
    for (netns, sport) in [(1, 40_000), (1, 40_001), (1, 1000), (2, 1000), (2, 1005), (2, 40_000), (3, 40_000)] {
        ports.add(PortSocket { netns: NetnsId(netns), ..socket(sport, endpoint(9, 80)) });
    }
    let usage = ports.finish(16);
    let rows: Vec<_> = usage.tuples.entries.iter().map(|(key, tally)| (key.netns.0, tally.used)).collect();
    assert_eq!(rows, [(1, 2), (2, 1), (3, 1)], "the same addresses, another namespace");
    assert_eq!(usage.fullest, BTreeMap::from([(NetnsId(1), 2), (NetnsId(2), 1), (NetnsId(3), 1)]));
    assert_eq!(usage.sources.len(), 3);
}

#[test]
fn sources_beyond_the_bound_are_counted_as_folded() {
    let range = range();
    let mut ports = Ports::new(&range, 16);
    for host in 0..=255 {
        ports.add(PortSocket { source: endpoint(host, 40_000), ..socket(0, endpoint(9, 80)) });
    }
    let usage = ports.finish(1);
    assert_eq!((usage.sources.len(), usage.sources_folded, usage.tuples.total), (MOST_SOURCES, 256 - 64, 256));
}

proptest! {
    #[test]
    fn every_port_in_use_is_in_one_row_or_the_rest(
        sockets in prop::collection::vec((0..4_u8, any::<u16>(), 0..9_u8, 80..84_u16), 0..300),
        k in 0..40_usize,
    ) {
        let range = range();
        let mut ports = Ports::new(&range, 8);
        for &(source, sport, host, port) in &sockets {
            ports.add(PortSocket { source: endpoint(source, sport), ..socket(0, endpoint(host, port)) });
        }
        let own = sockets.iter().filter(|(_, sport, _, _)| (32_768..=60_999).contains(sport)).count() as u64;
        let usage = ports.finish(k);
        let shown: u64 = usage.tuples.entries.iter().map(|(_, tally)| tally.used).sum();
        prop_assert_eq!((shown + usage.tuples.other, usage.tuples.total), (own, own));
        prop_assert_eq!(usage.sources.iter().map(|source| source.sockets).sum::<u64>(), own);
        prop_assert!(usage.sources.iter().all(|source| source.distinct_ports <= source.sockets));
    }
}
