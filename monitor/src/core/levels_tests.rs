//! Levels of full sockets beside the truth, on a host that is never quiet: sockets older than the daemon, walks under load, losses.

use proptest::prelude::*;
use synfin_ebpf::abi::counters::ROW;
use synfin_ebpf::abi::{AF_INET, CensusSocket, Counters, End, Header, Open, Start, record::kind};

use crate::aggregate::{FULL_STATES, PerState};
use crate::core::tests::{OPTIONS, bytes};
use crate::core::*;
use crate::input::Walk;
use crate::lifecycle::{TransitionKind, transition_kind};

/// Longer than a change needs to show in a walk.
const STEP_NS: u64 = 20_000_000;

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Told,
    /// Counted, and its record found no room.
    Lost,
    /// Hidden from the probes.
    Hidden,
}

/// A kernel and the core that watches it.
struct Host {
    core: Core,
    sockets: Vec<TcpState>,
    counters: Counters,
    hidden: u64,
    pending: Vec<Vec<u8>>,
    now: u64,
    /// The daemon runs.
    watched: bool,
}

fn raw<T: Copy>(record: &T) -> Vec<u8> {
    // SAFETY: records have no padding, so every byte is initialized.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<T>()) }.to_vec()
}

impl Host {
    fn new() -> Self {
        Self {
            core: Core::new(&OPTIONS),
            sockets: vec![],
            counters: Counters::ZERO,
            hidden: 0,
            pending: vec![],
            now: STEP_NS,
            watched: false,
        }
    }

    fn change(&mut self, choice: prop::sample::Index, fate: Fate) {
        self.now += STEP_NS;
        let births = [TcpState::SynSent, TcpState::Listen, TcpState::SynRecv].map(|to| (None, TcpState::Close, to));
        let mut options = births.to_vec();
        for (place, &from) in self.sockets.iter().enumerate() {
            use TransitionKind::{End, SelfStep, Step};
            let leads =
                |&to: &TcpState| from != TcpState::Close && matches!(transition_kind(from, to), Step | SelfStep | End);
            options.extend(TcpState::ALL.into_iter().filter(leads).map(|to| (Some(place), from, to)));
        }
        let (place, mut from, to) = *choice.get(&options);
        let place = place.unwrap_or_else(|| {
            self.sockets.push(TcpState::Close);
            self.sockets.len() - 1
        });
        self.sockets[place] = to;
        if to == TcpState::SynRecv && from == TcpState::Close {
            from = TcpState::Listen;
        }
        self.tell(place, from, to, fate);
        if from == TcpState::Listen && to == TcpState::SynRecv {
            // A listener's child stays there for microseconds.
            self.sockets[place] = TcpState::Established;
            self.tell(place, TcpState::SynRecv, TcpState::Established, fate);
        }
    }

    fn tell(&mut self, place: usize, from: TcpState, to: TcpState, fate: Fate) {
        if !self.watched {
            return;
        }
        if fate == Fate::Hidden {
            self.hidden += 1;
            return;
        }
        self.counters.transitions[from as usize * ROW + to as usize] += 1;
        self.counters.records += 1;
        if from == TcpState::Listen && to == TcpState::SynRecv {
            return;
        }
        let kind = match to {
            TcpState::SynSent | TcpState::Listen => kind::START,
            TcpState::Established => kind::OPEN,
            TcpState::Close => kind::END,
            _ => kind::STEP,
        };
        let header = Header {
            time_ns: self.now,
            skaddr: place as u64 + 1,
            cgroup_id: 1,
            netns: 1,
            kind,
            oldstate: from as u8,
            newstate: to as u8,
            family: AF_INET,
        };
        match fate {
            Fate::Told => self.pending.push(match kind {
                kind::START => raw(&Start { header, ..Default::default() }),
                kind::OPEN => raw(&Open { header, ..Default::default() }),
                kind::END => raw(&End { header, ..Default::default() }),
                _ => raw(&header),
            }),
            Fate::Lost => {
                self.counters.records -= 1;
                self.counters.ring_full += 1;
            }
            Fate::Hidden => {}
        }
    }

