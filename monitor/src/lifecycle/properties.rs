//! Laws that hold for any order of events: losses, duplicates, reuse of addresses, walks in between.

use std::collections::HashMap;

use proptest::prelude::*;

use super::connection::is_attempt;
use super::samples::{END, NETNS, OPEN, OWNER, tuple};
use super::{Outcome, Role, Seed, Tracker, TransitionKind, transition_kind};
use crate::event::{CgroupId, Detail, End, Event, KernelTime, Open, SocketId, SynackRetransmit, TcpState, Transition};

/// One thing that happens to the tracker.
#[derive(Clone, Debug)]
enum Input {
    Event(Event),
    /// A walk that meets these.
    Walk(Vec<Seed>),
}

fn any_state() -> impl Strategy<Value = TcpState> {
    prop::sample::select(&TcpState::ALL)
}

fn any_end() -> impl Strategy<Value = End> {
    let errors = prop::sample::select(&[0u32, 0, 0, 32, 103, 104, 110, 111, 113, 9999]);
    (errors, any::<[bool; 8]>(), 0u32..3, any::<u64>(), any::<u64>()).prop_map(
        |(
            sk_err,
            [rcv, send, dead, done, negative, acked, socket, left],
            total_retrans,
            bytes_acked,
            bytes_received,
        )| End {
            sk_err,
            shutdown_rcv: rcv,
            shutdown_send: send,
            dead,
            done,
            linger2_negative: negative,
            all_acked: acked,
            has_socket: socket,
            syn_left: left,
            total_retrans,
            bytes_acked,
            bytes_received,
            ..END
        },
    )
}

fn any_open() -> impl Strategy<Value = Open> {
    (prop::option::of(1u32..5000), 0u32..3, any::<bool>()).prop_map(|(srtt_us, total_retrans, fast_open)| Open {
        srtt_us,
        total_retrans,
        fast_open,
        ..OPEN
    })
}

/// The ways a life can take, whole: each step follows from the one before.
fn life() -> impl Strategy<Value = Vec<(TcpState, TcpState)>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..8).prop_map(|choices| {
        let births = [
            (TcpState::Close, TcpState::SynSent),
            (TcpState::Listen, TcpState::SynRecv),
            (TcpState::Close, TcpState::Listen),
        ];
        let mut pairs = Vec::new();
        for choice in choices {
            let next: Vec<_> = match pairs.last() {
                None | Some((_, TcpState::Close)) => births.to_vec(),
                Some(&(_, state)) => TcpState::ALL
                    .into_iter()
                    .map(|to| (state, to))
                    .filter(|&(from, to)| {
                        !matches!(transition_kind(from, to), TransitionKind::Odd | TransitionKind::Birth)
                    })
                    .collect(),
            };
            pairs.push(next[choice.index(next.len())]);
        }
        pairs
    })
}

fn detailed(pair: (TcpState, TcpState), socket: u64, gap: u64) -> impl Strategy<Value = (u64, Event)> {
    (any_open(), any_end(), any::<bool>()).prop_map(move |(open, end, bare)| {
        let (from, to) = pair;
        let detail = match to {
            // A record without the detail that its kind asks for must do no harm.
            _ if bare && gap.is_multiple_of(7) => Detail::Step,
            TcpState::SynSent | TcpState::Listen => Detail::Start { tuple: tuple(443), owner: OWNER },
            TcpState::Established => Detail::Open(open),
            TcpState::Close => Detail::End(end),
            _ => Detail::Step,
        };
        let transition = Transition {
            at: KernelTime(0),
            socket: SocketId(socket),
            cgroup: CgroupId(socket % 3),
            netns: NETNS,
            from,
            to,
            detail,
        };
        (gap, Event::Transition(transition))
    })
}

