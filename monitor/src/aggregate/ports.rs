//! Ephemeral ports: the range, and how much of it is in use towards each destination and by each source address.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::majority::Majority;
use super::top::{Tally, Top, TopK};
use crate::event::{Endpoint, NetnsId};
use crate::lifecycle::Role;

/// Source addresses whose distinct ports are counted; each takes 8 KiB.
const MOST_SOURCES: usize = 64;
/// Seconds within which a TIME_WAIT socket is counted as one that will soon be gone.
pub const DUE_SECONDS: u32 = 10;
const PORT_WORDS: usize = 65_536 / 64;

/// The ports that connect() may choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EphemeralRange {
    low: u16,
    high: u16,
    /// Inside low..=high only, ascending, disjoint.
    reserved: Vec<(u16, u16)>,
}

/// A sysctl that is not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("ip_local_port_range reads {0:?}, not two ports, the lower first")]
    Range(String),
    #[error("ip_local_reserved_ports has {0:?}, not a port or a range of ports")]
    Reserved(String),
}

impl EphemeralRange {
    /// From the text of `ip_local_port_range` (`32768 60999`) and `ip_local_reserved_ports` (`8080,9000-9100`, or empty).
    ///
    /// # Errors
    /// [`RangeError`] when one of them is not what the kernel writes.
    pub fn parse(range: &str, reserved: &str) -> Result<Self, RangeError> {
        let bad = || RangeError::Range(range.trim().into());
        let mut words = range.split_whitespace().map(str::parse::<u16>);
        let (Some(Ok(low)), Some(Ok(high)), None) = (words.next(), words.next(), words.next()) else {
            return Err(bad());
        };
        if low > high {
            return Err(bad());
        }
        let mut blocks = vec![];
        for part in reserved.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                (Ok(first), Ok(last)) if first <= last => blocks.push((first.max(low), last.min(high))),
                (_, _) => return Err(RangeError::Reserved(part.into())),
            }
        }
        blocks.retain(|(first, last)| first <= last);
        blocks.sort_unstable();
        let mut reserved: Vec<(u16, u16)> = vec![];
        for (first, last) in blocks {
            match reserved.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                Some(_) | None => reserved.push((first, last)),
            }
        }
        Ok(Self { low, high, reserved })
    }

    /// P: ports of the range that are not reserved.
    pub fn available(&self) -> u64 {
        let size = |&(first, last): &(u16, u16)| u64::from(last - first) + 1;
        size(&(self.low, self.high)) - self.reserved.iter().map(size).sum::<u64>()
    }

    /// Whether connect() may choose `port`.
    pub fn contains(&self, port: u16) -> bool {
        let within = |&(first, last): &(u16, u16)| (first..=last).contains(&port);
        within(&(self.low, self.high)) && !self.reserved.iter().any(within)
    }
}

/// The range of each namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EphemeralRanges {
    /// Of the daemon's own namespace, and of those that were not read.
    pub own: Option<EphemeralRange>,
    pub others: BTreeMap<NetnsId, EphemeralRange>,
}

impl EphemeralRanges {
    pub fn of(&self, netns: NetnsId) -> Option<&EphemeralRange> {
        self.others.get(&netns).or(self.own.as_ref())
    }

    /// Whether any is known.
    pub fn is_known(&self) -> bool {
        self.own.is_some() || !self.others.is_empty()
    }
}

/// One socket of a census, in any state but LISTEN and CLOSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSocket<U> {
    pub netns: NetnsId,
    pub source: Endpoint,
    pub destination: Endpoint,
    pub time_wait: bool,
    /// It is a TIME_WAIT socket with at most [`DUE_SECONDS`] left.
    pub due: bool,
    pub role: Role,
    /// `None` when it could not be learnt.
    pub unit: Option<U>,
}

/// What is known of the ports of one [`PortKey`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortTally<U> {
    /// Ports: four-tuples are unique, so each socket has its own.
    pub used: u64,
    pub time_wait: u64,
    /// Of them, those with at most [`DUE_SECONDS`] left.
    pub due: u64,
    /// The unit that holds most of them.
    pub unit: Majority<U>,
}

