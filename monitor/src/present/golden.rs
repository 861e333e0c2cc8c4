//! Tests of whole pages: a snapshot made by hand against committed pages, and what must hold of any page.
//!
//! `SYNFIN_BLESS=1` writes the files instead; their diff is then reviewed like code.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::aggregate::{
    CensusStatus, CloseFigures, CloseRow, Closed, Counted, Figures, Histogram, ListenFigures, ListenerRow, Lost,
    NamespaceFigures, NamespaceRow, PortFigures, PortRow, ProbeStatus, Snapshot, TimeWaitFigures, TimeWaitRow,
};
use crate::event::TcpState::{self, *};
use crate::host::process::ProcessStatus;
use crate::lifecycle::{self, ConnectFailure, Role, Unmeasured};

const BUILD: Build = Build { version: "1.2.3", revision: "0123abc" };
const PROCESS: ProcessStatus = ProcessStatus {
    cpu_seconds: 12.345678,
    resident_bytes: 16 << 20,
    virtual_bytes: 300 << 20,
    open_fds: 21,
    max_fds: 524_288,
    start_unix_seconds: 1_700_000_000.25,
};
const BOUNDS_NS: &[u64] = &[25_000, 1_000_000, 1_000_000_000, 60_000_000_000];

/// A daemon that has just started: nothing seen, no census yet.
fn fresh() -> Snapshot {
    let histogram = || Histogram::new(BOUNDS_NS);
    Snapshot {
        transitions: Default::default(),
        other_protocol_transitions: 0,
        odd_transitions: 0,
        other_netns_transitions: 0,
        opened: Default::default(),
        closed: Default::default(),
        connect_failures: Default::default(),
        handshake: [histogram(), histogram(), histogram()],
        handshake_unmeasured: Default::default(),
        handshake_retransmits: Default::default(),
        state_duration: std::array::from_fn(|_| histogram()),
        connection_duration: [histogram(), histogram(), histogram()],
        sockets: Default::default(),
        unit_sockets: Vec::new(),
        events: 0,
        lost: Lost::default(),
        healed: 0,
        ring_pending_bytes: 0,
        ring_size_bytes: 8 << 20,
        ring_wakeups: 0,
        tracked_connections: 0,
        tracked_connections_limit: 262_144,
        census: CensusStatus { interval_seconds: 15.0, ..CensusStatus::default() },
        probes: Vec::new(),
        started_unix_seconds: 1_700_000_000.5,
        units_folded: 0,
        figures: fresh_figures(),
    }
}

/// The rests are there from the start.
fn fresh_figures() -> Figures {
    let rest = |role| TimeWaitRow { role, endpoint: "other".into(), unit: "other".into(), sockets: 0 };
    Figures {
        time_wait: TimeWaitFigures {
            rows: Role::ALL.map(rest).to_vec(),
            entered: vec![("other".into(), [0; Role::COUNT])],
            limit: Some(131_072),
            overflows: Some(0),
            ..TimeWaitFigures::default()
        },
        closes: CloseFigures {
            rows: vec![CloseRow { endpoint: "other".into(), unit: "other".into(), closed: Closed::default() }],
            folded: 0,
        },
        ports: PortFigures { available: Some(28_232), failures: vec![("other".into(), 0)], ..PortFigures::default() },
        listen: ListenFigures {
            rows: vec![ListenerRow { listener: "other".into(), ..ListenerRow::default() }],
            overflows: Some(0),
            drops: Some(0),
            ..ListenFigures::default()
        },
        ..Figures::default()
    }
}

/// Figures with `top` rows of everything, before the rests.
fn full_figures(top: usize, mut next: impl FnMut() -> u64) -> Figures {
    let mut figures = fresh_figures();
    for n in 0..top {
        let unit = format!("unit-{n}.service");
        let endpoint = format!("[2001:db8::{n:x}]:443");
        let mut closed = Closed::default();
        closed.0[Role::Client.index()] = std::array::from_fn(|_| next());
        figures.closes.rows.insert(n, CloseRow { endpoint: endpoint.clone(), unit: unit.clone(), closed });
        let row = TimeWaitRow { role: Role::Client, endpoint, unit: unit.clone(), sockets: next() };
        figures.time_wait.rows.insert(n, row);
        figures.time_wait.entered.insert(n, (unit.clone(), [next(), next(), next()]));
        let (source, destination) = (format!("192.0.2.{n}"), format!("198.51.100.{n}:5432"));
        figures.ports.failures.insert(n, (destination.clone(), next()));
        figures.ports.rows.push(PortRow { source, destination, used: next() });
        let listener = format!("0.0.0.0:{}", 8000 + n);
        figures.listen.rows.insert(n, ListenerRow { listener, backlog: next(), limit: next(), half_open: next() });
        figures.close_wait_oldest.push((unit, 1_700_000_000.125 + n as f64));
    }
    figures
}