    fn drain(&mut self) {
        for record in std::mem::take(&mut self.pending) {
            self.core.handle(&Input::Record(&record), &mut ());
        }
    }

    fn read_totals(&mut self) {
        self.core.handle(&Input::Totals { counters: &self.counters, probe_missed: self.hidden }, &mut ());
    }

    /// A walk by position, with changes under it; what comes right after it is handed over with it.
    fn walk(&mut self, during: &[(bool, prop::sample::Index)], after: &[(bool, prop::sample::Index)]) {
        self.watched = true;
        self.drain();
        self.now += STEP_NS;
        let began = KernelTime(self.now);
        self.core.handle(&Input::WalkBegins { at: began, counters: &self.counters }, &mut ());
        let (mut place, mut found, mut changes) = (0, vec![], during.iter());
        loop {
            let change = changes.next();
            if let Some(&(true, choice)) = change {
                self.change(choice, Fate::Told);
            } else if let Some(&state) = self.sockets.get(place) {
                place += 1;
                if state != TcpState::Close {
                    let (skaddr, state) = (place as u64, state as u8);
                    let socket =
                        CensusSocket { skaddr, state, cgroup_id: 1, netns: 1, family: AF_INET, ..Default::default() };
                    found.extend(bytes(&socket));
                }
            } else {
                break;
            }
        }
        let (ended, counters) = (KernelTime(self.now), self.counters);
        after.iter().for_each(|&(_, choice)| self.change(choice, Fate::Told));
        self.drain();
        self.read_totals();
        let walk = Walk {
            began,
            ended,
            counters: &counters,
            host: HostFigures::default(),
            sockets: &found,
            unix_seconds: 1e9,
        };
        self.core.handle(&Input::Walk(walk), &mut ());
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        self.drain();
        self.read_totals();
        let page = self.core.snapshot(Gauges::default(), |_| "unit".into()).sockets;
        for state in FULL_STATES {
            let truth = self.sockets.iter().filter(|&&each| each == state).count() as u64;
            prop_assert_eq!(page[state.index()], truth, "{:?}", state);
        }
        Ok(())
    }
}

fn changes() -> impl Strategy<Value = Vec<(bool, prop::sample::Index)>> {
    prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With nothing lost the page says the truth from the first walk on, however much moves under it.
    #[test]
    fn a_host_that_is_never_quiet_is_known_from_its_first_walk_on(
        older in changes(),
        stretches in prop::collection::vec((changes(), changes(), changes()), 1..5),
    ) {
        let mut host = Host::new();
        older.iter().for_each(|&(_, choice)| host.change(choice, Fate::Told));
        for (between, during, after) in stretches {
            host.walk(&during, &after);
            host.check()?;
            prop_assert_eq!((host.core.census.drift, host.core.census.resyncs), (PerState::default(), 0));
            between.iter().for_each(|&(_, choice)| host.change(choice, Fate::Told));
            host.check()?;
        }
    }

    /// Whatever was lost before a walk, the page says the truth after it, under load as well, and the drift says what it corrected.
    #[test]
    fn losses_are_healed_by_the_next_walk(
        older in changes(),
        losses in prop::collection::vec((changes(), any::<bool>()), 1..4),
        during in changes(),
        after in changes(),
    ) {
        let mut host = Host::new();
        older.iter().for_each(|&(_, choice)| host.change(choice, Fate::Told));
        host.walk(&during, &[]);
        for (changes, hidden) in losses {
            for &(told, choice) in &changes {
                let fate = if hidden { Fate::Hidden } else { Fate::Lost };
                host.change(choice, if told { Fate::Told } else { fate });
            }
            host.drain();
            host.read_totals();
            let page = host.core.populations.full_sockets(&host.core.totals.transitions).unwrap_or_default();
            host.walk(&[], &[]);
            host.check()?;
            for state in FULL_STATES {
                let truth = host.sockets.iter().filter(|&&each| each == state).count() as i64;
                let said = page[state.index()] as i64;
                // A level below 0 is not shown.
                if said > 0 {
                    prop_assert_eq!(host.core.census.drift[state.index()], said - truth, "{:?}", state);
                }
            }
            host.walk(&during, &after);
            host.check()?;
        }
    }
}
