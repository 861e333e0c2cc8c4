//! Whole lives as the kernel reports them, and what the tracker says of each.
// Longer than 400 lines: one table of cases for each law of the tracker, which read best side by side.

use super::samples::{self, CGROUP, END, NETNS, OPEN, OWNER, SOCKET, say};
use super::{Options, Outcome, Seed, Tracker};
use crate::event::TcpState::{
    Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
};
use crate::event::{CgroupId, Detail, End, Event, KernelTime, Open, SocketId, SynackRetransmit, TcpState, Tuple};

const MS: u64 = 1_000_000;

/// Milliseconds, from, to, detail.
fn step(at_ms: u64, from: TcpState, to: TcpState) -> Event {
    samples::transition(at_ms * MS, from, to, Detail::Step)
}

fn connect(at_ms: u64) -> Event {
    samples::start(at_ms * MS, SynSent, 0)
}

fn open(at_ms: u64, from: TcpState, open: Open) -> Event {
    samples::transition(at_ms * MS, from, Established, Detail::Open(open))
}

fn end(at_ms: u64, from: TcpState, end: End) -> Event {
    samples::transition(at_ms * MS, from, Close, Detail::End(end))
}

fn of(socket: u64, event: Event) -> Event {
    match event {
        Event::Transition(mut t) => {
            t.socket = SocketId(socket);
            Event::Transition(t)
        }
        Event::SynackRetransmit(_) => event,
    }
}

fn synack(at_ms: u64, first_ms: u64) -> Event {
    Event::SynackRetransmit(SynackRetransmit {
        at: KernelTime(at_ms * MS),
        netns: NETNS,
        tuple: OPEN.tuple,
        num_retrans: 0,
        first_synack_at: Some(KernelTime(first_ms * MS)),
    })
}

fn run(tracker: &mut Tracker, events: &[Event]) -> Vec<String> {
    let mut said = Vec::new();
    for event in events {
        tracker.handle_event(event, &mut |outcome: Outcome| said.push(say(&outcome)));
    }
    said
}

/// Everything said must match, moves aside (a property test adds them up).
#[track_caller]
fn check(events: &[Event], expected: &[&str]) {
    let mut said = run(&mut Tracker::new(8), events);
    said.retain(|line| !is_move(line));
    assert_eq!(said, expected);
}

fn is_move(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_state = |word: Option<&str>| {
        word.is_some_and(|word| word == "-" || TcpState::ALL.iter().any(|state| state.label() == word))
    };
    is_state(words.next()) && words.next() == Some("to") && is_state(words.next())
}

#[test]
fn a_client_that_closes_first_waits() {
    let done = End { done: true, dead: true, all_acked: true, bytes_acked: 102, bytes_received: 501, ..END };
    check(
        &[
            connect(10),
            open(12, SynSent, OPEN),
            step(112, Established, FinWait1),
            step(114, FinWait1, FinWait2),
            end(164, FinWait2, done),
        ],
        &[
            "dwelt syn_sent 2ms",
            "opened client 2ms",
            "dwelt established 100ms",
            "dwelt fin_wait1 2ms",
            "dwelt fin_wait2 50ms",
            "finished client local from fin_wait2 wait time_wait handshake 2ms lifetime 152ms half-closed 52ms bytes 100 500 owner 7",
        ],
    );
}

#[test]
fn a_server_that_closes_last_inherits_its_owner() {
    let tuple = Tuple { sport: 443, ..OPEN.tuple };
    let opened = Open { tuple, srtt_us: Some(31), ..OPEN };
    let acked = End { tuple, all_acked: true, done: true, bytes_acked: 501, bytes_received: 101, ..END };
    check(
        &[
            of(1, samples::start(MS, Listen, 443)),
            step(10, Listen, SynRecv),
            open(10, SynRecv, opened),
            step(110, Established, CloseWait),
            step(150, CloseWait, LastAck),
            end(152, LastAck, acked),
        ],
        &[
            "opened server 0.031ms",
            "dwelt established 100ms",
            "dwelt close_wait 40ms",
            "dwelt last_ack 2ms",
            "finished server remote from last_ack wait none handshake 0.031ms lifetime 142ms half-closed 40ms bytes 500 100 owner 7",
        ],
    );
}

