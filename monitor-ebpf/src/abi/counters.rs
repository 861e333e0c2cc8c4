//! Totals counted in the kernel, one copy per CPU, before the ring is tried: exact whatever happens to the ring.

/// States of a transition index the table as `oldstate * ROW + newstate`.
pub const ROW: usize = 16;

/// Programs that count: no two that may interrupt each other write to the same counters, so none needs an atomic addition
/// (where the kernel never runs a program inside itself). The totals are the sums over all of them.
pub mod writer {
    /// The program of transitions that system calls make; as [`crate::decide::Share::Process`].
    pub const PROCESS: usize = 0;
    /// The program of transitions that packets and timers make; as [`crate::decide::Share::Softirq`].
    pub const SOFTIRQ: usize = 1;
    /// The program of retransmitted SYN-ACKs.
    pub const SYNACK: usize = 2;
    pub const COUNT: usize = 3;
}

/// What one program counted on one CPU, or sums of it. Starts a cache line, whose counters change at every event.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// State changes and retransmissions handed over. The birth of a listener's child counts though the record of its next
    /// change tells of it, see [`crate::decide::is_told_by_next`].
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
    /// Runs of the first program of the state tracepoint: with the runs that the kernel skipped, every firing of it.
    pub runs: u64,
    /// TCP transitions that passed the namespace filter, by `oldstate * ROW + newstate`.
    pub transitions: [u64; ROW * ROW],
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
        runs: 0,
    };
}

const _: () = assert!(size_of::<Counters>() == (ROW * ROW + 8) * 8);
