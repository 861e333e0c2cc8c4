//! A live watch: the probes and the core that follows them, driven by one thread. Knows no network server and no runtime.

pub mod clock;
mod evidence;
pub mod foreground;
mod schedule;
mod waker;
mod walk;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::aggregate::Snapshot;
use crate::config::EndpointDetail;
use crate::core::{Core, CoreOptions, Gauges, OWNERS_DEFAULT, Observer};
use crate::event::NetnsId;
use crate::host::CgroupNames;
use crate::input::{Input, Walk};
use crate::kernel::{self, CounterReader, LoadError, LoadOptions, Missed, Probes, RingReader, Skipped};

pub use schedule::Schedule;
pub use waker::Waker;
use walk::{Reach, WalkUnderWay, Walked, read_host_figures, read_ports};

/// The ring is looked at so often even when the kernel side does not wake the reader.
const POLL: Duration = Duration::from_millis(50);
/// Records taken in one go, so that nothing else waits long: about 5 ms.
const BATCH: usize = 32_768;
/// How often a record under way is waited for.
const PATIENCE: u32 = 1000;
/// A walk so long before a question is recent enough for its answer.
const FRESH: Duration = Duration::from_millis(500);
/// Figures of /proc are read so often.
const HOST_INTERVAL: Duration = Duration::from_secs(1);

/// How to watch.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub load: LoadOptions,
    /// Bound of the connection table.
    pub max_connections: usize,
    /// Values of the label `unit` before `other`.
    pub units: usize,
    /// Rows of a metric before `other`.
    pub top: usize,
    pub endpoints: EndpointDetail,
    /// The least time between two walks over the socket tables.
    pub census_interval: Duration,
}