#[test]
fn both_ends_may_open_and_close_at_once() {
    check(
        &[
            connect(10),
            step(11, SynSent, SynRecv),
            open(12, SynRecv, OPEN),
            step(20, Established, FinWait1),
            step(21, FinWait1, Closing),
            end(22, Closing, End { all_acked: true, done: true, ..END }),
        ],
        &[
            "dwelt syn_sent 1ms",
            "dwelt syn_recv 1ms",
            "opened client 2ms",
            "dwelt established 8ms",
            "dwelt fin_wait1 1ms",
            "dwelt closing 1ms",
            "finished client simultaneous from closing wait time_wait handshake 2ms lifetime 10ms half-closed - bytes 0 0 owner 7",
        ],
    );
}

#[test]
fn a_small_fin_wait2_socket_hides_how_long_the_wait_was() {
    check(
        &[
            step(20, Established, FinWait1),
            step(21, FinWait1, FinWait2),
            step(25, FinWait2, FinWait2),
            end(25, FinWait2, End { dead: true, ..END }),
        ],
        &[
            "dwelt fin_wait1 1ms",
            "finished unknown local from fin_wait2 wait fin_wait2 handshake - lifetime - half-closed - bytes 0 0 owner 0",
        ],
    );
}

#[test]
fn self_transitions_do_not_restart_the_clock() {
    check(
        &[step(20, FinWait1, FinWait2), step(25, FinWait2, FinWait2), end(50, FinWait2, End { done: true, ..END })],
        &[
            "dwelt fin_wait2 30ms",
            "finished unknown local from fin_wait2 wait time_wait handshake - lifetime - half-closed - bytes 0 0 owner 0",
        ],
    );
}

#[test]
fn connects_fail_in_many_ways() {
    let refused = End { sk_err: 111, ..END };
    check(&[connect(10), end(12, SynSent, refused)], &["dwelt syn_sent 2ms", "failed refused after 2ms"]);
    check(
        &[connect(10), end(7010, SynSent, End { sk_err: 110, total_retrans: 2, ..END })],
        &["dwelt syn_sent 7000ms", "retransmits client 2", "failed timeout after 7000ms"],
    );
    check(
        &[connect(10), step(11, SynSent, SynRecv), end(12, SynRecv, End { sk_err: 104, ..END })],
        &["dwelt syn_sent 1ms", "dwelt syn_recv 1ms", "failed reset after 2ms"],
    );
    check(&[end(12, SynSent, refused)], &["failed refused after -"]);
    check(
        &[connect(10), samples::transition(12 * MS, SynSent, Close, Detail::Step)],
        &["dwelt syn_sent 2ms", "failed other after 2ms"],
    );
}

#[test]
fn a_passive_child_may_die_before_it_opens() {
    check(
        &[step(10, Listen, SynRecv), end(10, SynRecv, END)],
        &["finished server reset from syn_recv wait none handshake - lifetime - half-closed - bytes 0 0 owner 0"],
    );
}

#[test]
fn a_fast_open_child_may_close_without_established() {
    check(
        &[
            step(10, Listen, SynRecv),
            step(11, SynRecv, CloseWait),
            step(12, CloseWait, LastAck),
            end(13, LastAck, End { all_acked: true, done: true, ..END }),
        ],
        &[
            "opened server no_sample",
            "dwelt close_wait 1ms",
            "dwelt last_ack 1ms",
            "finished server remote from last_ack wait none handshake - lifetime - half-closed 1ms bytes 0 0 owner 0",
        ],
    );
}

