//! A live watch: the probes and the core that follows them, driven by one thread. Knows no network server and no runtime.

mod background;
pub mod clock;
mod evidence;
pub mod foreground;
mod options;
mod rounds;
mod schedule;
pub mod signals;
mod survey;
mod waker;
mod walk;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::aggregate::Snapshot;
use crate::core::{Core, CoreOptions, Gauges, OWNERS_DEFAULT, Observer};
use crate::host::{CgroupNames, NetnsBook};
use crate::input::Input;
use crate::kernel::{self, CounterReader, LoadError, Missed, Probes, Records, Skipped};

use background::Background;
pub use options::{LiveOptions, SessionOptions};
pub use schedule::Schedule;
use survey::Survey;
pub use waker::Waker;
use walk::{Walked, own_figures, read_host_figures, read_ports};

/// The ring is looked at so often even when the kernel side does not wake the reader.
const POLL: Duration = Duration::from_millis(50);
/// Records taken in one go, so that nothing else waits long: about 5 ms.
const BATCH: usize = 32_768;
/// A walk so long before a question is recent enough for its answer.
const FRESH: Duration = Duration::from_millis(500);
/// Without iter/tcp the first walk is tried so often before no census is taken at all.
const HOPELESS: u32 = 5;
/// Figures of /proc are read so often.
const HOST_INTERVAL: Duration = Duration::from_secs(1);

