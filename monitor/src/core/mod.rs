//! The core whole: inputs in, outcomes and snapshots out. Pure, so a trace file repeats a run to the byte.

mod audit;
mod by_cause;
mod closes;
mod contacts;
mod departures;
mod evidence;
mod figures;
mod flows;
mod growth;
mod levels;
mod moment;
mod namespaces;
mod tally;
#[cfg(test)]
mod tests;
mod time_wait;
mod turning;
mod view;
mod walk;

use crate::aggregate::{
    Aggregates, CensusStatus, EphemeralRange, EphemeralRanges, Handled, KernelCounters, Lost, Populations, ProbeStatus,
    Readings, SmallSockets, Snapshot, Units,
};
use crate::config::EndpointDetail;
use crate::decode::decode;
use crate::event::{CgroupId, Event, KernelTime, TcpState};
use crate::input::{HostFigures, Input, NamespaceReading};
use crate::lifecycle::{Connection, Options, Outcome, Role, Tracker};
use by_cause::ByCause;
use closes::Closes;
use contacts::Contacts;
use figures::{Pages, Sources};
use growth::Growth;
use levels::Began;
use namespaces::Namespaces;
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
    /// Where all network namespaces are watched: how many are shown before `other`.
    pub namespaces: Option<usize>,
}