#[test]
fn repeated_synacks_are_timed_from_the_first() {
    let opened = Open { srtt_us: Some(1000), total_retrans: 2, ..OPEN };
    let child = |at_ms| [step(at_ms, Listen, SynRecv), open(at_ms, SynRecv, opened)];
    let [birth, opening] = child(1027);
    check(
        &[synack(1010, 10), synack(1011, 10), birth, opening],
        &["retransmits server 1", "retransmits server 1", "opened server 1017ms"],
    );
    check(&child(1027), &["opened server synack_retransmitted"]);

    let mut without_probe = Tracker::with_options(8, Options { synack_probe: false });
    let said = run(&mut without_probe, &child(1027));
    assert_eq!(said[2..], ["retransmits server 2", "opened server synack_retransmitted"]);
}

#[test]
fn openings_without_a_birth_are_still_placed() {
    let srtt = Open { srtt_us: Some(138), ..OPEN };
    check(&[open(12, SynSent, srtt)], &["opened client 0.138ms"]);
    check(
        &[open(12, SynSent, Open { total_retrans: 1, ..srtt })],
        &["retransmits client 1", "opened client event_lost"],
    );
    check(&[open(12, SynRecv, srtt)], &["opened server 0.138ms"]);
    check(&[open(12, SynRecv, Open { srtt_us: Some(40_000), ..OPEN })], &["opened server suspect 40ms"]);
    check(&[open(12, SynRecv, OPEN)], &["opened server syn_cookie"]);
}

#[test]
fn lost_steps_are_healed() {
    check(
        &[connect(10), step(30, FinWait1, FinWait2), end(40, FinWait2, End { done: true, ..END })],
        &[
            "healed syn_sent to fin_wait1",
            "opened client event_lost",
            "dwelt fin_wait2 10ms",
            "finished client local from fin_wait2 wait time_wait handshake - lifetime - half-closed - bytes 0 0 owner 7",
        ],
    );
    check(
        &[connect(10), open(12, SynSent, OPEN), end(40, CloseWait, End { sk_err: 32, ..END })],
        &[
            "dwelt syn_sent 2ms",
            "opened client 2ms",
            "healed established to close_wait",
            "finished client reset from close_wait wait none handshake 2ms lifetime 28ms half-closed - bytes 0 0 owner 7",
        ],
    );
}

#[test]
fn lost_ends_are_settled_by_the_next_life() {
    check(&[connect(10), connect(20)], &["end missed syn_sent client"]);
    check(&[connect(10), step(20, Listen, SynRecv)], &["end missed syn_sent client"]);
    check(&[samples::start(MS, Listen, 443), connect(20)], &["end missed listen unknown"]);
    check(&[samples::start(MS, Listen, 443), step(20, Established, FinWait1)], &["end missed listen unknown"]);
    check(&[connect(10), samples::start(20 * MS, Listen, 443)], &["end missed syn_sent client"]);
    check(
        &[step(10, Established, FinWait1), open(20, SynSent, OPEN)],
        &["end missed fin_wait1 unknown", "opened client event_lost"],
    );
    check(
        &[step(10, Established, FinWait1), end(20, SynSent, End { sk_err: 111, ..END })],
        &["end missed fin_wait1 unknown", "failed refused after -"],
    );
}