impl<U: PartialEq + Default> Tally for PortTally<U> {
    fn weight(&self) -> u64 {
        self.used
    }
    fn add(&mut self, other: Self) {
        self.used += other.used;
        self.time_wait += other.time_wait;
        self.due += other.due;
        self.unit.add(other.unit);
    }
}

/// What is known of the ports of one source address in one namespace, over all destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTally<U> {
    pub netns: NetnsId,
    pub source: [u8; 16],
    pub sockets: u64,
    pub distinct_ports: u64,
    pub unit: Majority<U>,
}

/// The key of [`PortTally`]: each has the whole range to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Namespaces may have the same addresses and share no port.
    pub netns: NetnsId,
    pub source: [u8; 16],
    pub destination: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUsage<U> {
    pub tuples: Top<PortKey, PortTally<U>>,
    /// Most distinct ports first.
    pub sources: Vec<SourceTally<U>>,
    /// Sockets of source addresses beyond the bound: in no row of `sources`.
    pub sources_folded: u64,
    /// Ports towards the fullest destination of each namespace.
    pub fullest: BTreeMap<NetnsId, u64>,
}

struct Source<U> {
    sockets: u64,
    ports: Box<[u64; PORT_WORDS]>,
    unit: Majority<U>,
}

/// Counts the sockets of one census.
pub struct Ports<'a, U> {
    ranges: &'a EphemeralRanges,
    tuples: TopK<PortKey, PortTally<U>>,
    sources: HashMap<(NetnsId, [u8; 16]), Source<U>, RandomState>,
    sources_folded: u64,
}

impl<'a, U: Clone + PartialEq + Default> Ports<'a, U> {
    /// `capacity`: keys held at once.
    pub fn new(ranges: &'a EphemeralRanges, capacity: usize) -> Self {
        Self { ranges, tuples: TopK::new(capacity), sources: HashMap::default(), sources_folded: 0 }
    }

    /// Counts a socket that holds a port of the range. Accepted connections do not: theirs is the listener's.
    pub fn add(&mut self, socket: PortSocket<U>) {
        let range = match socket.role {
            Role::Client | Role::Unknown => self.ranges.of(socket.netns),
            Role::Server => None,
        };
        if !range.is_some_and(|range| range.contains(socket.source.port)) {
            return;
        }
        let unit = Majority::of(socket.unit);
        self.add_source(socket.netns, socket.source, unit.clone());
        let tally = PortTally { used: 1, time_wait: u64::from(socket.time_wait), due: u64::from(socket.due), unit };
        let key = PortKey { netns: socket.netns, source: socket.source.addr, destination: socket.destination };
        self.tuples.add(key, tally);
    }

    fn add_source(&mut self, netns: NetnsId, source: Endpoint, unit: Majority<U>) {
        let key = (netns, source.addr);
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(&key) {
            self.sources_folded += 1;
            return;
        }
        let held = self.sources.entry(key).or_insert_with(|| Source {
            sockets: 0,
            ports: Box::new([0; PORT_WORDS]),
            unit: Majority::default(),
        });
        held.sockets += 1;
        held.ports[usize::from(source.port) / 64] |= 1 << (source.port % 64);
        held.unit.add(unit);
    }

    /// The `k` busiest destinations, and all source addresses that were counted.
    pub fn finish(self, k: usize) -> PortUsage<U> {
        let mut sources: Vec<SourceTally<U>> = (self.sources.into_iter())
            .map(|((netns, source), held)| SourceTally {
                netns,
                source,
                sockets: held.sockets,
                distinct_ports: held.ports.iter().map(|word| u64::from(word.count_ones())).sum(),
                unit: held.unit,
            })
            .collect();
        sources.sort_unstable_by_key(|source| (std::cmp::Reverse(source.distinct_ports), source.netns, source.source));
        let mut fullest = BTreeMap::new();
        for (key, tally) in self.tuples.iter() {
            let used = fullest.entry(key.netns).or_insert(0);
            *used = tally.used.max(*used);
        }
        PortUsage { tuples: self.tuples.finish(k), sources, sources_folded: self.sources_folded, fullest }
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