/// What only the edges know, for a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Now; the time of the last input where that is later.
    pub at: KernelTime,
    pub ring_pending_bytes: u64,
    pub ring_size_bytes: u64,
    pub probes: Vec<ProbeStatus>,
    /// Unix seconds.
    pub started_unix_seconds: f64,
    pub census_interval_seconds: f64,
    /// What taking in the last walk took, after the walk itself.
    pub census_apply_seconds: f64,
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
    /// Of the latest input that has a time.
    latest: KernelTime,
    host: HostFigures,
    census: CensusStatus,
    walks_done: u64,
    /// What of the totals has come as records.
    handled: Handled,
    /// Records lost and sockets that found the table full, as of the last walk: as long as neither grows, the tracker is told of all that
    /// is counted. `None`: it does not follow all sockets.
    follows_since: Option<(u64, u64)>,
    walk_began: Option<Began>,
    missed_at_last_walk: u64,
    lost_at_last_walk: u64,
    small: SmallSockets,
    requests: Vec<(CgroupId, u64)>,
    ranges: EphemeralRanges,
    /// `Some` where all are watched.
    namespaces: Option<Namespaces>,
    ledger: Ledger,
    by_cause: ByCause,
    contacts: Contacts,
    closes: Closes,
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
            aggregates: match options.namespaces {
                None => Aggregates::default(),
                Some(_) => Aggregates::default().by_netns(),
            },
            populations: Populations::default(),
            units: Units::new(options.units),
            totals: KernelCounters::default(),
            probe_missed: 0,
            undecodable: 0,
            latest: KernelTime(0),
            host: HostFigures::default(),
            census: CensusStatus::default(),
            walks_done: 0,
            handled: Handled::default(),
            follows_since: None,
            walk_began: None,
            missed_at_last_walk: 0,
            lost_at_last_walk: 0,
            small: SmallSockets::default(),
            requests: Vec::new(),
            ranges: EphemeralRanges::default(),
            namespaces: options.namespaces.map(Namespaces::new),
            ledger: Ledger::new(options.owners),
            by_cause: ByCause::default(),
            contacts: Contacts::default(),
            closes: Closes::default(),
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
                self.handled.compare(&self.totals.transitions, self.lost_records());
                self.follow();
            }
            Input::Ends(ends) => self.by_cause.take(ends),
            Input::Host(figures) => match &self.namespaces {
                None => self.handle_host(*figures),
                Some(namespaces) => self.host = namespaces.sum_up(*figures),
            },
            Input::Ports { range, reserved } => self.ranges.own = EphemeralRange::parse(range, reserved).ok(),
            Input::Namespaces { readings, refused } => self.handle_namespaces(readings, *refused),
            // Names matter only at the edges.
            Input::Unit { .. } => {}
            Input::WalkBegins { at, counters } => {
                self.walk_began = Some(self.began(KernelCounters::sum([*counters])));
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
            if let (Event::Transition(transition), None) = (&event, known)
                && let Some(birth) = transition.birth_before()
            {
                observer.event(&Event::Transition(birth), None);
            }
            observer.event(&event, known);
        }
        let Self { aggregates, tracker, ledger, contacts, closes, view, ranges, handled, latest, .. } = self;
        let mut from = None;
        if let Event::Transition(transition) = &event {
            handled.count(transition.from, transition.to);
            *latest = transition.at.max(*latest);
            from = Some(transition.from);
        }
        tracker.handle_event(&event, &mut |outcome| {
            // The birth of a listener's child is counted and has no record of its own.
            if let Outcome::Moved { from: None, to: Some(TcpState::SynRecv), .. } = outcome
                && from == Some(TcpState::SynRecv)
            {
                handled.count(TcpState::Listen, TcpState::SynRecv);
            }
            aggregates.apply(&outcome);
            contacts.apply(&event, &outcome);
            closes.apply(&outcome);
            if let Outcome::Finished(end) = &outcome {
                let role = match (end.lifetime_ns, end.role) {
                    (Some(_), Role::Client | Role::Server) => end.role,
                    // The opening was not seen: records were lost, and with them maybe a change of hands. The ports know better.
                    (None, _) | (_, Role::Unknown) => {
                        match view.listening.role_of(end.netns, &end.tuple, ranges.of(end.netns)) {
                            by_ports @ (Role::Client | Role::Server) => by_ports,
                            Role::Unknown => end.role,
                        }
                    }
                };
                ledger.finished(end, role);
                closes.finished(end, role);
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

    /// Counters of all namespaces: only now is known what they have grown by.
    fn handle_namespaces(&mut self, readings: &[NamespaceReading], refused: u64) {
        let Some(namespaces) = &mut self.namespaces else { return };
        for netns in namespaces.take(readings, refused, self.aggregates.netns.as_ref()) {
            self.ledger.forget(netns);
        }
        self.ranges.others = namespaces.ranges();
        let host = namespaces.sum_up(self.host);
        self.handle_host(host);
    }

    /// Remembers how many connections there were at `at`, for the pace at which ports are taken: to be called every second or so.
    pub fn remember_pace(&mut self, at: KernelTime) {
        self.growth.look(at, &self.contacts);
    }

    /// Changes what pages show from the next one on.
    pub fn set_page(&mut self, top: usize, endpoints: EndpointDetail) {
        self.pages.set_top(top);
        self.pages.set_detail(endpoints);
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

    /// Whether [`Self::take_new_cgroups`] has any.
    pub fn has_new_cgroups(&self) -> bool {
        self.aggregates.cgroups.has_new()
    }

    /// Everything known now. `name_unit` gives the value of the label `unit` for a cgroup; counters keep, for good, the name that they
    /// get when they first come.
    pub fn snapshot(&mut self, gauges: Gauges, mut name_unit: impl FnMut(CgroupId) -> String) -> Snapshot {
        let at = self.latest.max(gauges.at);
        self.age(at);
        let readings = Readings {
            counters: self.totals,
            probe_missed: self.probe_missed,
            undecodable: self.undecodable,
            ring_pending_bytes: gauges.ring_pending_bytes,
            ring_size_bytes: gauges.ring_size_bytes,
            tracked_connections: self.tracker.tracked() as u64,
            tracked_connections_limit: self.tracker.limit() as u64,
            census: CensusStatus {
                interval_seconds: gauges.census_interval_seconds,
                apply_seconds: gauges.census_apply_seconds,
                ..self.census
            },
            probes: gauges.probes,
            started_unix_seconds: gauges.started_unix_seconds,
            small: self.small_now(),
            requests: self.requests.clone(),
        };
        let mut snapshot = self.aggregates.fill(readings, &self.populations, &mut self.units, &mut name_unit);
        let sources = Sources {
            ledger: &mut self.ledger,
            closes: &mut self.closes,
            view: &self.view,
            range: self.ranges.own.as_ref(),
            host: &self.host,
            by_cause: &self.by_cause,
            time_wait: snapshot.sockets[TcpState::TimeWait.index()],
            time_wait_by_netns: self.namespaces.as_ref().map(Namespaces::time_wait),
            at,
        };
        snapshot.figures = self.pages.figures(sources, &mut name_unit);
        let fullest = self.view.ports.as_ref().map(|usage| &usage.fullest);
        let by_netns = self.aggregates.netns.as_ref();
        let namespaces = self.namespaces.as_ref();
        snapshot.figures.namespaces =
            namespaces.map(|namespaces| namespaces.figures(&snapshot.sockets, by_netns, fullest));
        snapshot
    }
}
