//! How many sockets are in each state now: the kernel's transition counters give the flow, a census the level.
//!
//! The counters are exact, so `level = base + entered − left` for some base that never changes. A census knows the level only within
//! what moved while it walked; each census narrows the base further, and one that contradicts it proves a loss. Within those bounds the
//! tracker knows it to the socket, since it has the events of the walk as well: a host that is never quiet would keep the error of its
//! first census otherwise.

use super::{PerState, Transitions};
use crate::event::TcpState;
use crate::lifecycle::{TransitionKind, transition_kind};

/// States of full sockets, which alone have events. TIME_WAIT and half-open requests are small sockets; CLOSE is none.
pub const FULL_STATES: [TcpState; 9] = [
    TcpState::Established,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Listen,
    TcpState::Closing,
];

/// Sockets that entered and left each state since the counters began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow<N> {
    entered: PerState<N>,
    left: PerState<N>,
}

impl<N: Copy + Default + std::ops::AddAssign> Flow<N> {
    pub(super) fn new(transitions: &PerState<PerState<N>>) -> Self {
        let mut flow = Self { entered: Default::default(), left: Default::default() };
        for from in TcpState::ALL {
            for to in TcpState::ALL {
                let count = transitions[from.index()][to.index()];
                if from == to {
                    continue;
                }
                flow.entered[to.index()] += count;
                // A child is born of a listener, which stays.
                if transition_kind(from, to) != TransitionKind::Birth {
                    flow.left[from.index()] += count;
                }
            }
        }
        flow
    }
}

impl Flow<u64> {
    pub(super) fn net(&self, state: TcpState) -> i64 {
        self.entered[state.index()] as i64 - self.left[state.index()] as i64
    }
}

impl Flow<i64> {
    pub(super) fn net(&self, state: TcpState) -> i64 {
        self.entered[state.index()] - self.left[state.index()]
    }
}

/// Where the base of one state can lie, and where it is taken to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Base {
    low: i64,
    high: i64,
    taken: i64,
}

/// What a census said of the numbers kept until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The level kept until then minus the level from now on.
    pub drift: PerState<i64>,
    /// Whether any state was corrected because of that.
    pub resynced: bool,
}

/// Levels of all states; unknown before the first census.
#[derive(Clone, Debug, Default)]
pub struct Populations {
    bases: Option<PerState<Base>>,
    /// By how much the last census corrected the tracker; `None` when it was not asked.
    corrections: Option<PerState<i64>>,
}

impl Populations {
    /// Takes in a census.
    ///
    /// `counted`: full sockets met in each state. `before`, `after`: the transition counters, read before the walk began and after it ended.
    /// `exact`: no state change went uncounted since the last census (the probe was not skipped).
    /// `tracked`: sockets that the tracker follows, reconciled with the walk, less the net flow of what it has been told
    /// ([`super::Handled::net`]): a base as good as its events. `None` when it does not follow all of them.
    ///
    /// Of the n₀ sockets in a state at the start, at most `left` escaped the walk, and it met at most n₀ + `entered`; so n₀ is in
    /// `[counted − entered, counted + left]` and, at the end, n₁ = n₀ + entered − left in `[counted − left, counted + entered]`.
    pub fn audit(
        &mut self,
        counted: &PerState<u64>,
        before: &Transitions,
        after: &Transitions,
        exact: bool,
        tracked: Option<&PerState<i64>>,
    ) -> Audit {
        let (before, after) = (Flow::new(before), Flow::new(after));
        let known = self.bases;
        let mut audit = Audit::default();
        let mut bases = [Base { low: 0, high: 0, taken: 0 }; TcpState::COUNT];
        for state in FULL_STATES {
            let at = state.index();
            let entered = after.entered[at].saturating_sub(before.entered[at]) as i64;
            let left = after.left[at].saturating_sub(before.left[at]) as i64;
            let counted = counted[at] as i64 - after.net(state);
            let (low, high) = (counted - left, counted + entered);
            let old = known.map(|bases| bases[at]);
            bases[at] = match (old, tracked) {
                (_, Some(tracked)) => Base { low, high, taken: tracked[at].clamp(low, high) },
                (None, None) => Base { low, high, taken: counted },
                // Both are true: the truth is where they meet. Moving within it is better knowledge, not drift.
                (Some(old), None) if exact && old.low.max(low) <= old.high.min(high) => {
                    let (low, high) = (old.low.max(low), old.high.min(high));
                    bases[at] = Base { low, high, taken: old.taken.clamp(low, high) };
                    continue;
                }
                (Some(old), None) => Base { low, high, taken: old.taken.clamp(low, high) },
            };
            audit.drift[at] = old.map_or(0, |old| old.taken - bases[at].taken);
        }
        self.corrections = tracked.map(|tracked| std::array::from_fn(|at| bases[at].taken - tracked[at]));
        audit.resynced = audit.drift.iter().any(|&drift| drift != 0);
        self.bases = Some(bases);
        audit
    }

