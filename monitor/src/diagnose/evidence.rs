//! All that the rules may look at. Filled in by the edges; a measurement that was not made is `None`, never 0.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::sysctl_file::SysctlFiles;
use crate::event::Endpoint;
use crate::lifecycle::{Close, ConnectFailure, Role};

/// One look at one network namespace, with what changed during a window before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Seconds over which every delta below was taken: the daemon's history, or the time of `--for`.
    pub window_seconds: Option<f64>,
    /// Detail lost over the window. Source: the daemon's own counters.
    pub lost: Option<LostDetail>,
    /// Sysctls as they are now.
    pub sysctls: Sysctls,
    /// P, ports: `ip_local_port_range` less `ip_local_reserved_ports`.
    pub ports_available: Option<u64>,
    /// Ephemeral ports in use towards the busiest destinations. Source: census of the socket tables.
    pub tuples: Option<Vec<TupleUse>>,
    /// Ephemeral ports in use by the busiest source addresses, over all destinations. Source: census.
    pub sources: Option<Vec<SourceUse>>,
    /// TIME_WAIT sockets now. Source: census and the memory of who owned them.
    pub time_wait: Option<TimeWait>,
    /// Sockets of accepted connections by local endpoint and peer address, the busiest. Source: census.
    pub inbound: Option<Vec<InboundPeer>>,
    /// Closed sockets that wait in FIN_WAIT2 as small sockets. Source: census.
    pub small_fin_wait2: Option<u64>,
    /// All FIN_WAIT2 sockets, small ones included. Source: census.
    pub fin_wait2: Option<Level>,
    /// Small FIN_WAIT2 sockets by maker, the busiest. Source: census.
    pub fin_wait2_makers: Vec<Maker>,
    /// Sockets without an owner. Source: `orphan` of sockstat, which counts all namespaces together.
    pub orphans: Option<Level>,
    /// Source: census, and the time at which each was seen to get there.
    pub close_wait: Option<Vec<CloseWait>>,
    /// CLOSE_WAIT sockets by role and end, the busiest. Source: census.
    pub close_wait_makers: Vec<Maker>,
    /// Source: census.
    pub listeners: Option<Vec<Listener>>,
    /// Kernel counters (TcpExt), as deltas over the window.
    pub counters: Counters,
    /// connect() calls that failed in the window. Source: tracked transitions.
    pub failures: Option<Vec<FailedConnects>>,
    /// SYNs sent again by the connects that timed out in the window. Source: tracked transitions.
    pub syns_again: Option<u64>,
    /// Handshakes that ended in the window, by time. Source: the handshake histograms.
    pub handshakes: Option<Vec<HandshakeTail>>,
    /// Those of a second or more, the busiest. Source: tracked transitions.
    pub slow_handshakes: Vec<Contact>,
    /// Connections that ended in the window, by [`Close::index`]. Source: tracked transitions.
    pub closes: Option<[u64; Close::COUNT]>,
    /// Those that ended in a reset, the busiest. Source: tracked transitions.
    pub resets: Vec<Contact>,
    /// Entries into TIME_WAIT per second over the window. Source: tracked transitions.
    pub time_wait_entered_per_second: Option<f64>,
    pub sysctl_files: Option<SysctlFiles>,
    pub namespaces: Option<Namespaces>,
    /// The watched namespaces, those with trouble first; `None` where one is watched. Source: a look into each.
    pub by_namespace: Option<Vec<NamespaceUse>>,
}

/// While any was lost, counts made from events are lower bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LostDetail {
    /// Records of the kernel side that were not read: no room, a run that the kernel skipped, or undecodable.
    pub records: u64,
    /// Connections not followed, or not to their end, because the table was full.
    pub table_full: u64,
}

/// Values under /proc/sys/net; `None` when this kernel has no such file or it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sysctls {
    /// Sockets.
    pub tcp_max_tw_buckets: Option<u64>,
    /// Sockets: half of `tcp_ehash_entries`, which is how the kernel makes the default of `tcp_max_tw_buckets`.
    pub tcp_max_tw_buckets_default: Option<u64>,
    /// 0 off, 1 on, 2 loopback only.
    pub tcp_tw_reuse: Option<u64>,
    /// 0 off, 1 on with random offsets, 2 on.
    pub tcp_timestamps: Option<u64>,
    /// Seconds.
    pub tcp_fin_timeout: Option<u64>,
    /// Sockets.
    pub tcp_max_orphans: Option<u64>,
    /// Sockets.
    pub somaxconn: Option<u64>,
}

/// Changes over the window, by the kernel's names in /proc/net/netstat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// `TCPTimeWaitOverflow`.
    pub time_wait_overflow: Option<u64>,
    /// `TWRecycled`: TIME_WAIT sockets taken over by connect().
    pub tw_recycled: Option<u64>,
    pub listen_overflows: Option<u64>,
    pub listen_drops: Option<u64>,
    /// `TCPAbortOnClose`: closed with unread data.
    pub abort_on_close: Option<u64>,
    /// `TCPAbortOnData`: SO_LINGER with zero, or data after the close.
    pub abort_on_data: Option<u64>,
}

/// Change of a number over time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    pub delta: i64,
    /// More than 0.
    pub seconds: f64,
}