/// As many namespaces before the rest, one of them gone.
fn namespaces(names: impl IntoIterator<Item = String>, mut next: impl FnMut() -> u64) -> NamespaceFigures {
    let mut counted = || Counted { time_wait_overflows: next(), listen_overflows: next(), listen_drops: next() };
    let rows = names.into_iter().enumerate().map(|(n, name)| {
        let living = n > 0;
        NamespaceRow {
            name,
            sockets: std::array::from_fn(|state| if living && state != NewSynRecv.index() { n as u64 } else { 0 }),
            time_wait_limit: living.then_some(131_072),
            ports_available: living.then_some(28_232),
            ports_used: living.then_some(n as u64),
            counted: counted(),
        }
    });
    let mut rows: Vec<_> = rows.collect();
    rows.push(NamespaceRow { name: "other".into(), counted: counted(), ..NamespaceRow::default() });
    NamespaceFigures { rows, watched: 3, refused: 1, folded: 2 }
}

/// A daemon in the middle of its life; every field differs from its neighbours.
pub(crate) fn busy() -> Snapshot {
    let mut snapshot = fresh();
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    for (from, to) in [(Close, SynSent), (SynSent, Established), (Established, FinWait1), (FinWait2, Close)] {
        snapshot.transitions[from.index()][to.index()] = next();
    }
    // No source of the kernel makes this one: it is exported because it was counted.
    snapshot.transitions[Closing.index()][TimeWait.index()] = next();
    snapshot.other_protocol_transitions = next();
    snapshot.other_netns_transitions = next();
    snapshot.opened = [next(), next(), next()];
    for role in Role::ALL {
        snapshot.closed[role.index()][lifecycle::Close::Reset.index()] = next();
    }
    snapshot.connect_failures[ConnectFailure::Refused.index()] = next();
    snapshot.handshake_unmeasured[Role::Server.index()][Unmeasured::SynCookie.index()] = next();
    snapshot.handshake_retransmits[Role::Client.index()] = next();
    for (role, times_ns) in [(Role::Client, [24_999, 900_000]), (Role::Server, [25_000, 61_000_000_000])] {
        for time_ns in times_ns {
            snapshot.handshake[role.index()].observe(time_ns);
        }
    }
    snapshot.state_duration[CloseWait.index()].observe(2_500_000_000);
    snapshot.connection_duration[Role::Server.index()].observe(86_400_000_000_000);
    for state in TcpState::ALL.into_iter().filter(|state| *state != NewSynRecv) {
        snapshot.sockets[state.index()] = 100 + state.index() as u64;
    }
    for unit in ["nginx.service", "/machine/a\"b\\c\nd", "größe.service", "root", "unknown", "other"] {
        let mut sockets = [0; TcpState::COUNT];
        sockets[Established.index()] = next();
        sockets[CloseWait.index()] = next();
        snapshot.unit_sockets.push((unit.to_owned(), sockets));
    }
    snapshot.events = 1 << 53;
    snapshot.lost = Lost { ring_full: next(), probe_missed: next(), undecodable: next(), table_full: next() };
    snapshot.healed = next();
    snapshot.ring_pending_bytes = next();
    snapshot.ring_wakeups = next();
    snapshot.tracked_connections = next();
    snapshot.census.at_unix_seconds = Some(1_700_000_100.125);
    snapshot.census.duration_seconds = 0.024;
    snapshot.census.apply_seconds = 0.018;
    snapshot.census.success = true;
    snapshot.census.drift[Established.index()] = -3;
    snapshot.census.resyncs = next();
    let probe = |probe, kind, attached, runs| ProbeStatus { probe, kind, attached, runs };
    snapshot.probes = vec![
        probe("inet_sock_set_state", "btf_tracepoint", true, Some((1_000, 45_000))),
        probe("inet_sock_set_state", "raw_tracepoint", false, None),
        probe("iter_tcp", "iterator", true, Some((3, 72_000_000))),
    ];
    snapshot.units_folded = next();
    let mut figures = full_figures(2, &mut next);
    for count in figures.time_wait.remaining.iter_mut().chain(&mut figures.time_wait.left) {
        *count = next();
    }
    for row in &mut figures.time_wait.rows[2..] {
        row.sockets = next();
    }
    (figures.time_wait.folded, figures.ports.folded, figures.listen.folded) = (next(), next(), next());
    (figures.time_wait.overflows, figures.listen.overflows) = (Some(next()), Some(next()));
    (figures.closes.folded, figures.ports.failures_folded) = (next(), next());
    (figures.listen.drops, figures.owners_refused) = (Some(next()), next());
    let names = ["a\"b\\c\nd", "docker-0a1b.scope", "host", "net:[4026532001]"];
    figures.namespaces = Some(namespaces(names.map(String::from), &mut next));
    snapshot.figures = figures;
    snapshot
}

fn page_of(snapshot: &Snapshot) -> Page {
    Page::new(&Reading { snapshot, process: Some(&PROCESS), build: BUILD })
}