    /// Takes over what the tracker has learnt since the last census, from events that contradict what it had: changes that the kernel hid
    /// from the probes are in no counter. To be called only while it is told of every change that is counted. `tracked`: as of
    /// [`Self::audit`].
    pub fn follow(&mut self, tracked: &PerState<i64>) {
        if let (Some(bases), Some(corrections)) = (&mut self.bases, &self.corrections) {
            for state in FULL_STATES {
                let at = state.index();
                bases[at].taken = tracked[at] + corrections[at];
            }
        }
    }

    /// Full sockets in each state, by the counters as they are now; `None` before the first census. Never negative: the counters of several
    /// CPUs are not read at one instant.
    pub fn full_sockets(&self, now: &Transitions) -> Option<PerState<u64>> {
        let bases = self.bases?;
        let flow = Flow::new(now);
        let mut levels = [0; TcpState::COUNT];
        for state in FULL_STATES {
            let level = bases[state.index()].taken + flow.net(state);
            levels[state.index()] = u64::try_from(level).unwrap_or(0);
        }
        Some(levels)
    }
}

/// Sockets that have no events; the census counts them, and `sockstat` the first two together at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmallSockets {
    pub time_wait: u64,
    /// Closed by the application, waiting for the peer's FIN.
    pub fin_wait2: u64,
    /// Half-open requests (NEW_SYN_RECV).
    pub requests: u64,
}

impl std::ops::AddAssign for SmallSockets {
    fn add_assign(&mut self, more: Self) {
        self.time_wait += more.time_wait;
        self.fin_wait2 += more.fin_wait2;
        self.requests += more.requests;
    }
}

impl SmallSockets {
    /// The same, with the total `tw` of `/proc/<pid>/net/sockstat` read later. It does not tell the two apart: as many as are known are
    /// taken for FIN_WAIT2, unless there are fewer.
    pub fn with_sockstat(self, tw: u64) -> Self {
        let fin_wait2 = self.fin_wait2.min(tw);
        Self { time_wait: tw - fin_wait2, fin_wait2, ..self }
    }

    /// All sockets, as `ss` counts them: requests as SYN_RECV.
    pub fn add_to(self, full: &PerState<u64>) -> PerState<u64> {
        let mut all = *full;
        all[TcpState::TimeWait.index()] += self.time_wait;
        all[TcpState::FinWait2.index()] += self.fin_wait2;
        all[TcpState::SynRecv.index()] += self.requests;
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sockets with their states, moved as the kernel moves them and counted as it counts.
    #[derive(Clone, Default)]
    struct Truth {
        sockets: Vec<TcpState>,
        transitions: Transitions,
    }

    impl Truth {
        fn change(&mut self, choice: prop::sample::Index) {
            let births = [
                (TcpState::Close, TcpState::SynSent),
                (TcpState::Close, TcpState::Listen),
                (TcpState::Listen, TcpState::SynRecv),
            ];
            let mut options: Vec<(Option<usize>, TcpState, TcpState)> =
                births.map(|(from, to)| (None, from, to)).to_vec();
            for (place, &from) in self.sockets.iter().enumerate() {
                let steps = TcpState::ALL.into_iter().filter(|&to| {
                    use TransitionKind::{End, SelfStep, Step};
                    from != TcpState::Close && matches!(transition_kind(from, to), Step | SelfStep | End)
                });
                options.extend(steps.map(|to| (Some(place), from, to)));
            }
            let (place, from, to) = *choice.get(&options);
            self.transitions[from.index()][to.index()] += 1;
            match place {
                // The dead stay in the list, in CLOSE, so that a walk by position meets the living once.
                Some(place) => self.sockets[place] = to,
                None => self.sockets.push(to),
            }
        }

        fn levels(&self) -> PerState<u64> {
            let mut levels = [0; TcpState::COUNT];
            for state in self.sockets.iter().filter(|&&state| state != TcpState::Close) {
                levels[state.index()] += 1;
            }
            levels
        }

        /// Counts by position while changes go on.
        fn walk(&mut self, changes: &[(bool, prop::sample::Index)]) -> (PerState<u64>, Transitions, Transitions) {
            let (before, mut counted) = (self.transitions, [0; TcpState::COUNT]);
            let mut place = 0;
            let mut changes = changes.iter();
            loop {
                let change = changes.next();
                if let Some(&(true, choice)) = change {
                    self.change(choice);
                } else if let Some(&state) = self.sockets.get(place) {
                    counted[state.index()] += u64::from(state != TcpState::Close);
                    place += 1;
                } else {
                    return (counted, before, self.transitions);
                }
            }
        }
    }

    fn changes() -> impl Strategy<Value = Vec<(bool, prop::sample::Index)>> {
        prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..40)
    }

