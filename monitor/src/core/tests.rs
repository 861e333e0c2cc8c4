//! The core driven by inputs alone: a storm of TIME_WAIT with its census, and evidence over a window.

use std::time::Instant;

use synfin_ebpf::abi::{AF_INET, CensusSocket, Counters, state};

use super::*;
use crate::census;
use crate::diagnose::{LostDetail, Maker, NamespaceName, diagnose};
use crate::event::{Endpoint, KernelTime, NetnsId};
use crate::input::Walk;

const SECOND: u64 = 1_000_000_000;

pub(super) const OPTIONS: CoreOptions = CoreOptions {
    max_connections: 1000,
    units: 60,
    top: 3,
    endpoints: EndpointDetail::Full,
    owners: OWNERS_DEFAULT,
    synack_probe: true,
    namespaces: None,
};

fn core() -> Core {
    Core::new(&OPTIONS)
}

fn name(cgroup: CgroupId) -> String {
    format!("unit{}", cgroup.0)
}

pub(super) fn bytes(socket: &CensusSocket) -> [u8; census::RECORD] {
    // SAFETY: integers and byte arrays without padding, so every byte is initialized.
    unsafe { std::mem::transmute_copy(socket) }
}

/// Socket number `n`, towards one of 50 servers on port 443.
fn small(n: u32, remaining_ms: u32) -> CensusSocket {
    let mut socket = CensusSocket {
        skaddr: u64::from(n) + 1,
        netns: 1,
        family: AF_INET,
        state: state::TIME_WAIT,
        remaining_ms_plus_1: remaining_ms + 1,
        ..CensusSocket::default()
    };
    let host = |last: u32| crate::event::mapped(std::net::Ipv4Addr::new(10, 0, 0, last as u8));
    (socket.tuple.saddr, socket.tuple.daddr) = (host(200), host(n % 50));
    (socket.tuple.sport, socket.tuple.dport) = ((n / 50 % 28_000) as u16 + 32_768, 443 + (n / 1_400_000) as u16);
    socket
}

fn walk(core: &mut Core, seconds: u64, sockets: &[u8]) {
    let (counters, at) = (Counters::ZERO, KernelTime(seconds * SECOND));
    core.handle(&Input::WalkBegins { at, counters: &counters }, &mut ());
    let host = HostFigures { time_wait: Some((sockets.len() / census::RECORD) as u64), ..HostFigures::default() };
    let walk = Walk { began: at, ended: at, counters: &counters, host, sockets, unix_seconds: 1e9 + seconds as f64 };
    core.handle(&Input::Walk(walk), &mut ());
}

#[test]
fn a_hundred_thousand_small_sockets_are_attributed_with_exact_sums() {
    let mut core = core();
    core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
    for n in 0..100_000 {
        let socket = small(n, 0);
        let found = census::decode_record(&bytes(&socket)).expect("a whole record");
        let end = crate::lifecycle::Finished {
            at: KernelTime(SECOND),
            netns: found.netns,
            cgroup: CgroupId(u64::from(n % 2) + 7),
            tuple: found.tuple,
            wait: crate::lifecycle::Wait::TimeWait,
            ..crate::lifecycle::samples::FINISHED
        };
        core.ledger.finished(&end, Role::Client);
    }
    let sockets: Vec<u8> = (0..100_000).flat_map(|n| bytes(&small(n, n % 60_000))).collect();
    let start = Instant::now();
    walk(&mut core, 2, &sockets);
    eprintln!("a census of 100,000 TIME_WAIT sockets applied in {:?}", start.elapsed());
    let figures = core.snapshot(Gauges::default(), name).figures;
    let rows = &figures.time_wait.rows;
    assert_eq!(rows.iter().map(|row| row.sockets).sum::<u64>(), 100_000);
    assert_eq!((rows.len(), rows[0].sockets, rows[0].role, rows[0].unit.as_str()), (6, 2000, Role::Client, "unit7"));
    assert_eq!((figures.time_wait.folded, figures.ports.folded), (47, 47));
    assert_eq!(figures.time_wait.remaining.iter().sum::<u64>(), 100_000);
    assert_eq!((figures.ports.available, figures.ports.rows[0].used), (Some(28_232), 2000));
    let entered: Vec<_> = figures.time_wait.entered.iter().map(|(unit, counts)| (unit.as_str(), counts[0])).collect();
    assert_eq!(entered, [("unit7", 50_000), ("unit8", 50_000), ("other", 0)]);

    walk(&mut core, 20, &[]);
    let figures = core.snapshot(Gauges::default(), name).figures;
    assert_eq!(figures.time_wait.left.iter().sum::<u64>(), 100_000);
    assert_eq!(figures.time_wait.rows.iter().map(|row| row.sockets).sum::<u64>(), 0);
    assert_eq!(figures.time_wait.rows.len(), 6, "rows that emptied stay");
    assert!(core.ledger.owners.is_empty());
}

