//! The core whole: inputs in, outcomes and snapshots out. Pure, so a trace file repeats a run to the byte.

use crate::aggregate::{
    Aggregates, CensusStatus, KernelCounters, Lost, PerState, Populations, ProbeStatus, Readings, SmallSockets,
    Snapshot, Units,
};
use crate::census::{self, Kind};
use crate::decode::decode;
use crate::event::{CgroupId, Event, TcpState};
use crate::input::{HostFigures, Input, Walk};
use crate::lifecycle::{Connection, Options, Outcome, Seed, Tracker};

/// Watches the core at work.
pub trait Observer {
    /// Whether [`Observer::event`] is to be called; it costs a look into the table.
    const WANTS_EVENTS: bool = false;
    /// A decoded record, before its outcomes, with what is known of its socket so far.
    fn event(&mut self, _event: &Event, _known: Option<&Connection>) {}
    fn outcome(&mut self, _outcome: &Outcome) {}
}

/// Watches nothing.
impl Observer for () {}

/// How the core is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreOptions {
    /// Bound of the connection table.
    pub max_connections: usize,
    /// Values of the label `unit` before `other`.
    pub units: usize,
    /// SYN-ACK retransmissions come as events.
    pub synack_probe: bool,
}

/// What only the edges know, for a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub ring_pending_bytes: u64,
    pub ring_size_bytes: u64,
    pub probes: Vec<ProbeStatus>,
    /// Unix seconds.
    pub started_unix_seconds: f64,
    pub census_interval_seconds: f64,
}

/// Tracker, aggregates and populations, and what they were told of the world.
pub struct Core {
    tracker: Tracker,
    aggregates: Aggregates,
    populations: Populations,
    units: Units,
    totals: KernelCounters,
    probe_missed: u64,
    undecodable: u64,
    host: HostFigures,
    census: CensusStatus,
    walks_done: u64,
    /// Totals at the beginning of the walk under way, with the runs that had been missed by the walk before.
    walk_began: Option<KernelCounters>,
    missed_at_last_walk: u64,
    small: SmallSockets,
    requests: Vec<(CgroupId, u64)>,
}

impl Core {
    pub fn new(options: &CoreOptions) -> Self {
        let tracker_options = Options { synack_probe: options.synack_probe };
        Self {
            tracker: Tracker::with_options(options.max_connections, tracker_options),
            aggregates: Aggregates::default(),
            populations: Populations::default(),
            units: Units::new(options.units),
            totals: KernelCounters::default(),
            probe_missed: 0,
            undecodable: 0,
            host: HostFigures::default(),
            census: CensusStatus::default(),
            walks_done: 0,
            walk_began: None,
            missed_at_last_walk: 0,
            small: SmallSockets::default(),
            requests: Vec::new(),
        }
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: &Input<'_>, observer: &mut impl Observer) {
        match input {
            Input::Record(bytes) => self.handle_record(bytes, observer),
            Input::Totals { counters, probe_missed } => {
                self.totals = KernelCounters::sum([*counters]);
                self.probe_missed = *probe_missed;
            }
            Input::Host(figures) => self.handle_host(*figures),
            // Names matter only at the edges.
            Input::Unit { .. } => {}
            Input::WalkBegins { at, counters } => {
                self.walk_began = Some(KernelCounters::sum([*counters]));
                self.tracker.begin_walk(*at);
            }
            Input::Walk(walk) => self.handle_walk(walk, observer),
            Input::WalkFailed => {
                self.walk_began = None;
                self.tracker.abandon_walk();
                self.census.success = false;
            }
        }
    }

    fn handle_record<O: Observer>(&mut self, bytes: &[u8], observer: &mut O) {
        let Ok(event) = decode(bytes) else {
            self.undecodable += 1;
            return;
        };
        if O::WANTS_EVENTS {
            let known = match &event {
                Event::Transition(transition) => self.tracker.connection(transition.socket),
                Event::SynackRetransmit(_) => None,
            };
            observer.event(&event, known);
        }
        let aggregates = &mut self.aggregates;
        self.tracker.handle_event(&event, &mut |outcome| {
            aggregates.apply(&outcome);
            observer.outcome(&outcome);
        });
    }

    /// Handshakes of whole milliseconds wait for this: only the cookie counter tells whether they are true.
    fn handle_host(&mut self, figures: HostFigures) {
        let cookies = match (self.host.syncookies_received, figures.syncookies_received) {
            (Some(before), Some(now)) => now.checked_sub(before),
            _ => None,
        };
        self.aggregates.resolve_suspects(cookies);
        self.host = figures;
    }

