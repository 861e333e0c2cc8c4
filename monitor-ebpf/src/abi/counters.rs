//! Totals counted in the kernel, one copy per CPU, before the ring is tried: exact whatever happens to the ring.

/// States of a transition index the table as `oldstate * ROW + newstate`.
pub const ROW: usize = 16;

/// Entries of the per-CPU map [`super::names::COUNTERS`]: no two programs that may interrupt each other write to the same,
/// so none needs an atomic addition (where no program nests in itself). The totals are the sums over all of them.
pub mod writer {
    /// Transitions that system calls make.
    pub const PROCESS: u32 = 0;
    /// Transitions that packets and timers make.
    pub const SOFTIRQ: u32 = 1;
    /// Retransmitted SYN-ACKs.
    pub const SYNACK: u32 = 2;
    pub const COUNT: u32 = 3;
}

/// The value of each entry of the per-CPU map [`super::names::COUNTERS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// TCP transitions that passed the namespace filter, by `oldstate * ROW + newstate`.
    pub transitions: [u64; ROW * ROW],
    /// Records submitted to the ring.
    pub records: u64,
    /// Records that found the ring full.
    pub ring_full: u64,
    /// State changes of other protocols (MPTCP, SCTP, DCCP) on the same tracepoint.
    pub other_protocol: u64,
    /// TCP state changes outside the watched namespace.
    pub other_netns: u64,
    /// State numbers outside the table; none is known to exist.
    pub odd_state: u64,
    /// Wake-ups of the reader.
    pub wakeups: u64,
}

impl Counters {
    pub const ZERO: Self = Self {
        transitions: [0; ROW * ROW],
        records: 0,
        ring_full: 0,
        other_protocol: 0,
        other_netns: 0,
        odd_state: 0,
        wakeups: 0,
    };
}

const _: () = assert!(size_of::<Counters>() == (ROW * ROW + 6) * 8);