#[test]
fn between_two_censuses_those_go_whose_time_is_over() {
    let mut core = core();
    core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
    let of = |server: u32, n: u32, remaining_ms| bytes(&small(n * 50 + server, remaining_ms));
    let api = (0..36).map(|n| of(1, n, 2000));
    let sockets: Vec<u8> = api.chain((0..12).map(|n| of(2, n, 42_000))).flatten().collect();
    walk(&mut core, 2, &sockets);
    let mut check = |seconds: u64, total: u64, api, web, remaining: [u64; 6]| {
        core.handle(&Input::Host(HostFigures { time_wait: Some(total), ..HostFigures::default() }), &mut ());
        let gauges = Gauges { at: KernelTime((2 + seconds) * SECOND), ..Gauges::default() };
        let time_wait = core.snapshot(gauges, name).figures.time_wait;
        let of = |endpoint: &str| {
            let rows = time_wait.rows.iter().filter(|row| row.endpoint == endpoint);
            rows.map(|row| row.sockets).sum::<u64>()
        };
        assert_eq!((of("10.0.0.1:443"), of("10.0.0.2:443")), (api, web), "after {seconds} s");
        assert_eq!(time_wait.remaining, remaining, "after {seconds} s");
        assert_eq!(time_wait.rows.iter().map(|row| row.sockets).sum::<u64>(), total);
    };
    check(0, 48, 36, 12, [36, 0, 0, 0, 12, 0]);
    check(1, 48, 36, 12, [36, 0, 0, 0, 12, 0]);
    check(5, 12, 0, 12, [0, 0, 0, 12, 0, 0]);
    // The last of them are late.
    check(5, 14, 2, 12, [2, 0, 0, 12, 0, 0]);
    check(25, 12, 0, 12, [0, 12, 0, 0, 0, 0]);
    check(43, 0, 0, 0, [0; 6]);
    // Five are later still.
    check(43, 5, 0, 5, [5, 0, 0, 0, 0, 0]);
}

#[test]
fn drift_of_small_sockets_says_what_the_page_had_wrong() {
    let mut core = core();
    let waiting = |n| CensusSocket { state: state::FIN_WAIT2, ..small(n, 30_000) };
    let sockets = |time_wait: u32, fin_wait2: u32| -> Vec<u8> {
        let fin_wait2 = (time_wait..time_wait + fin_wait2).map(|n| bytes(&waiting(n)));
        (0..time_wait).map(|n| bytes(&small(n, 50_000))).chain(fin_wait2).flatten().collect()
    };
    let mut check = |seconds, found: Vec<u8>, time_wait, fin_wait2| {
        walk(&mut core, seconds, &found);
        let census = core.snapshot(Gauges::default(), name).census;
        let mut drift = [0; TcpState::COUNT];
        (drift[TcpState::TimeWait.index()], drift[TcpState::FinWait2.index()]) = (time_wait, fin_wait2);
        assert_eq!((census.drift, census.resyncs), (drift, 0), "at {seconds} s");
    };
    check(2, sockets(100, 40), 0, 0);
    check(3, sockets(90, 40), 0, 0);
    // The page had these in TIME_WAIT.
    check(4, sockets(70, 70), 30, -30);
    check(5, sockets(70, 70), 0, 0);
    check(6, sockets(140, 0), -70, 70);
}

#[test]
fn less_of_an_endpoint_merges_rows_and_keeps_the_sum() {
    let check = |endpoints, labels: &[(&str, u64)]| {
        let mut core = Core { pages: Pages::new(30, endpoints), ..core() };
        core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
        let sockets: Vec<u8> = (0..100).flat_map(|n| bytes(&small(n, 1000))).collect();
        walk(&mut core, 2, &sockets);
        let rows = core.snapshot(Gauges::default(), name).figures.time_wait.rows;
        let found: Vec<_> = rows.iter().map(|row| (row.endpoint.as_str(), row.sockets)).take(labels.len()).collect();
        assert_eq!(found, labels);
        assert_eq!(rows.iter().map(|row| row.sockets).sum::<u64>(), 100);
    };
    check(EndpointDetail::Full, &[("10.0.0.0:443", 2), ("10.0.0.10:443", 2)]);
    check(EndpointDetail::Port, &[(":443", 100), ("other", 0)]);
    check(EndpointDetail::None, &[("", 100), ("other", 0)]);
}

