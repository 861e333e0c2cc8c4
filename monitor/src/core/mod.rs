//! The core whole: inputs in, outcomes and snapshots out. Pure, so a trace file repeats a run to the byte.

mod contacts;
mod evidence;
mod figures;
mod flows;
mod growth;
mod moment;
mod tally;
#[cfg(test)]
mod tests;
mod time_wait;
mod view;

use crate::aggregate::{
    Aggregates, CensusStatus, EphemeralRange, KernelCounters, Lost, Populations, ProbeStatus, Ranges, Readings,
    SmallSockets, Snapshot, Units,
};
use crate::census;
use crate::config::EndpointDetail;
use crate::decode::decode;
use crate::event::{CgroupId, Event, KernelTime, TcpState};
use crate::input::{HostFigures, Input, Walk};
use crate::lifecycle::{Connection, Options, Outcome, Role, Tracker};
use contacts::Contacts;
use figures::{Pages, Sources};
use growth::Growth;
use tally::{Tally, seed};
use time_wait::Ledger;
use view::View;

pub use evidence::EvidenceWindow;
pub use moment::Moment;

/// Owners remembered for their TIME_WAIT sockets unless told otherwise: more than twice what Linux allows by default on most hosts, and
/// about 20 MiB when full.
pub const OWNERS_DEFAULT: usize = 400_000;

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
    /// Rows of a metric before `other`.
    pub top: usize,
    pub endpoints: EndpointDetail,
    /// Ended connections whose owners are remembered for their TIME_WAIT sockets.
    pub owners: usize,
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
    ranges: Ranges,
    ledger: Ledger,
    contacts: Contacts,
    growth: Growth,
    /// Of the last census.
    view: View,
    pages: Pages,
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
            ranges: Ranges::default(),
            ledger: Ledger::new(options.owners),
            contacts: Contacts::default(),
            growth: Growth::default(),
            view: View::default(),
            pages: Pages::new(options.top, options.endpoints),
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
            Input::Ports { netns, range, reserved } => {
                self.ranges.set(*netns, EphemeralRange::parse(range, reserved).ok());
            }
            // Names matter only at the edges.
            Input::Unit { .. } => {}
            Input::WalkBegins { at, counters } => {
                self.walk_began = Some(KernelCounters::sum([*counters]));
                self.tracker.begin_walk(*at);
                self.ledger.begin_walk();
            }
            Input::Walk(walk) => self.handle_walk(walk, observer),
            Input::WalkFailed => {
                self.walk_began = None;
                self.tracker.abandon_walk();
                self.ledger.abandon_walk();
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
        let Self { aggregates, tracker, ledger, contacts, view, ranges, .. } = self;
        tracker.handle_event(&event, &mut |outcome| {
            aggregates.apply(&outcome);
            contacts.apply(&event, &outcome);
            if let Outcome::Finished(end) = &outcome {
                let role = match end.role {
                    Role::Client | Role::Server => end.role,
                    Role::Unknown => view.listening.role_of(end.netns, &end.tuple, ranges.own()),
                };
                ledger.finished(end, role);
            }
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
        self.ledger.flows.settle_refusals(figures.time_wait_overflows);
        self.host = figures;
    }

    fn handle_walk(&mut self, walk: &Walk<'_>, observer: &mut impl Observer) {
        let (records, rest) = walk.sockets.as_chunks::<{ census::RECORD }>();
        // Decoded again for each pass: a list of hundreds of thousands of decoded sockets would cost more than that.
        let found = || records.iter().filter_map(census::decode_record);
        let tally = Tally::of(found());
        self.undecodable += records.len() as u64 - tally.sockets + u64::from(!rest.is_empty());

        let after = KernelCounters::sum([walk.counters]);
        let before = self.walk_began.take().unwrap_or(after);
        let exact = self.probe_missed == self.missed_at_last_walk;
        self.missed_at_last_walk = self.probe_missed;
        let audit = self.populations.audit(&tally.full, &before.transitions, &after.transitions, exact);

        let aggregates = &mut self.aggregates;
        let first = self.walks_done == 0;
        self.tracker.reconcile(walk.began, found().filter_map(|found| seed(&found)), &mut |outcome| {
            // What a full table refuses at a later walk was refused at the first or has been evicted: it is counted.
            if first || outcome != Outcome::TableFull {
                aggregates.apply(&outcome);
            }
            observer.outcome(&outcome);
        });
        self.totals = after;
        self.handle_host(walk.host);
        self.view = view::take(walk, found, &self.tracker, &mut self.ledger, &self.ranges);
        if let Some(usage) = &self.view.ports {
            self.growth.take_census(walk.ended, &usage.tuples, &self.contacts);
        }
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

    /// Remembers how many connections there were at `at`, for the pace at which ports are taken: to be called every second or so.
    pub fn remember_pace(&mut self, at: KernelTime) {
        self.growth.look(at, &self.contacts);
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
    pub fn snapshot(&mut self, gauges: Gauges, mut name_unit: impl FnMut(CgroupId) -> String) -> Snapshot {
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
            small: self.small_now(),
            requests: self.requests.clone(),
        };
        let mut snapshot = self.aggregates.fill(readings, &self.populations, &mut self.units, &mut name_unit);
        let sources = Sources {
            ledger: &mut self.ledger,
            view: &self.view,
            range: self.ranges.own(),
            host: &self.host,
            time_wait: snapshot.sockets[TcpState::TimeWait.index()],
        };
        snapshot.figures = self.pages.figures(sources, &mut name_unit);
        snapshot
    }

    /// Small sockets by the last census and the last total of the kernel.
    fn small_now(&self) -> SmallSockets {
        self.host.time_wait.map_or(self.small, |tw| self.small.with_sockstat(tw))
    }
}
