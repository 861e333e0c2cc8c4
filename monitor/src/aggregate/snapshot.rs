//! Everything the daemon knows at one moment, as plain values: the only input of `present` and `diagnose`.

use super::{Figures, Histogram};
use crate::event::TcpState;
use crate::lifecycle::{Close, ConnectFailure, Role, Unmeasured};

/// One number a state, by [`TcpState::index`].
pub type PerState<T> = [T; TcpState::COUNT];
/// One number a role, by [`Role::index`].
pub type PerRole<T> = [T; Role::COUNT];

/// Ways in which detail can be lost; the totals of transitions are never touched by the first, third and fourth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub ring_full: u64,
    /// The kernel skipped a nested run of the probe: in no total either.
    pub probe_missed: u64,
    pub undecodable: u64,
    pub table_full: u64,
}

impl Lost {
    /// State changes of which the tracker was not told.
    pub fn untold(&self) -> u64 {
        self.ring_full + self.probe_missed + self.undecodable
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProbeStatus {
    /// Name of the tracepoint, iterator or function, as the kernel names it: `inet_sock_set_state`, `tcp_retransmit_synack`,
    /// `iter_tcp`, `inet_twsk_kill`.
    pub probe: &'static str,
    /// `btf_tracepoint`, `raw_tracepoint`, `tracepoint`, `iterator`, `fentry`.
    pub kind: &'static str,
    pub attached: bool,
    /// Runs and nanoseconds by the kernel's own statistics; `None` unless `kernel.bpf_stats_enabled` is 1.
    pub runs: Option<(u64, u64)>,
}

/// The last look at the kernel's socket tables.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CensusStatus {
    /// Unix seconds; `None` before the first.
    pub at_unix_seconds: Option<f64>,
    pub duration_seconds: f64,
    pub success: bool,
    /// What was told right before, as of the end of the walk, minus what is told since; of small sockets, told minus counted, beyond what
    /// can have changed during the walk.
    pub drift: PerState<i64>,
    pub resyncs: u64,
    /// Seconds until the next one, as adapted to the cost of the last.
    pub interval_seconds: f64,
    /// Seconds that taking in its result took, after the walk; other work waits for that. 0 where nobody measured it (a replay).
    pub apply_seconds: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// By `from.index()`, then `to.index()`; from the kernel's own counters.
    pub transitions: PerState<PerState<u64>>,
    /// Of other protocols on the same tracepoint.
    pub other_protocol_transitions: u64,
    /// Outside the watched namespace.
    pub other_netns_transitions: u64,
    /// Pairs of states that no known kernel makes.
    pub odd_transitions: u64,

    pub opened: PerRole<u64>,
    pub closed: PerRole<[u64; Close::COUNT]>,
    pub connect_failures: [u64; ConnectFailure::COUNT],
    /// Only client and server are ever filled.
    pub handshake: PerRole<Histogram>,
    pub handshake_unmeasured: PerRole<[u64; Unmeasured::COUNT]>,
    pub handshake_retransmits: PerRole<u64>,
    pub state_duration: PerState<Histogram>,
    pub connection_duration: PerRole<Histogram>,

    /// Sockets in each state now. Half-open requests are in `SynRecv`, as `ss` counts them, and `NewSynRecv` stays 0.
    pub sockets: PerState<u64>,
    /// The same by unit, ordered by name; `other` is last and makes the columns sum to `sockets` (owned states only).
    pub unit_sockets: Vec<(String, PerState<u64>)>,

    /// Records handed over by the kernel.
    pub events: u64,
    pub lost: Lost,
    /// Records that showed an earlier loss: a state that was not the stored one, a birth on a living address.
    pub healed: u64,
    pub ring_pending_bytes: u64,
    pub ring_size_bytes: u64,
    pub ring_wakeups: u64,
    pub tracked_connections: u64,
    pub tracked_connections_limit: u64,
    pub census: CensusStatus,
    pub probes: Vec<ProbeStatus>,
    /// Unix seconds.
    pub started_unix_seconds: f64,
    /// Values of label `unit` folded into `other` so far.
    pub units_folded: u64,
    /// TIME_WAIT, ports, listeners, CLOSE_WAIT.
    pub figures: Figures,
}

impl Snapshot {
    /// Sockets that entered SYN_SENT, which only CLOSE leads to; as exact as all transitions.
    pub fn connect_attempts(&self) -> u64 {
        self.transitions[TcpState::Close.index()][TcpState::SynSent.index()]
    }
}