#[test]
fn a_page_names_less_or_more_from_the_change_on_and_its_counters_never_go_back() {
    let mut core = core();
    core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
    let sockets: Vec<u8> = (0..100).flat_map(|n| bytes(&small(n, 1000))).collect();
    walk(&mut core, 2, &sockets);
    let close = |core: &mut Core| {
        for n in 0..100 {
            let end = crate::lifecycle::Finished {
                cgroup: CgroupId(7),
                tuple: census::decode_record(&bytes(&small(n, 0))).expect("a whole record").tuple,
                ..crate::lifecycle::samples::FINISHED
            };
            core.closes.finished(&end, Role::Client);
            core.closes.apply(&Outcome::Failed(crate::lifecycle::Failed {
                at: end.at,
                socket: end.socket,
                netns: end.netns,
                cgroup: end.cgroup,
                tuple: end.tuple,
                owner: end.owner,
                reason: crate::lifecycle::ConnectFailure::NoLocalPort,
                sk_err: 0,
                lasted_ns: None,
                retransmits: 0,
            }));
        }
    };
    // What the page says of each metric by endpoint, and the sums of the counters.
    let mut seen = (0, 0);
    let mut check = |core: &mut Core, makers: &str, closes: &str, failures: &str| {
        let figures = core.snapshot(Gauges::default(), name).figures;
        let made: Vec<_> = figures.time_wait.rows.iter().filter(|row| row.sockets > 0).collect();
        let made = made.iter().map(|row| format!("{} {}", row.endpoint, row.sockets)).collect::<Vec<_>>().join(", ");
        let closed =
            figures.closes.rows.iter().map(|row| (&row.endpoint, crate::aggregate::Tally::weight(&row.closed)));
        let closed: Vec<_> = closed.collect();
        let sums = (closed.iter().map(|(_, count)| count).sum(), figures.ports.failures.iter().map(|(_, n)| n).sum());
        let closed =
            closed.iter().map(|(endpoint, count)| format!("{endpoint} {count}")).collect::<Vec<_>>().join(", ");
        let failed = figures.ports.failures.iter().map(|(endpoint, count)| format!("{endpoint} {count}"));
        let failed = failed.collect::<Vec<_>>().join(", ");
        assert_eq!((made.as_str(), closed.as_str(), failed.as_str()), (makers, closes, failures));
        assert!(seen <= sums, "{seen:?} {sums:?}");
        seen = sums;
        format!("{figures:?}")
    };
    close(&mut core);
    check(
        &mut core,
        "10.0.0.0:443 2, 10.0.0.10:443 2, 10.0.0.11:443 2, other 94",
        "10.0.0.0:443 2, 10.0.0.10:443 2, 10.0.0.11:443 2, other 94",
        "10.0.0.0:443 2, 10.0.0.10:443 2, 10.0.0.11:443 2, other 94",
    );
    core.set_page(3, EndpointDetail::Port);
    let page = check(&mut core, ":443 100", ":443 6, other 94", ":443 6, other 94");
    assert!(!page.contains("10.0.0."), "{page}");
    close(&mut core);
    check(&mut core, ":443 100", ":443 106, other 94", ":443 106, other 94");
    core.set_page(3, EndpointDetail::None);
    let page = check(&mut core, " 100", " 106, other 94", " 106, other 94");
    assert!(!page.contains(":443"), "{page}");
    core.set_page(1, EndpointDetail::Full);
    close(&mut core);
    check(&mut core, "10.0.0.0:443 2, other 98", "10.0.0.0:443 2, other 298", "10.0.0.0:443 2, other 298");
}

