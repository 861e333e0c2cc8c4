//! Everything that reaches the core from outside, in one enum: what the daemon feeds it, a trace file keeps it.

use synfin_ebpf::abi::Counters;

use crate::event::{CgroupId, KernelTime};

/// One thing that happened or was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// A record of the ring, as the kernel side wrote it.
    Record(&'a [u8]),
    /// The kernel side's totals, and the nested runs that the kernel skipped (all probes together).
    Totals { counters: &'a Counters, probe_missed: u64 },
    /// Figures of the host's own files.
    Host(HostFigures),
    /// The unit of a cgroup was learnt.
    Unit { cgroup: CgroupId, name: &'a str },
    /// A walk over the socket tables begins; every record before it in the ring has been handled.
    WalkBegins { at: KernelTime, counters: &'a Counters },
    /// It is over, and every record up to `ended` has been handled.
    Walk(Walk<'a>),
    /// A walk that had begun failed.
    WalkFailed,
}

/// Figures of /proc that the numbers depend on. `None`: the file or the line is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostFigures {
    /// `tw` of /proc/net/sockstat: small sockets, TIME_WAIT and FIN_WAIT2 together.
    pub time_wait: Option<u64>,
    /// `SyncookiesRecv` of /proc/net/netstat.
    pub syncookies_received: Option<u64>,
}

/// A finished walk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walk<'a> {
    pub began: KernelTime,
    pub ended: KernelTime,
    /// Totals right after the end.
    pub counters: &'a Counters,
    /// Figures right after the end.
    pub host: HostFigures,
    /// The sockets, as records of [`synfin_ebpf::abi::CensusSocket`].
    pub sockets: &'a [u8],
    /// Wall time at the end, seconds since 1970.
    pub unix_seconds: f64,
}