#[test]
fn an_address_that_changed_hands_is_known_by_the_other_ends() {
    let opened = ["dwelt syn_sent 2ms", "opened client 2ms", "dwelt established 88ms"];
    let says = |lost: &Tuple, cgroup, then: &[&str]| {
        let closed = End { tuple: *lost, done: true, dead: true, all_acked: true, ..END };
        let mut end = end(150, FinWait2, closed);
        if let Event::Transition(t) = &mut end {
            t.cgroup = cgroup;
        }
        // All of the end of the first and the beginning of the second is lost.
        let events = [connect(10), open(12, SynSent, OPEN), step(100, Established, FinWait1), end];
        check(&events, &[&opened[..], then].concat());
    };
    let same: &[&str] = &[
        "healed fin_wait1 to fin_wait2",
        "finished client local from fin_wait2 wait time_wait handshake 2ms lifetime 138ms half-closed 50ms bytes 0 0 owner 7",
    ];
    let other: &[&str] = &[
        "end missed fin_wait1 client",
        "finished unknown local from fin_wait2 wait time_wait handshake - lifetime - half-closed - bytes 0 0 owner 0",
    ];
    let tuple = OPEN.tuple;
    says(&tuple, CGROUP, same);
    says(&Tuple { sport: 40_001, ..tuple }, CGROUP, other);
    says(&Tuple { dport: 444, ..tuple }, CGROUP, other);
    says(&Tuple { daddr: tuple.saddr, ..tuple }, CGROUP, other);
    says(&Tuple { saddr: tuple.daddr, ..tuple }, CGROUP, same);
    says(&tuple, CgroupId(CGROUP.0 + 1), other);
    says(&tuple, CgroupId(0), same);
}

#[test]
fn odd_pairs_are_counted_and_believed() {
    check(&[step(10, Close, Close)], &[]);
    check(&[step(10, Close, Established)], &["odd close to established"]);
    check(
        &[connect(10), open(12, SynSent, OPEN), step(20, Established, LastAck), end(30, LastAck, END)],
        &[
            "dwelt syn_sent 2ms",
            "opened client 2ms",
            "odd established to last_ack",
            "end missed established client",
            "finished unknown reset from last_ack wait none handshake - lifetime - half-closed - bytes 0 0 owner 0",
        ],
    );
}