impl Trend {
    /// First to last of `samples` (seconds on any clock, value); `None` below two or without time between them.
    pub fn of(samples: &[(f64, u64)]) -> Option<Self> {
        let (first, last) = (samples.first()?, samples.last()?);
        let seconds = last.0 - first.0;
        let delta = i64::try_from(i128::from(last.1) - i128::from(first.1)).ok()?;
        (seconds > 0.0).then_some(Self { delta, seconds })
    }

    pub fn per_second(self) -> f64 {
        self.delta as f64 / self.seconds
    }
}

/// A number now, and how it moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub now: u64,
    pub trend: Option<Trend>,
}

/// Ports of the ephemeral range in use from one source address towards one destination, in all states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TupleUse {
    pub source: IpAddr,
    pub destination: Endpoint,
    /// Ports.
    pub used: u64,
    /// Of them, held by TIME_WAIT.
    pub time_wait: u64,
    pub role: Role,
    /// The unit that holds most of them; `unknown` when it could not be learnt.
    pub unit: String,
    /// Its network namespace, when that is not the daemon's own.
    #[serde(default)]
    pub namespace: Option<NamespaceName>,
    /// P of its namespace, ports; `None`: [`Evidence::ports_available`].
    #[serde(default)]
    pub ports_available: Option<u64>,
    /// Connections opened in the window.
    pub opened: Option<u64>,
    /// Connections opened per second over the last seconds.
    pub opens_per_second: Option<f64>,
    /// Of `used`, over the last seconds.
    pub trend: Option<Trend>,
}

/// Ports of the ephemeral range in use by one source address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceUse {
    pub source: IpAddr,
    /// Client sockets with a local port in the range.
    pub sockets: u64,
    /// Distinct local ports among them.
    pub distinct_ports: u64,
    /// Ports used towards its busiest destination.
    pub busiest_destination: u64,
    /// The unit that holds most of them.
    pub unit: String,
    /// Its network namespace, when that is not the daemon's own.
    #[serde(default)]
    pub namespace: Option<NamespaceName>,
    /// P of its namespace, ports; `None`: [`Evidence::ports_available`].
    #[serde(default)]
    pub ports_available: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWait {
    /// Exact; small FIN_WAIT2 sockets not included.
    pub total: u64,
    /// By maker, the busiest. Sums to `total` together with the rows without an endpoint.
    pub makers: Vec<Maker>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub role: Role,
    /// Client: the remote end. Server: the local end. `None`: all others together.
    pub endpoint: Option<Endpoint>,
    pub unit: String,
    pub sockets: u64,
}

impl TimeWait {
    /// TIME_WAIT sockets of connections with this role.
    pub fn of_role(&self, role: Role) -> u64 {
        self.makers.iter().filter(|maker| maker.role == role).map(|maker| maker.sockets).sum()
    }
}

/// Connections of one unit with one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    pub role: Role,
    /// Client: the remote end. Server: the local end.
    pub endpoint: Endpoint,
    pub unit: String,
    pub count: u64,
}

/// Accepted connections from one address to one local endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundPeer {
    pub local: Endpoint,
    pub peer: IpAddr,
    pub unit: String,
    /// In all states.
    pub sockets: u64,
    pub time_wait: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloseWait {
    pub unit: String,
    pub sockets: u64,
    /// Seconds; a lower bound when the socket was there before the daemon.
    pub oldest_seconds: Option<f64>,
    pub trend: Option<Trend>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub local: Endpoint,
    pub unit: String,
    /// Connections that wait for accept().
    pub backlog: u64,
    /// The smaller of listen()'s argument and `somaxconn`.
    pub limit: u64,
    /// Requests that wait for the last ACK.
    pub half_open: u64,
    /// Its network namespace, when that is not the daemon's own.
    #[serde(default)]
    pub namespace: Option<NamespaceName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedConnects {
    pub destination: Endpoint,
    pub reason: ConnectFailure,
    pub unit: String,
    /// The network namespace, when that is not the daemon's own.
    #[serde(default)]
    pub namespace: Option<NamespaceName>,
    pub count: u64,
    /// Connects to the same destination that succeeded in the window.
    pub opened: Option<u64>,
}

/// Handshakes of one role that ended in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeTail {
    pub role: Role,
    pub measured: u64,
    /// Longer than 1 s, 3 s, 7 s and up to the next: one, two, three or more retransmissions
    /// (first timeout 1 s, doubled each time: RFC 6298).
    pub steps: [u64; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network namespaces on this host.
    pub count: u64,
    /// All of them are watched, not only this one.
    pub all_watched: bool,
    /// TCP state changes outside the watched namespaces during the window.
    pub elsewhere_transitions: Option<u64>,
}

/// A network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceName {
    /// As in the label of the metrics: of no other one.
    pub name: String,
    /// Its number in nsfs.
    pub inode: u32,
}

/// One network namespace of several that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceUse {
    pub namespace: NamespaceName,
    /// The daemon lives in it: [`Sysctls`] are its own.
    pub own: bool,
    /// TIME_WAIT and small FIN_WAIT2 sockets now.
    pub small: u64,
    /// Sockets.
    pub tcp_max_tw_buckets: Option<u64>,
    /// P, ports.
    pub ports_available: Option<u64>,
    /// `TCPTimeWaitOverflow`, over the window.
    pub time_wait_overflow: Option<u64>,
    /// Over the window.
    pub listen_overflows: Option<u64>,
    /// Over the window.
    pub listen_drops: Option<u64>,
}