    fn handle_walk(&mut self, walk: &Walk<'_>, observer: &mut impl Observer) {
        let (records, rest) = walk.sockets.as_chunks::<{ census::RECORD }>();
        let found: Vec<census::Found> = records.iter().filter_map(census::decode_record).collect();
        self.undecodable += (records.len() - found.len()) as u64 + u64::from(!rest.is_empty());
        let tally = Tally::of(&found);

        let after = KernelCounters::sum([walk.counters]);
        let before = self.walk_began.take().unwrap_or(after);
        let exact = self.probe_missed == self.missed_at_last_walk;
        self.missed_at_last_walk = self.probe_missed;
        let audit = self.populations.audit(&tally.full, &before.transitions, &after.transitions, exact);

        let aggregates = &mut self.aggregates;
        let first = self.walks_done == 0;
        self.tracker.reconcile(walk.began, found.iter().filter_map(seed), &mut |outcome| {
            // What a full table refuses at a later walk was refused at the first or has been evicted: it is counted.
            if first || outcome != Outcome::TableFull {
                aggregates.apply(&outcome);
            }
            observer.outcome(&outcome);
        });
        self.totals = after;
        self.handle_host(walk.host);
        self.small = tally.small;
        self.requests = tally.requests;
        self.walks_done += 1;
        self.census = CensusStatus {
            at_unix_seconds: Some(walk.unix_seconds),
            duration_seconds: walk.ended.since(walk.began).map_or(0.0, |ns| ns as f64 / 1e9),
            success: true,
            drift: audit.drift,
            resyncs: self.census.resyncs + u64::from(audit.resynced),
            interval_seconds: 0.0,
        };
    }

    /// Finished walks so far.
    pub fn walks_done(&self) -> u64 {
        self.walks_done
    }

    /// Records handed over by the kernel, as of the last totals.
    pub fn events(&self) -> u64 {
        self.totals.records
    }

    /// As of the last totals.
    pub fn lost(&self) -> Lost {
        Lost {
            ring_full: self.totals.ring_full,
            probe_missed: self.probe_missed,
            undecodable: self.undecodable,
            table_full: self.aggregates.table_full,
        }
    }

    /// Cgroups met since the last call, to be named while their directory is there.
    pub fn take_new_cgroups(&mut self) -> Vec<CgroupId> {
        self.aggregates.cgroups.take_new().collect()
    }

    /// Everything known now. `name_unit` gives the value of the label `unit` for a cgroup.
    pub fn snapshot(&mut self, gauges: Gauges, name_unit: impl FnMut(CgroupId) -> String) -> Snapshot {
        let readings = Readings {
            counters: self.totals,
            probe_missed: self.probe_missed,
            undecodable: self.undecodable,
            ring_pending_bytes: gauges.ring_pending_bytes,
            ring_size_bytes: gauges.ring_size_bytes,
            tracked_connections: self.tracker.tracked() as u64,
            tracked_connections_limit: self.tracker.limit() as u64,
            census: CensusStatus { interval_seconds: gauges.census_interval_seconds, ..self.census },
            probes: gauges.probes,
            started_unix_seconds: gauges.started_unix_seconds,
            small: self.host.time_wait.map_or(self.small, |tw| self.small.with_sockstat(tw)),
            requests: self.requests.clone(),
        };
        self.aggregates.fill(readings, &self.populations, &mut self.units, name_unit)
    }
}

/// A full socket of a walk, for the tracker.
fn seed(found: &census::Found) -> Option<Seed> {
    match found.kind {
        Kind::Full { state, .. } => {
            Some(Seed { socket: found.socket, cgroup: found.cgroup, netns: found.netns, state, tuple: found.tuple })
        }
        Kind::Waiting { .. } | Kind::Request { .. } => None,
    }
}

/// A walk, counted.
struct Tally {
    full: PerState<u64>,
    small: SmallSockets,
    /// Half-open requests by the cgroup of their listener, ascending.
    requests: Vec<(CgroupId, u64)>,
}

impl Tally {
    fn of(found: &[census::Found]) -> Self {
        let mut tally = Self { full: [0; TcpState::COUNT], small: SmallSockets::default(), requests: Vec::new() };
        let mut listeners = hashbrown::HashMap::new();
        let mut requests = std::collections::BTreeMap::new();
        for socket in found {
            match socket.kind {
                Kind::Full { state, .. } => {
                    tally.full[state.index()] += 1;
                    if state == TcpState::Listen {
                        listeners.insert(socket.socket, socket.cgroup);
                    }
                }
                Kind::Waiting { substate: TcpState::FinWait2, .. } => tally.small.fin_wait2 += 1,
                Kind::Waiting { .. } => tally.small.time_wait += 1,
                Kind::Request { listener, .. } => {
                    tally.small.requests += 1;
                    // Listeners come first in a walk. One that was closed since leaves its requests without an owner.
                    let cgroup = listeners.get(&listener).copied().unwrap_or_default();
                    *requests.entry(cgroup).or_insert(0) += 1;
                }
            }
        }
        tally.requests = requests.into_iter().collect();
        tally
    }
}
