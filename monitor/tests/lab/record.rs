//! The probes loaded into this process, attached in a chosen way, with all that they reported of one namespace.

use super::netns::Netns;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use synfin::census::{self, Found};
use synfin::decode::decode;
use synfin::event::{Event, SocketId, TcpState, Transition};
use synfin::kernel::{self, CounterReader, LoadOptions, Probes, Records, Way};
use synfin_ebpf::abi::Counters;
use synfin_ebpf::abi::counters::ROW;

/// How long reports may take to arrive, on an emulated processor too.
const ARRIVAL: Duration = Duration::from_secs(10);
/// How long they must then stay as they are.
const STILL: Duration = Duration::from_millis(200);

/// Probes that watch `netns` alone.
pub struct Recorder {
    pub probes: Probes,
    records: Records,
    counters: CounterReader,
}

impl Recorder {
    /// Loads the object and attaches its tracepoints in this way and no other.
    pub fn start(netns: &Netns, way: Way) -> Self {
        let options = LoadOptions {
            ring_bytes: 1 << 20,
            netns: Some(netns.inum() as u32),
            btf: LoadOptions::kernel_btf(),
            only: Some(way),
        };
        let (probes, records, counters) = kernel::load(&options).unwrap_or_else(|error| panic!("{way:?}: {error}"));
        Self { probes, records, counters }
    }

    /// All events since the last call, once no more come, births that the next record tells of among them. Panics at a record
    /// that makes no sense.
    pub fn events(&mut self) -> Vec<Event> {
        let (mut events, mut last, started) = (Vec::new(), Instant::now(), Instant::now());
        while last.elapsed() < STILL {
            assert!(started.elapsed() < ARRIVAL, "events still come after {ARRIVAL:?}");
            let taken = self.records.drain(usize::MAX, |record| {
                events.push(decode(record).unwrap_or_else(|error| panic!("{error}: {record:02x?}")));
            });
            if taken > 0 {
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        with_births(events)
    }

    /// The transitions among [`Self::events`].
    pub fn transitions(&mut self) -> Vec<Transition> {
        let transition = |event| match event {
            Event::Transition(transition) => Some(transition),
            Event::SynackRetransmit(_) => None,
        };
        self.events().into_iter().filter_map(transition).collect()
    }

    /// The kernel side's own totals.
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// A walk over the socket tables of `netns`.
    pub fn census(&self, netns: &Netns) -> Vec<Found> {
        let link = self.probes.census_link().expect("an iterator over TCP sockets").expect("a copy of its link");
        let mut found = Vec::new();
        let walk = netns.run(|| kernel::create_census(link.as_fd())).expect("a walk");
        assert_eq!(census::read(walk, |socket| found.push(socket)).expect("a whole walk"), 0, "records without sense");
        found
    }
}

/// Adds the births of listeners' children before the first record of each.
fn with_births(events: Vec<Event>) -> Vec<Event> {
    let mut living = BTreeSet::new();
    let mut whole = Vec::with_capacity(events.len());
    for event in events {
        if let Event::Transition(transition) = &event {
            let is_new = living.insert(transition.socket);
            whole.extend(transition.birth_before().filter(|_| is_new).map(Event::Transition));
            if transition.to == TcpState::Close {
                living.remove(&transition.socket);
            }
        }
        whole.push(event);
    }
    whole
}

/// Transitions by series, as the page names them: from what the events say.
pub fn series_of_events(events: &[Transition]) -> BTreeMap<String, f64> {
    let mut sum = BTreeMap::new();
    for event in events {
        *sum.entry(series(event.from, event.to)).or_default() += 1.0;
    }
    sum
}

/// The same from the difference of two readings of the totals.
pub fn series_of_counters(before: &Counters, after: &Counters) -> BTreeMap<String, f64> {
    let pairs = before.transitions.iter().zip(&after.transitions).enumerate();
    let moved = pairs.filter(|(_, (before, after))| after > before);
    let named = moved.map(|(slot, (before, after))| {
        let state = |number: usize| TcpState::from_kernel(number as u8).expect("a TCP state");
        (series(state(slot / ROW), state(slot % ROW)), (after - before) as f64)
    });
    named.collect()
}

fn series(from: TcpState, to: TcpState) -> String {
    format!("synfin_tcp_transitions_total{{from=\"{}\",to=\"{}\"}}", from.label(), to.label())
}

/// Panics unless each socket starts with a birth and then goes on from where it was.
pub fn check_chains(events: &[Transition]) {
    let mut states: BTreeMap<SocketId, TcpState> = BTreeMap::new();
    for event in events {
        match states.insert(event.socket, event.to) {
            Some(state) if state != TcpState::Close => assert_eq!(state, event.from, "{event:?}"),
            // Unknown, or the address is another socket's now.
            Some(_) | None => assert!(matches!(event.from, TcpState::Close | TcpState::Listen), "{event:?}"),
        }
    }
    states.retain(|_, state| *state != TcpState::Close);
    assert!(states.is_empty(), "these never ended: {states:?}");
}
