//! Totals counted in the kernel, one copy per CPU, before the ring is tried: exact whatever happens to the ring.

/// States of a transition index the table as `oldstate * ROW + newstate`.
pub const ROW: usize = 16;

/// The value of the one entry of the per-CPU map [`super::names::COUNTERS`].
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
    /// Runs of the first program of the state tracepoint: with the runs that the kernel skipped, every firing of it.
    pub runs: u64,
    /// Whether each of the two programs is running on this CPU, by [`crate::decide::Share`].
    pub running: [u64; 2],
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
        running: [0; 2],
    };
}

const _: () = assert!(size_of::<Counters>() == (ROW * ROW + 9) * 8);
