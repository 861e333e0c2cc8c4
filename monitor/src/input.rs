//! Everything that reaches the core from outside, in one enum: what the daemon feeds it, a trace file keeps it.

use synfin_ebpf::abi::{Counters, Ends};

use crate::event::{CgroupId, KernelTime, NetnsId};

/// One thing that happened or was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// A record of the ring, as the kernel side wrote it.
    Record(&'a [u8]),
    /// The kernel side's totals, and the nested runs that the kernel skipped (all probes together).
    Totals { counters: &'a Counters, probe_missed: u64 },
    /// Small sockets of TIME_WAIT, as the kernel side counts them by cause. Never on hosts that refuse the probes for it.
    Ends(&'a Ends),
    /// Figures of the host's own files. Where all namespaces are watched, the sysctls of the daemon's own: populations and counters
    /// come with [`Self::Namespaces`].
    Host(HostFigures),
    /// The ports that connect() may choose from: the texts of `ip_local_port_range` and `ip_local_reserved_ports`, at the start and
    /// whenever they change. Those of the namespace that the daemon is in.
    Ports { range: &'a str, reserved: &'a str },
    /// The unit of a cgroup was learnt.
    Unit { cgroup: CgroupId, name: &'a str },
    /// A look into every network namespace of the host, where all are watched: besides walks, and right before each [`Self::Walk`].
    /// `refused`: namespaces that could not be entered.
    Namespaces { readings: &'a [NamespaceReading], refused: u64 },
    /// A walk over the socket tables begins; every record before it in the ring has been handled.
    WalkBegins { at: KernelTime, counters: &'a Counters },
    /// It is over, and every record up to `ended` has been handled.
    Walk(Walk<'a>),
    /// A walk that had begun failed.
    WalkFailed,
}

/// Declares [`HostFigures`] and its form as a row of numbers, so that no figure is forgotten in trace files.
macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Figures of /proc that the numbers depend on. `None`: the file or the line is not there.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct HostFigures { $($(#[$doc])* pub $name: Option<u64>,)* }

        impl HostFigures {
            /// With the figures of `other` where there are none.
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }

            pub const COUNT: usize = [$(stringify!($name),)*].len();

            /// In the order of the fields.
            pub fn to_row(self) -> [Option<u64>; Self::COUNT] {
                [$(self.$name,)*]
            }

            pub fn from_row(row: [Option<u64>; Self::COUNT]) -> Self {
                let [$($name,)*] = row;
                Self { $($name,)* }
            }
        }
    };
}

impl HostFigures {
    /// Those that the kernel counts from the birth of a namespace on.
    pub fn counters(&mut self) -> [&mut Option<u64>; 7] {
        [
            &mut self.syncookies_received,
            &mut self.time_wait_overflows,
            &mut self.tw_recycled,
            &mut self.listen_overflows,
            &mut self.listen_drops,
            &mut self.abort_on_close,
            &mut self.abort_on_data,
        ]
    }
}

figures! {
    /// `tw` of /proc/net/sockstat: small sockets, TIME_WAIT and FIN_WAIT2 together.
    time_wait,
    /// `orphan` of /proc/net/sockstat, of all namespaces together.
    orphans,
    /// `SyncookiesRecv` of /proc/net/netstat, and so on.
    syncookies_received,
    /// `TCPTimeWaitOverflow`: small sockets refused because of `tcp_max_tw_buckets`.
    time_wait_overflows,
    /// `TWRecycled`: TIME_WAIT sockets taken over by connect().
    tw_recycled,
    /// `ListenOverflows`: connections refused because the accept queue was full.
    listen_overflows,
    /// `ListenDrops`: the same and all other reasons.
    listen_drops,
    /// `TCPAbortOnClose`: closed with unread data.
    abort_on_close,
    /// `TCPAbortOnData`: SO_LINGER with zero, or data after the close.
    abort_on_data,
    /// Sysctl: sockets.
    tcp_max_tw_buckets,
    /// Buckets of the hash table of connections; half of them is the default of `tcp_max_tw_buckets`.
    tcp_ehash_entries,
    /// Sysctl: 0 off, 1 on, 2 loopback only.
    tcp_tw_reuse,
    /// Sysctl: 0 off, 1 on with random offsets, 2 on.
    tcp_timestamps,
    /// Sysctl: seconds.
    tcp_fin_timeout,
    /// Sysctl: sockets.
    tcp_max_orphans,
    /// Sysctl: sockets.
    somaxconn,
}

/// What was read in one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NamespaceReading {
    /// Inode number: that of a namespace that is gone may be given to a new one.
    pub id: NetnsId,
    /// The kernel's own name for it, given once (SO_NETNS_COOKIE); `None` before Linux 5.14.
    pub cookie: Option<u64>,
    /// Value of the label `namespace`: no other namespace of the same look has it.
    pub name: String,
    /// The one that the daemon lives in.
    pub own: bool,
    /// What was not read stands as it stood.
    pub host: HostFigures,
    /// The texts of `ip_local_port_range` and `ip_local_reserved_ports`; `None` when they were not read, or cannot be.
    pub ports: Option<(String, String)>,
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