#[test]
fn the_oldest_makes_room_but_no_listener_does() {
    let mut tracker = Tracker::new(2);
    let listen = of(9, samples::start(MS, Listen, 443));
    let said = run(&mut tracker, &[listen, of(1, connect(1)), of(2, connect(2)), of(3, connect(3))]);
    assert_eq!(said[said.len() - 3..], ["syn_sent to -", "evicted syn_sent client", "- to syn_sent"]);
    assert_eq!(tracker.connections().map(|(socket, _)| socket.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((tracker.tracked(), tracker.limit(), tracker.listeners().count()), (2, 2, 1));
}

fn seed(socket: u64, state: TcpState) -> Seed {
    Seed { socket: SocketId(socket), cgroup: CGROUP, netns: NETNS, state, tuple: samples::tuple(40_000) }
}

/// Events, then a walk from 1000 ms on that met `seen` while `meanwhile` happened.
#[track_caller]
fn check_walk(before: &[Event], meanwhile: &[Event], seen: &[Seed], expected: &[&str], left: &[(u64, TcpState)]) {
    let mut tracker = Tracker::new(8);
    run(&mut tracker, before);
    tracker.begin_walk(KernelTime(1000 * MS));
    run(&mut tracker, meanwhile);
    let mut said = Vec::new();
    tracker.reconcile(KernelTime(1000 * MS), seen.iter().copied(), &mut |outcome| said.push(say(&outcome)));
    assert_eq!(said, expected);
    let connections = tracker.connections().map(|(socket, connection)| (socket.0, connection.state));
    let listeners = tracker.listeners().map(|(socket, _)| (socket.0, Listen));
    assert_eq!(connections.chain(listeners).collect::<Vec<_>>(), left);
}

#[test]
fn a_walk_heals_what_no_event_can() {
    let life = |at_ms| [of(1, connect(at_ms)), of(1, open(at_ms, SynSent, OPEN))];
    // Known and seen.
    check_walk(&life(10), &[], &[seed(1, Established)], &[], &[(1, Established)]);
    // There before the daemon.
    check_walk(
        &[],
        &[],
        &[seed(1, Established), seed(2, SynSent), seed(3, Listen), seed(4, TcpState::TimeWait)],
        &["- to established", "- to syn_sent", "- to listen"],
        &[(1, Established), (2, SynSent), (3, Listen)],
    );
    // Met by the walk, ended before it was over.
    check_walk(&[], &[of(1, end(1001, Established, END))], &[seed(1, Established)], &[], &[]);
    // Its end was lost.
    check_walk(&life(10), &[], &[], &["established to -", "end missed established client"], &[]);
    check_walk(&[of(1, samples::start(MS, Listen, 443))], &[], &[], &["listen to -", "end missed listen unknown"], &[]);
    // Too young to be held against the walk.
    check_walk(&life(999), &[], &[], &[], &[(1, Established)]);
    check_walk(&[], &life(1001), &[], &[], &[(1, Established)]);
    // A step was lost.
    check_walk(
        &life(10),
        &[],
        &[seed(1, CloseWait)],
        &["established to close_wait", "healed established to close_wait"],
        &[(1, CloseWait)],
    );
    // The walk passed before the step.
    check_walk(
        &life(10),
        &[of(1, step(1001, Established, CloseWait))],
        &[seed(1, Established)],
        &[],
        &[(1, CloseWait)],
    );
    // An end and a birth were lost.
    check_walk(
        &life(10),
        &[],
        &[seed(1, SynSent)],
        &["established to -", "end missed established client", "- to syn_sent"],
        &[(1, SynSent)],
    );
}

#[test]
fn seeded_sockets_have_no_times_of_before() {
    let mut tracker = Tracker::new(8);
    let seeds = [seed(SOCKET.0, SynSent), seed(2, Established)];
    tracker.reconcile(KernelTime(1000 * MS), seeds.into_iter(), &mut |_| {});
    let said = run(
        &mut tracker,
        &[
            open(1010, SynSent, Open { total_retrans: 1, ..OPEN }),
            of(2, step(1020, Established, FinWait1)),
            of(2, step(1030, FinWait1, FinWait2)),
        ],
    );
    assert_eq!(
        said,
        [
            "syn_sent to established",
            "retransmits client 1",
            "opened client preexisting",
            "established to fin_wait1",
            "fin_wait1 to fin_wait2",
            "dwelt fin_wait1 10ms",
        ]
    );
}

#[test]
fn a_listener_learns_its_port_from_the_walk() {
    let mut tracker = Tracker::new(8);
    run(&mut tracker, &[of(1, samples::start(MS, Listen, 0))]);
    tracker.reconcile(KernelTime(1000 * MS), [seed(1, Listen)].into_iter(), &mut |_| {});
    run(&mut tracker, &[step(1010, Listen, SynRecv), open(1010, SynRecv, OPEN)]);
    assert_eq!(tracker.connection(SOCKET).map(|connection| connection.owner), Some(OWNER));
}

#[test]
fn a_full_table_takes_no_older_socket() {
    let mut tracker = Tracker::new(1);
    run(&mut tracker, &[of(1, connect(999))]);
    let mut said = Vec::new();
    let seen = [seed(1, SynSent), seed(2, Established)];
    tracker.reconcile(KernelTime(1000 * MS), seen.into_iter(), &mut |outcome| said.push(say(&outcome)));
    assert_eq!(said, ["table full"]);
    assert_eq!(tracker.tracked(), 1);
}

#[test]
fn a_walk_through_too_many_ends_takes_no_strangers() {
    let reconcile = |tracker: &mut Tracker| {
        tracker.reconcile(KernelTime(1000 * MS), [seed(1, Established)].into_iter(), &mut |_| {});
        tracker.tracked()
    };
    let mut tracker = Tracker::new(8);
    tracker.begin_walk(KernelTime(1000 * MS));
    for socket in 2..300_000 {
        tracker.handle_event(&of(socket, end(1001, Established, END)), &mut |_| {});
    }
    assert_eq!(reconcile(&mut tracker), 0);
    tracker.begin_walk(KernelTime(1000 * MS));
    assert_eq!(reconcile(&mut tracker), 1);
}