/// Gets a copy of every input of the core, in order: for trace files.
pub type Tap = Box<dyn FnMut(&Input<'_>) + Send>;

/// Attached probes, their reader, and the core that makes sense of it all.
pub struct Session {
    probes: Probes,
    ring: RingReader,
    counters: CounterReader,
    census_link: Option<OwnedFd>,
    core: Core,
    cgroups: CgroupNames,
    schedule: Schedule,
    walk: Option<WalkUnderWay>,
    /// When the last walk ended, well or not.
    walked_at: Option<Instant>,
    host_read_at: Option<Instant>,
    /// The texts that the core was given last.
    ports: Option<(String, String)>,
    /// The same of other namespaces.
    other_ports: BTreeMap<NetnsId, (String, String)>,
    waker: Waker,
    skipped: Skipped,
    missed: Missed,
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
        let (probes, ring, counters) = kernel::load(&options.load)?;
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
        });
        let mut session = Self {
            probes,
            ring,
            counters,
            census_link,
            core,
            cgroups: CgroupNames::of_this_host(),
            schedule: Schedule::new(options.census_interval),
            walk: None,
            walked_at: None,
            host_read_at: None,
            ports: None,
            other_ports: BTreeMap::new(),
            waker,
            skipped: Skipped::default(),
            missed: Missed::default(),
            watches_all: options.load.netns.is_none(),
            started_unix_seconds: clock::unix_now(),
            tap,
        };
        session.read_totals(&mut ());
        Ok(session)
    }

    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    pub fn probes_mut(&mut self) -> &mut Probes {
        &mut self.probes
    }

    /// Whether the populations are known: the first walk is done, or none can be had.
    pub fn is_ready(&self) -> bool {
        self.core.walks_done() > 0 || self.census_link.is_none()
    }

    /// Name of the unit that owns a cgroup.
    pub fn unit(&mut self, cgroup: crate::event::CgroupId) -> std::sync::Arc<str> {
        self.cgroups.unit(cgroup, Instant::now())
    }

    /// Sleeps until there is something to do.
    pub fn sleep(&self) {
        self.waker.sleep(self.ring.as_raw_fd(), POLL);
    }

    /// One round: takes what the ring holds, looks after the census and the figures of the host. Says whether records are left.
    pub fn work(&mut self, observer: &mut impl Observer) -> bool {
        let taken = self.drain(BATCH, observer);
        let now = Instant::now();
        if self.host_read_at.is_none_or(|at| now.duration_since(at) >= HOST_INTERVAL) {
            self.host_read_at = Some(now);
            self.read_host(observer);
            self.core.remember_pace(clock::kernel_now());
            self.name_new_cgroups(now);
            self.probes.flush_log();
        }
        if let Some(result) = self.walk.as_ref().and_then(WalkUnderWay::poll) {
            self.walk = None;
            self.walked_at = Some(now);
            self.finish_walk(result, observer);
        } else if self.walk.is_none() && self.schedule.is_due(now) {
            self.begin_walk(observer);
        }
        taken == BATCH
    }

    /// Takes what is in the ring at the moment, however much; what comes meanwhile may stay.
    pub fn drain_all(&mut self, observer: &mut impl Observer) {
        let end = self.ring.written();
        let mut idle = 0;
        while self.ring.taken() < end && idle < PATIENCE {
            if self.drain(BATCH, observer) > 0 {
                idle = 0;
            } else {
                // The next record is reserved but not yet submitted: a matter of nanoseconds, unless its CPU was taken away.
                idle += 1;
                std::thread::yield_now();
            }
        }
    }

    fn drain(&mut self, limit: usize, observer: &mut impl Observer) -> usize {
        let Self { ring, core, tap, .. } = self;
        ring.drain(limit, |record| {
            let input = Input::Record(record);
            if let Some(tap) = tap {
                tap(&input);
            }
            core.handle(&input, observer);
        })
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
        match self.counters.read() {
            Ok(counters) => {
                let probe_missed = self.missed.update(self.skipped.state_changes, &counters) + self.skipped.others;
                self.feed(&Input::Totals { counters: &counters, probe_missed }, observer);
            }
            Err(error) => tracing::warn!("cannot read the kernel side's totals: {error}; the last ones stay"),
        }
    }

    fn read_host(&mut self, observer: &mut impl Observer) {
        self.read_totals(observer);
        let mut host = read_host_figures();
        if self.watches_all {
            // Of one namespace only, where the populations are of all: the walks sum them up.
            (host.time_wait, host.syncookies_received) = (None, None);
        }
        self.feed(&Input::Host(host), observer);
        let ports = read_ports();
        if let Some((range, reserved)) = ports.as_ref().filter(|_| ports != self.ports) {
            self.feed(&Input::Ports { netns: None, range, reserved }, observer);
            self.ports = ports;
        }
    }

    /// A cgroup may be gone when its name is asked for.
    fn name_new_cgroups(&mut self, now: Instant) {
        for cgroup in self.core.take_new_cgroups() {
            let name = self.cgroups.unit(cgroup, now);
            if let Some(tap) = &mut self.tap {
                tap(&Input::Unit { cgroup, name: &name });
            }
        }
    }

    fn begin_walk(&mut self, observer: &mut impl Observer) {
        let Some(link) = &self.census_link else {
            self.schedule.never();
            return;
        };
        // The file belongs to the namespace of the thread that makes it.
        let reach = if self.watches_all {
            link.try_clone().map(Reach::All)
        } else {
            kernel::create_census(link.as_fd()).map(Reach::Own)
        };
        let begun = reach.map_err(|error| error.to_string()).and_then(|reach| {
            let counters = self.counters.read().map_err(|error| error.to_string())?;
            // Before the first socket is read: the end of one that the walk meets must be remembered.
            self.feed(&Input::WalkBegins { at: clock::kernel_now(), counters: &counters }, observer);
            WalkUnderWay::start(reach, self.waker.clone()).map_err(|error| error.to_string())
        });
        match begun {
            Ok(walk) => self.walk = Some(walk),
            Err(error) => {
                self.walked_at = Some(Instant::now());
                self.walk_failed(&error, observer);
            }
        }
    }

    /// Has the socket tables walked over for a question asked at `asked`, out of turn if need be. Says whether that is done: at once
    /// when they were just before it, or when there is no way.
    pub fn is_fresh(&mut self, asked: Instant) -> bool {
        let fresh = self.walked_at.is_some_and(|at| at + FRESH >= asked);
        if fresh || !self.schedule.is_possible() {
            return true;
        }
        if self.walk.is_none() {
            self.schedule.now();
        }
        false
    }

    fn finish_walk(&mut self, result: std::io::Result<Walked>, observer: &mut impl Observer) {
        let walked = match result {
            Ok(walked) => walked,
            Err(error) => return self.walk_failed(&error, observer),
        };
        let counters = match self.counters.read() {
            Ok(counters) => counters,
            Err(error) => return self.walk_failed(&error, observer),
        };
        self.drain_all(observer);
        self.schedule.done(Instant::now(), walked.took);
        self.feed_other_ports(walked.ports, observer);
        let walk = Walk {
            began: walked.began,
            ended: walked.ended,
            counters: &counters,
            host: walked.host,
            sockets: &walked.sockets,
            unix_seconds: walked.unix_seconds,
        };
        self.feed(&Input::Walk(walk), observer);
    }

    /// Ranges of other namespaces, where they are new or have changed.
    fn feed_other_ports(&mut self, ports: Vec<(NetnsId, (String, String))>, observer: &mut impl Observer) {
        for (netns, texts) in &ports {
            if self.other_ports.get(netns) != Some(texts) {
                self.feed(&Input::Ports { netns: Some(*netns), range: &texts.0, reserved: &texts.1 }, observer);
            }
        }
        self.other_ports = ports.into_iter().collect();
    }

    fn walk_failed(&mut self, error: &dyn std::fmt::Display, observer: &mut impl Observer) {
        tracing::warn!("cannot read the kernel's socket tables: {error}; populations go on without this audit");
        self.schedule.done(Instant::now(), Duration::ZERO);
        self.feed(&Input::WalkFailed, observer);
    }

    /// Everything known now: the ring is drained, totals and host figures are read; the socket tables are not walked.
    pub fn snapshot(&mut self, observer: &mut impl Observer) -> Snapshot {
        self.drain_all(observer);
        self.read_host(observer);
        let probes = self.probes.status();
        let now = Instant::now();
        let cgroups = &mut self.cgroups;
        self.core.snapshot(
            Gauges {
                ring_pending_bytes: self.ring.pending_bytes() as u64,
                ring_size_bytes: self.ring.size() as u64,
                probes,
                started_unix_seconds: self.started_unix_seconds,
                census_interval_seconds: self.schedule.interval().as_secs_f64(),
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