#[test]
fn evidence_has_levels_at_once_and_deltas_with_a_second_moment() {
    let mut core = core();
    core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
    let sockets: Vec<u8> = (0..100).flat_map(|n| bytes(&small(n * 50, 59_000))).collect();
    walk(&mut core, 2, &sockets);
    core.remember_pace(KernelTime(2 * SECOND));
    let first = core.moment(KernelTime(2 * SECOND));
    let alone = core.evidence(&EvidenceWindow { before: None, now: &first }, name);
    let makers = alone.time_wait.as_ref().map(|time_wait| time_wait.makers.clone());
    let endpoint = Endpoint { addr: crate::event::mapped(std::net::Ipv4Addr::new(10, 0, 0, 0)), port: 443 };
    let maker = Maker { role: Role::Client, endpoint: Some(endpoint), unit: "unit0".into(), sockets: 100 };
    assert_eq!(makers, Some(vec![maker]));
    assert_eq!((alone.window_seconds, &alone.closes, &alone.failures), (None, &None, &None));
    assert_eq!(alone.tuples.as_ref().map(|tuples| (tuples[0].used, tuples[0].trend)), Some((100, None)));

    let sockets: Vec<u8> = (0..300).flat_map(|n| bytes(&small(n * 50, 59_000))).collect();
    let key = *core.growth.keys(&core.contacts).first().expect("the one that the census met");
    core.contacts.flows.add(key, contacts::PortFlow { opened: 200, waiting: 200, ..Default::default() });
    walk(&mut core, 12, &sockets);
    core.handle(&Input::Host(HostFigures { tw_recycled: Some(4), ..HostFigures::default() }), &mut ());
    let counters = Counters { ring_full: 5, ..Counters::ZERO };
    core.handle(&Input::Totals { counters: &counters, probe_missed: 0 }, &mut ());
    core.handle(&Input::Record(&[0]), &mut ());
    let second = core.moment(KernelTime(12 * SECOND));
    let evidence = core.evidence(&EvidenceWindow { before: Some(&first), now: &second }, name);
    let trend = evidence.tuples.as_ref().and_then(|tuples| tuples[0].trend).map(crate::diagnose::Trend::per_second);
    assert_eq!((evidence.window_seconds, trend), (Some(10.0), Some(20.0)));
    assert_eq!((alone.lost, evidence.lost), (None, Some(LostDetail { records: 6, table_full: 0 })));
    assert_eq!(evidence.counters.tw_recycled, None, "the counter was not there before");
    assert_eq!(evidence.closes.map(|closes| closes.iter().sum::<u64>()), Some(0));
    assert_eq!(diagnose(&evidence).worst(), None);
}

#[test]
fn with_all_namespaces_watched_each_keeps_its_own_numbers() {
    let mut core = Core::new(&CoreOptions { namespaces: Some(20), ..OPTIONS });
    core.handle(&Input::Ports { range: "32768\t60999\n", reserved: "" }, &mut ());
    let reading = |id, name: &str, own, time_wait, range: Option<&str>| NamespaceReading {
        id: NetnsId(id),
        name: name.into(),
        own,
        host: HostFigures { time_wait: Some(time_wait), tcp_max_tw_buckets: Some(200), ..HostFigures::default() },
        ports: range.map(|range| (range.into(), String::new())),
        ..NamespaceReading::default()
    };
    let readings = [reading(1, "host", true, 100, None), reading(2, "blue", false, 30, Some("32768\t33767\n"))];
    core.handle(&Input::Namespaces { readings: &readings, refused: 0 }, &mut ());
    let of = |netns, n: u32| bytes(&CensusSocket { netns, ..small(n * 50, 59_000) });
    let sockets: Vec<u8> = (0..100).map(|n| of(1, n)).chain((0..30).map(|n| of(2, n))).flatten().collect();
    walk(&mut core, 2, &sockets);
    let now = core.moment(KernelTime(2 * SECOND));
    let evidence = core.evidence(&EvidenceWindow { before: None, now: &now }, name);
    let blue = NamespaceName { name: "blue".into(), inode: 2 };
    let tuples = evidence.tuples.iter().flatten();
    let tuples = tuples.map(|tuple| (tuple.namespace.clone(), tuple.used, tuple.ports_available));
    assert_eq!(tuples.collect::<Vec<_>>(), [(None, 100, Some(28_232)), (Some(blue.clone()), 30, Some(1000))]);
    let sources = evidence.sources.iter().flatten().map(|source| (source.namespace.clone(), source.sockets));
    assert_eq!(sources.collect::<Vec<_>>(), [(None, 100), (Some(blue.clone()), 30)]);
    let tables = evidence.by_namespace.iter().flatten().map(|each| (each.namespace.inode, each.own, each.small));
    assert_eq!(tables.collect::<Vec<_>>(), [(1, true, 100), (2, false, 30)], "each limit is for its own sockets");
    assert_eq!(evidence.time_wait.map(|time_wait| time_wait.total), Some(130));
}