/// Interleaved lives of a few sockets, of which some records are lost, some come twice, some are nonsense.
fn inputs(losses: bool) -> impl Strategy<Value = Vec<Input>> {
    let socket = 1u64..6;
    let lived = (life(), socket.clone(), 0u64..20_000_000).prop_flat_map(|(pairs, socket, gap)| {
        pairs.into_iter().map(|pair| detailed(pair, socket, gap)).collect::<Vec<_>>()
    });
    let nonsense = (any_state(), any_state(), socket.clone(), 0u64..1000)
        .prop_flat_map(|(from, to, socket, gap)| detailed((from, to), socket, gap).prop_map(|event| vec![event]));
    let synack = (0u64..1000).prop_map(|gap| {
        let event = SynackRetransmit {
            at: KernelTime(0),
            netns: NETNS,
            tuple: OPEN.tuple,
            num_retrans: 0,
            first_synack_at: Some(KernelTime(1)),
        };
        vec![(gap, Event::SynackRetransmit(event))]
    });
    let walk = prop::collection::vec((socket, any_state()), 0..4).prop_map(|seen| {
        Input::Walk(
            seen.into_iter()
                .map(|(socket, state)| Seed {
                    socket: SocketId(socket),
                    cgroup: CgroupId(socket % 3),
                    netns: NETNS,
                    state,
                    tuple: tuple(443),
                })
                .collect(),
        )
    });
    let noise = if losses { 2 } else { 0 };
    let stretch = prop_oneof![8 => lived, 1 => synack, noise => nonsense];
    let fates = prop::collection::vec(prop_oneof![8 => Just(1usize), noise / 2 => Just(0), noise / 2 => Just(2)], 64);
    let stretch = (stretch, fates).prop_map(|(events, fates)| {
        let fated = events.into_iter().zip(fates.into_iter().cycle());
        fated.flat_map(|((gap, event), times)| std::iter::repeat_n((gap, event), times)).collect::<Vec<_>>()
    });
    let part = prop_oneof![
        6 => stretch.prop_map(|events| events.into_iter().map(|(gap, event)| (gap, Input::Event(event))).collect()),
        noise / 2 => walk.prop_map(|walk| vec![(15_000_000, walk)]),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts: Vec<Vec<(u64, Input)>>| {
        let mut now = 1_000_000_000;
        let mut at = |gap: u64| {
            now += gap;
            KernelTime(now)
        };
        parts
            .into_iter()
            .flatten()
            .map(|(gap, input)| match input {
                Input::Event(Event::Transition(t)) => Input::Event(Event::Transition(Transition { at: at(gap), ..t })),
                Input::Event(Event::SynackRetransmit(s)) => {
                    Input::Event(Event::SynackRetransmit(SynackRetransmit { at: at(gap), ..s }))
                }
                Input::Walk(seeds) => {
                    at(gap);
                    Input::Walk(seeds)
                }
            })
            .collect()
    })
}

/// Feeds all inputs; `after` sees the tracker and the outcomes of each.
fn run(limit: usize, inputs: &[Input], mut after: impl FnMut(&Tracker, &[Outcome])) -> Vec<Outcome> {
    let mut tracker = Tracker::new(limit);
    let mut now = KernelTime(1);
    let mut all = Vec::new();
    for input in inputs {
        let mut said = Vec::new();
        match input {
            Input::Event(event) => {
                now = match event {
                    Event::Transition(t) => t.at,
                    Event::SynackRetransmit(s) => s.at,
                };
                tracker.handle_event(event, &mut |outcome| said.push(outcome));
            }
            Input::Walk(seeds) => {
                let started = KernelTime(now.0 + 14_000_000);
                tracker.begin_walk(started);
                tracker.reconcile(started, seeds.iter().copied(), &mut |outcome| said.push(outcome));
            }
        }
        after(&tracker, &said);
        all.extend(said);
    }
    all
}

/// How many connections are followed, by cgroup and state, listeners included.
fn held(tracker: &Tracker) -> HashMap<(CgroupId, TcpState), i64> {
    let connections = tracker.connections().map(|(_, connection)| (connection.cgroup, connection.state));
    let listeners = tracker.listeners().map(|(_, listener)| (listener.cgroup, TcpState::Listen));
    let mut held = HashMap::new();
    for key in connections.chain(listeners) {
        *held.entry(key).or_default() += 1;
    }
    held
}