    proptest! {
        /// With nothing lost no walk ever finds drift, however much moves under it, and a walk in quiet leaves no error at all.
        #[test]
        fn a_walk_under_load_never_invents_drift(stretches in prop::collection::vec((changes(), changes()), 1..8)) {
            let (mut truth, mut populations) = (Truth::default(), Populations::default());
            for (between, during) in stretches {
                between.iter().for_each(|&(_, choice)| truth.change(choice));
                let (counted, before, after) = truth.walk(&during);
                prop_assert_eq!(populations.audit(&counted, &before, &after, true, None), Audit::default());
                let moved = Flow::new(&after);
                let levels = truth.levels();
                for state in FULL_STATES {
                    let base = populations.bases.expect("a census was taken")[state.index()];
                    let level = levels[state.index()] as i64 - moved.net(state);
                    prop_assert!(base.low <= level && level <= base.high, "{:?} {:?} {}", state, base, level);
                }
            }
            let (counted, before, after) = truth.walk(&[]);
            prop_assert_eq!(populations.audit(&counted, &before, &after, true, None), Audit::default());
            prop_assert_eq!(populations.full_sockets(&truth.transitions), Some(truth.levels()));
        }

        /// Changes that nobody counted show as drift of just their size, and are corrected.
        #[test]
        fn losses_show_as_drift(seen in changes(), unseen in changes(), exact: bool) {
            let (mut truth, mut populations) = (Truth::default(), Populations::default());
            seen.iter().for_each(|&(_, choice)| truth.change(choice));
            let (counted, before, after) = truth.walk(&[]);
            populations.audit(&counted, &before, &after, true, None);
            let old = truth.levels();
            let counters = truth.transitions;
            unseen.iter().for_each(|&(_, choice)| truth.change(choice));
            let audit = populations.audit(&truth.levels(), &counters, &counters, exact, None);
            for state in FULL_STATES {
                let lost = old[state.index()] as i64 - truth.levels()[state.index()] as i64;
                prop_assert_eq!(audit.drift[state.index()], lost);
            }
            prop_assert_eq!(populations.full_sockets(&counters), Some(truth.levels()));
        }

        #[test]
        fn levels_are_never_negative(a in any::<[[u32; 12]; 12]>(), b in any::<[[u32; 12]; 12]>(), counted in any::<[u32; 12]>()) {
            let (a, b) = (a.map(|row| row.map(u64::from)), b.map(|row| row.map(u64::from)));
            let mut populations = Populations::default();
            prop_assert_eq!(populations.full_sockets(&a), None);
            populations.audit(&counted.map(u64::from), &a, &b, true, None);
            let levels = populations.full_sockets(&a).expect("a census was taken");
            prop_assert!(levels.iter().all(|&level| level < 1 << 40));
        }
    }

    #[test]
    fn a_birth_does_not_empty_its_listener() {
        let mut transitions = Transitions::default();
        let mut count = |from: TcpState, to: TcpState, times| transitions[from.index()][to.index()] = times;
        count(TcpState::Close, TcpState::Listen, 1);
        count(TcpState::Listen, TcpState::SynRecv, 9);
        count(TcpState::SynRecv, TcpState::Established, 8);
        count(TcpState::FinWait2, TcpState::FinWait2, 5);
        let mut populations = Populations::default();
        populations.audit(&[0; 12], &Transitions::default(), &Transitions::default(), true, None);
        let levels = populations.full_sockets(&transitions).expect("a census was taken");
        let level = |state: TcpState| levels[state.index()];
        assert_eq!((level(TcpState::Listen), level(TcpState::SynRecv), level(TcpState::Established)), (1, 1, 8));
        assert_eq!(level(TcpState::FinWait2), 0);
    }

    #[test]
    fn sockstat_moves_time_wait_between_walks() {
        let check = |tw, time_wait, fin_wait2| {
            let walked = SmallSockets { time_wait: 100, fin_wait2: 10, requests: 3 };
            assert_eq!(walked.with_sockstat(tw), SmallSockets { time_wait, fin_wait2, requests: 3 });
        };
        check(110, 100, 10);
        check(500, 490, 10);
        check(10, 0, 10);
        check(4, 0, 4);
        check(0, 0, 0);
    }

    #[test]
    fn small_sockets_are_counted_as_ss_does() {
        let all = SmallSockets { time_wait: 5, fin_wait2: 2, requests: 1 }.add_to(&[1; TcpState::COUNT]);
        let mut expected = [1; TcpState::COUNT];
        expected[TcpState::TimeWait.index()] = 6;
        expected[TcpState::FinWait2.index()] = 3;
        expected[TcpState::SynRecv.index()] = 2;
        assert_eq!(all, expected);
    }
}