/// Compares with the committed file, or writes it when `SYNFIN_BLESS` is set.
#[track_caller]
fn check_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("SYNFIN_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).position(|(old, new)| old != new);
    assert!(
        committed == text,
        "{} is not what the catalogue yields (first difference in line {}): run with SYNFIN_BLESS=1 and review the diff",
        path.display(),
        differs.unwrap_or(committed.lines().count().min(text.lines().count())) + 1,
    );
}

#[test]
fn the_document_is_what_the_catalogue_yields() {
    check_file("docs/METRICS.md", &document());
}

#[test]
fn pages_are_the_golden_ones() {
    let (fresh, busy) = (page_of(&fresh()), page_of(&busy()));
    check_file("tests/golden/fresh.txt", &fresh.text().unwrap());
    check_file("tests/golden/busy.txt", &busy.text().unwrap());
    check_file("tests/golden/busy.openmetrics.txt", &busy.openmetrics());
}

#[test]
fn promtool_has_nothing_to_say() {
    for page in [page_of(&fresh()), page_of(&busy())] {
        let child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            child.expect("cannot run promtool: install the Debian package `prometheus` (its service is not needed)");
        child.stdin.take().unwrap().write_all(page.text().unwrap().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && said.is_empty(), "promtool says:\n{said}");
    }
}

#[test]
fn nothing_disappears_when_it_falls_to_zero_again() {
    let names = |snapshot: &Snapshot| -> HashSet<String> {
        let page = page_of(snapshot).text().unwrap();
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let mut emptied = busy();
    emptied.sockets = Default::default();
    emptied.census.drift = Default::default();
    emptied.probes.iter_mut().for_each(|probe| probe.attached = false);
    emptied.unit_sockets.iter_mut().for_each(|(_, sockets)| *sockets = Default::default());
    assert_eq!(names(&emptied), names(&busy()));
    let gone: Vec<_> = names(&fresh()).difference(&names(&busy())).cloned().collect();
    assert_eq!(gone, [] as [String; 0], "a series of the start is no longer there");
}

#[test]
fn sixty_units_thirty_rows_and_twenty_namespaces_stay_below_two_thousand_series() {
    let mut snapshot = busy();
    snapshot.unit_sockets = (0..60).map(|n| (format!("unit-{n}.service"), [1; TcpState::COUNT])).collect();
    snapshot.figures = full_figures(30, || 1);
    snapshot.figures.namespaces = Some(namespaces((0..20).map(|n| format!("blue-{n}")), || 1));
    // As many buckets as a generous histogram has.
    static BOUNDS: [u64; 20] = [1_000_000; 20];
    for histogram in
        snapshot.handshake.iter_mut().chain(&mut snapshot.state_duration).chain(&mut snapshot.connection_duration)
    {
        *histogram = Histogram::new(&BOUNDS);
    }
    let page = page_of(&snapshot);
    let lines = page.text().unwrap().lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(page.series(), lines);
    assert!(lines < 2_000, "{lines} series");
}

#[test]
fn units_that_read_alike_are_one_series() {
    let mut snapshot = fresh();
    let mut sockets = [0; TcpState::COUNT];
    sockets[Listen.index()] = 2;
    snapshot.unit_sockets = vec![("a".into(), sockets), ("a".into(), sockets)];
    let page = page_of(&snapshot).text().unwrap();
    let lines: Vec<_> = page.lines().filter(|line| line.contains("unit=\"a\",state=\"listen\"")).collect();
    assert_eq!(lines, ["synfin_tcp_unit_sockets{unit=\"a\",state=\"listen\"} 4"]);
}

#[test]
fn without_proc_there_are_no_process_metrics() {
    let page = Page::new(&Reading { snapshot: &fresh(), process: None, build: BUILD });
    assert!(!page.openmetrics().contains("process_"));
}

/// What a parser of either format makes of `unit="…"` in a sample line.
fn unescape(line: &str) -> String {
    let value = line.split_once("unit=\"").unwrap().1;
    let mut text = String::new();
    let mut chars = value.chars();
    loop {
        match chars.next() {
            Some('"') | None => return text,
            Some('\\') => match chars.next() {
                Some('n') => text.push('\n'),
                Some(c @ ('\\' | '"')) => text.push(c),
                other => panic!("{other:?} is no escape"),
            },
            Some(c) => text.push(c),
        }
    }
}

proptest! {
    #[test]
    fn any_label_value_survives_both_formats(unit in any::<String>()) {
        let mut snapshot = fresh();
        snapshot.unit_sockets = vec![(unit.clone(), [1; TcpState::COUNT])];
        let metric = CATALOGUE.iter().flat_map(|section| section.metrics).find(|m| m.name == "synfin_tcp_unit_sockets");
        let page = Page::of(std::slice::from_ref(metric.unwrap()), &Reading { snapshot: &snapshot, process: None, build: BUILD });
        for text in [page.text().unwrap(), page.openmetrics()] {
            // Only `\n` ends a line.
            let line = text.split('\n').find(|line| line.starts_with("synfin_tcp_unit_sockets{")).unwrap();
            prop_assert_eq!(unescape(line), unit.clone());
        }
    }
}