proptest! {
    /// The sum of all moves is what the tracker holds, after every single input; so no population can become negative.
    #[test]
    fn moves_add_up_to_what_is_held(inputs in inputs(true), limit in 1usize..7) {
        let mut sum: HashMap<(CgroupId, TcpState), i64> = HashMap::new();
        run(limit, &inputs, |tracker, said| {
            for outcome in said {
                if let Outcome::Moved { cgroup, from, to, .. } = outcome {
                    assert_ne!(from, to);
                    if let Some(from) = from {
                        *sum.entry((*cgroup, *from)).or_default() -= 1;
                    }
                    if let Some(to) = to {
                        *sum.entry((*cgroup, *to)).or_default() += 1;
                    }
                }
            }
            sum.retain(|_, count| *count != 0);
            assert_eq!(sum, held(tracker));
            assert!(tracker.tracked() <= limit);
        });
    }

    /// Every attempt that is followed succeeded, failed, is under way, or its end was missed or its entry evicted.
    #[test]
    fn attempts_are_accounted_for(inputs in inputs(true), limit in 1usize..7) {
        let (mut attempts, mut settled) = (0, 0);
        run(limit, &inputs, |tracker, said| {
            for outcome in said {
                match *outcome {
                    Outcome::Moved { from: None, to: Some(TcpState::SynSent), .. } => attempts += 1,
                    Outcome::Opened { role: Role::Client, .. } | Outcome::Failed(_) => settled += 1,
                    Outcome::EndMissed { last, role } | Outcome::Evicted { last, role } if is_attempt(last, role) => settled += 1,
                    _ => {}
                }
            }
            let under_way = tracker.connections().filter(|(_, connection)| connection.is_attempt()).count();
            assert_eq!(attempts, settled + under_way);
        });
    }

    /// Every life that appears is settled by exactly one of `Finished`, `Failed`, `EndMissed` and `Evicted`, or still lives.
    #[test]
    fn every_life_is_settled_once(inputs in inputs(true), limit in 1usize..7) {
        let (mut appeared, mut settled, mut listeners_closed) = (0, 0, 0);
        run(limit, &inputs, |tracker, said| {
            let mut gone = 0;
            let mut conclusions = 0;
            for outcome in said {
                match outcome {
                    Outcome::Moved { from: None, .. } => appeared += 1,
                    Outcome::Moved { to: None, .. } => gone += 1,
                    Outcome::Finished(_) | Outcome::Failed(_) | Outcome::EndMissed { .. } | Outcome::Evicted { .. } => {
                        conclusions += 1;
                    }
                    _ => {}
                }
            }
            // A listener that closes in good order has no conclusion but its move.
            let orderly = said.first().is_some_and(|outcome| {
                matches!(outcome, Outcome::Moved { from: Some(TcpState::Listen), to: None, .. })
            }) && conclusions < gone;
            listeners_closed += usize::from(orderly);
            assert_eq!(gone, conclusions + usize::from(orderly));
            settled += conclusions;
            let alive = tracker.tracked() + tracker.listeners().count();
            assert_eq!(appeared, settled + listeners_closed + alive);
        });
    }

    /// With nothing lost nothing is healed, missed or odd, and each birth that ends has exactly one conclusion with all its times.
    #[test]
    fn whole_lives_need_no_healing(inputs in one_socket_lives()) {
        let (mut clients, mut concluded) = (0, 0);
        let said = run(8, &inputs, |tracker, _| assert!(tracker.tracked() <= 1));
        for outcome in &said {
            match outcome {
                Outcome::Healed { .. } | Outcome::EndMissed { .. } | Outcome::Odd { .. } | Outcome::Evicted { .. } => {
                    panic!("{outcome:?}")
                }
                Outcome::Moved { from: None, to: Some(TcpState::SynSent | TcpState::SynRecv), .. } => clients += 1,
                Outcome::Finished(end) => {
                    concluded += 1;
                    assert_ne!(end.role, Role::Unknown);
                }
                Outcome::Failed(end) => {
                    concluded += 1;
                    assert!(end.lasted_ns.is_some());
                }
                _ => {}
            }
        }
        prop_assert_eq!(clients, concluded);
    }

    /// No clock, no chance: the same events give the same outcomes.
    #[test]
    fn equal_events_give_equal_outcomes(inputs in inputs(true), limit in 1usize..7) {
        prop_assert_eq!(run(limit, &inputs, |_, _| {}), run(limit, &inputs, |_, _| {}));
    }

    /// Durations never exceed the time that has passed (a wrapped subtraction would).
    #[test]
    fn no_duration_is_longer_than_the_story(inputs in inputs(true)) {
        const STORY_NS: u64 = 24 * 64 * 20_000_000 * 2;
        for outcome in run(4, &inputs, |_, _| {}) {
            let longest = match outcome {
                Outcome::Dwelt { duration_ns, .. } => Some(duration_ns),
                Outcome::Finished(end) => [end.lifetime_ns, end.half_closed_ns].into_iter().flatten().max(),
                Outcome::Failed(end) => end.lasted_ns,
                _ => None,
            };
            prop_assert!(longest.is_none_or(|ns| ns <= STORY_NS), "{:?}", outcome);
        }
    }
}

/// Complete lives of one address, one after the other.
fn one_socket_lives() -> impl Strategy<Value = Vec<Input>> {
    let ended = life().prop_map(|mut pairs| {
        // Close what is still open, by the only way that every state has.
        if let Some(&(_, state)) = pairs.last().filter(|(_, state)| *state != TcpState::Close) {
            pairs.push((state, TcpState::Close));
        }
        pairs
    });
    let lives = prop::collection::vec(ended, 0..12).prop_map(|lives| lives.concat());
    lives.prop_flat_map(|pairs| pairs.into_iter().map(|pair| detailed(pair, 1, 1000)).collect::<Vec<_>>()).prop_map(
        |events| {
            let timed = events.into_iter().enumerate().map(|(number, (gap, event))| match event {
                Event::Transition(t) => {
                    Input::Event(Event::Transition(Transition { at: KernelTime(1 + gap * number as u64), ..t }))
                }
                other @ Event::SynackRetransmit(_) => Input::Event(other),
            });
            timed.collect()
        },
    )
}
