//! What a snapshot says of TIME_WAIT, ports, listeners and CLOSE_WAIT: bounded rows, their labels made.

use super::makers::REMAINING_MS;
use super::{Counted, PerRole, PerState, Tally};
use crate::lifecycle::{Close, Role};

/// How a TIME_WAIT socket ended, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leave {
    /// Its timer ran out.
    Expired,
    /// connect() took its ports over.
    Reused,
    /// A new SYN on the same ports took its place.
    Replaced,
    /// A reset ended it, or a packet that was answered with one.
    Reset,
    /// Somebody had the kernel end it: `ss -K`.
    Evicted,
    /// Its network namespace went.
    Purged,
    /// Early, and nobody says how. Where ends are derived, all of the four before.
    Unknown,
}

impl Leave {
    pub const ALL: [Self; 7] =
        [Self::Expired, Self::Reused, Self::Replaced, Self::Reset, Self::Evicted, Self::Purged, Self::Unknown];
    pub const COUNT: usize = Self::ALL.len();

    pub fn index(self) -> usize {
        self as usize
    }

    /// The metric label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Reused => "reused",
            Self::Replaced => "replaced",
            Self::Reset => "reset",
            Self::Evicted => "evicted",
            Self::Purged => "purged",
            Self::Unknown => "unknown",
        }
    }
}

/// TIME_WAIT sockets of one maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeWaitRow {
    pub role: Role,
    /// Client: the remote end. Server: the local end. `other`: folded together. `unknown`: with the role, the end is not known.
    pub endpoint: String,
    pub unit: String,
    pub sockets: u64,
}

/// TIME_WAIT: how many, whose, how they come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitFigures {
    /// The largest first, then the rest by role. Sums to the sockets in state TIME_WAIT.
    pub rows: Vec<TimeWaitRow>,
    /// Makers folded into the rest, now.
    pub folded: u64,
    /// By [`REMAINING_MS`]. Sums to the sockets in state TIME_WAIT.
    pub remaining: [u64; REMAINING_MS.len()],
    /// By unit, `other` last.
    pub entered: Vec<(String, PerRole<u64>)>,
    pub left: [u64; Leave::COUNT],
    /// `tcp_max_tw_buckets`.
    pub limit: Option<u64>,
    /// `TCPTimeWaitOverflow`; where refusals are counted by a probe, that and what it counted since, in all namespaces.
    pub overflows: Option<u64>,
}

/// Connections closed, by role and by who closed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed(pub PerRole<[u64; Close::COUNT]>);

impl Tally for Closed {
    fn weight(&self) -> u64 {
        self.0.iter().flatten().sum()
    }
    fn add(&mut self, other: Self) {
        self.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(|(sum, more)| *sum += more);
    }
}

/// Connections closed of one endpoint and unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseRow {
    /// As of [`TimeWaitRow`].
    pub endpoint: String,
    pub unit: String,
    pub closed: Closed,
}

/// Who closes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseFigures {
    /// By endpoint and unit, `other` last. Their sum is all connections closed.
    pub rows: Vec<CloseRow>,
    /// Pairs of endpoint and unit folded into `other`, now.
    pub folded: u64,
}

/// Ports of the ephemeral range from one source address towards one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    pub source: String,
    pub destination: String,
    pub used: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFigures {
    /// The fullest first.
    pub rows: Vec<PortRow>,
    /// Pairs of source and destination that have no row, now.
    pub folded: u64,
    /// Size of the range less reserved ports.
    pub available: Option<u64>,
    /// Connects that found no local port, by destination, `other` last.
    pub failures: Vec<(String, u64)>,
    /// Destinations of such connects folded into `other`, now.
    pub failures_folded: u64,
}

/// Sockets that listen on one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerRow {
    pub listener: String,
    /// Connections that wait for accept().
    pub backlog: u64,
    pub limit: u64,
    /// Requests that wait for the last ACK.
    pub half_open: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenFigures {
    /// The fullest first, `other` last.
    pub rows: Vec<ListenerRow>,
    /// Endpoints folded into `other`, now.
    pub folded: u64,
    /// `ListenOverflows`.
    pub overflows: Option<u64>,
    /// `ListenDrops`.
    pub drops: Option<u64>,
}

/// One network namespace. What it does not have is `None`: the remainder has no limit, and one that is gone neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceRow {
    pub name: String,
    /// As [`super::Snapshot::sockets`].
    pub sockets: PerState<u64>,
    /// `tcp_max_tw_buckets`.
    pub time_wait_limit: Option<u64>,
    /// Size of its ephemeral range less reserved ports.
    pub ports_available: Option<u64>,
    /// Ports in use towards its fullest destination, as of the last census.
    pub ports_used: Option<u64>,
    pub counted: Counted,
}

/// The watched namespaces, where there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFigures {
    /// By name, `other` last. Sockets and counters sum to those of the host.
    pub rows: Vec<NamespaceRow>,
    /// Namespaces looked into.
    pub watched: u64,
    /// Namespaces that could not be entered.
    pub refused: u64,
    /// Namespaces without a row now.
    pub folded: u64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub time_wait: TimeWaitFigures,
    pub closes: CloseFigures,
    pub ports: PortFigures,
    pub listen: ListenFigures,
    /// Unix seconds at which the oldest CLOSE_WAIT socket of a unit got there or was first seen, as of the last census.
    /// Only units that have one.
    pub close_wait_oldest: Vec<(String, f64)>,
    /// Connections that the memory of owners had no room for.
    pub owners_refused: u64,
    /// `None` where one namespace is watched.
    pub namespaces: Option<NamespaceFigures>,
}