/// Gets a copy of every input of the core, in order: for trace files.
pub type Tap = Box<dyn FnMut(&Input<'_>) + Send>;

/// Attached probes, their reader, and the core that makes sense of it all.
pub struct Session {
    probes: Probes,
    records: Records,
    counters: CounterReader,
    census_link: Option<OwnedFd>,
    core: Core,
    cgroups: CgroupNames,
    schedule: Schedule,
    walk: Option<Background<Walked>>,
    /// What taking in the last walk took.
    applied_in: Duration,
    /// Looks at the figures of all namespaces between two walks; never while one goes on, so that looks come in their order.
    survey: Option<Background<Survey>>,
    surveys: Schedule,
    netns_book: NetnsBook,
    /// When the last walk ended, well or not.
    walked_at: Option<Instant>,
    host_read_at: Option<Instant>,
    /// The texts that the core was given last.
    ports: Option<(String, String)>,
    waker: Waker,
    skipped: Skipped,
    missed: Missed,
    /// State changes of which no record came, when the last walk began.
    lost_at_walk: u64,
    /// Walks that failed so far.
    walks_failed: u32,
    /// All network namespaces are watched.
    watches_all: bool,
    started_unix_seconds: f64,
    tap: Option<Tap>,
}

impl Session {
    /// Loads, attaches, and takes a first look at the socket tables. From here on every transition is seen.
    ///
    /// # Errors
    /// When the probes cannot be loaded or attached.
    pub fn open(options: &SessionOptions, waker: Waker, tap: Option<Tap>) -> Result<Self, LoadError> {
        let (probes, records, counters) = kernel::load(&options.load)?;
        let census_link = match probes.census_link() {
            None => None,
            Some(link) => Some(link.map_err(|error| LoadError::Map { name: "iter_tcp", reason: error.to_string() })?),
        };
        let core = Core::new(&CoreOptions {
            max_connections: options.max_connections,
            units: options.units,
            top: options.top,
            endpoints: options.endpoints,
            owners: OWNERS_DEFAULT,
            synack_probe: probes.sees_synack_retransmits(),
            namespaces: options.load.netns.is_none().then_some(options.namespaces),
        });
        let mut session = Self {
            probes,
            records,
            counters,
            census_link,
            core,
            cgroups: CgroupNames::of_this_host(),
            schedule: Schedule::new(options.census_interval),
            walk: None,
            survey: None,
            surveys: Schedule::new(HOST_INTERVAL),
            netns_book: NetnsBook::default(),
            applied_in: Duration::ZERO,
            walked_at: None,
            host_read_at: None,
            ports: None,
            waker,
            skipped: Skipped::default(),
            missed: Missed::default(),
            lost_at_walk: 0,
            walks_failed: 0,
            watches_all: options.load.netns.is_none(),
            started_unix_seconds: clock::unix_now(),
            tap,
        };
        if session.census_link.is_none() {
            tracing::warn!(
                "the kernel has no iter/tcp: the socket tables are read over netlink, which tells less of each socket"
            );
        }
        session.read_totals(&mut ());
        Ok(session)
    }

    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    pub fn probes_mut(&mut self) -> &mut Probes {
        &mut self.probes
    }

    /// Whether the first walk is done, or none can be had.
    pub fn is_ready(&self) -> bool {
        self.knows_populations() || !self.schedule.is_possible()
    }

    /// Whether the first walk is done.
    pub fn knows_populations(&self) -> bool {
        self.core.walks_done() > 0
    }

    /// Name of the unit that owns a cgroup.
    pub fn unit(&mut self, cgroup: crate::event::CgroupId) -> std::sync::Arc<str> {
        self.cgroups.unit(cgroup, Instant::now())
    }

    /// Takes effect with the next snapshot and the next walk.
    pub fn apply(&mut self, options: LiveOptions) {
        let LiveOptions { top, endpoints, census_interval } = options;
        self.core.set_page(top, endpoints);
        self.schedule.set_least(census_interval);
    }

    /// The next round begins a walk over the socket tables, if none is under way.
    pub fn hasten_census(&mut self) {
        self.schedule.hasten();
    }

    /// Sleeps until there is something to do.
    pub fn sleep(&self) {
        self.waker.sleep(self.records.as_raw_fd(), POLL);
    }

    /// One round: takes what the ring holds, looks after the census and the figures of the host. Says whether records are left.
    pub fn work(&mut self, observer: &mut impl Observer) -> bool {
        let taken = self.drain(BATCH, observer);
        let now = Instant::now();
        if self.host_read_at.is_none_or(|at| now.duration_since(at) >= HOST_INTERVAL) {
            self.host_read_at = Some(now);
            self.read_host(observer);
            let at = clock::kernel_now();
            self.core.remember_pace(at);
            if self.core.wants_census(at) {
                self.schedule.bring_forward(now);
            }
            self.probes.flush_log();
        }
        if self.cgroups.is_rested(now) {
            self.name_new_cgroups(now);
        }
        if let Some(result) = self.walk.as_ref().and_then(Background::poll) {
            self.walk = None;
            self.walked_at = Some(now);
            self.finish_walk(result, observer);
        } else if let Some(result) = self.survey.as_ref().and_then(Background::poll) {
            self.survey = None;
            self.finish_survey(result, observer);
        } else if self.walk.is_none() && self.survey.is_none() {
            if self.schedule.is_due(now) {
                self.begin_walk(observer);
            } else if self.watches_all && self.surveys.is_due(now) && self.walks_are_seldom() {
                self.begin_survey();
            }
        }
        taken == BATCH
    }

    /// Takes what is there at the moment, however much; what comes meanwhile may stay.
    pub fn drain_all(&mut self, observer: &mut impl Observer) {
        let Self { records, core, tap, .. } = self;
        records.drain_all(|record| handle(core, tap, record, observer));
    }

    fn drain(&mut self, limit: usize, observer: &mut impl Observer) -> usize {
        let Self { records, core, tap, .. } = self;
        records.drain(limit, |record| handle(core, tap, record, observer))
    }

    fn feed(&mut self, input: &Input<'_>, observer: &mut impl Observer) {
        if let Some(tap) = &mut self.tap {
            tap(input);
        }
        self.core.handle(input, observer);
    }

    fn read_totals(&mut self, observer: &mut impl Observer) {
        // A detached program says nothing any more; its last figures stay.
        let skipped = self.probes.skipped();
        self.skipped.state_changes = self.skipped.state_changes.max(skipped.state_changes);
        self.skipped.others = self.skipped.others.max(skipped.others);
        let counters = self.counters.read();
        let probe_missed = self.missed.update(self.skipped.state_changes, &counters) + self.skipped.others;
        self.feed(&Input::Totals { counters: &counters, probe_missed }, observer);
        // Until the next walk nobody knows what was in them.
        if self.core.lost().untold() > self.lost_at_walk {
            self.schedule.bring_forward(Instant::now());
        }
        self.read_ends(observer);
    }

    fn read_ends(&mut self, observer: &mut impl Observer) {
        match self.probes.ends() {
            Some(Ok(ends)) => self.feed(&Input::Ends(&ends), observer),
            Some(Err(error)) => tracing::warn!("cannot read the ends of TIME_WAIT: {error}; the last figures stay"),
            None => {}
        }
    }

    fn read_host(&mut self, observer: &mut impl Observer) {
        self.read_totals(observer);
        let host = if self.watches_all { own_figures() } else { read_host_figures() };
        self.feed(&Input::Host(host), observer);
        let ports = read_ports();
        if let Some((range, reserved)) = ports.as_ref().filter(|_| ports != self.ports) {
            self.feed(&Input::Ports { range, reserved }, observer);
            self.ports = ports;
        }
    }

    /// A cgroup may be gone when its name is asked for, so that is done early.
    fn name_new_cgroups(&mut self, now: Instant) {
        if !self.core.has_new_cgroups() {
            return;
        }
        let new = self.core.take_new_cgroups();
        self.cgroups.look_for(&new, now);
        for cgroup in new {
            let name = self.cgroups.unit(cgroup, now);
            if let Some(tap) = &mut self.tap {
                tap(&Input::Unit { cgroup, name: &name });
            }
        }
    }

    /// Everything known now: the ring is drained, totals and host figures are read; the socket tables are not walked.
    pub fn snapshot(&mut self, observer: &mut impl Observer) -> Snapshot {
        self.drain_all(observer);
        self.read_host(observer);
        let probes = self.probes.status();
        let now = Instant::now();
        // Counters get their names for good: no cgroup may be `unknown` in them only because it is new.
        self.name_new_cgroups(now);
        let cgroups = &mut self.cgroups;
        self.core.snapshot(
            Gauges {
                at: clock::kernel_now(),
                ring_pending_bytes: self.records.pending_bytes() as u64,
                ring_size_bytes: self.records.size() as u64,
                probes,
                started_unix_seconds: self.started_unix_seconds,
                census_interval_seconds: self.schedule.interval().as_secs_f64(),
                census_apply_seconds: self.applied_in.as_secs_f64(),
            },
            |cgroup| cgroups.unit(cgroup, now).to_string(),
        )
    }

    /// Detaches the probes, takes what is left in the ring, and gives the last word of the core.
    pub fn close(mut self, observer: &mut impl Observer) -> Core {
        self.read_totals(observer);
        self.probes.detach();
        self.drain_all(observer);
        self.read_totals(observer);
        self.core
    }
}

fn handle(core: &mut Core, tap: &mut Option<Tap>, record: &[u8], observer: &mut impl Observer) {
    let input = Input::Record(record);
    if let Some(tap) = tap {
        tap(&input);
    }
    core.handle(&input, observer);
}
