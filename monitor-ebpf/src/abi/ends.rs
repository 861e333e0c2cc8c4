//! Small sockets of TIME_WAIT made and ended, counted in the kernel by cause: exact, and without a record.

/// Why a small socket ended.
pub mod cause {
    /// Its timer ran out.
    pub const EXPIRED: usize = 0;
    /// connect() took its ports over.
    pub const REUSED: usize = 1;
    /// A new SYN on the same ports reached a listener.
    pub const REPLACED: usize = 2;
    /// A reset came, or one was sent since the packet did not fit.
    pub const RESET: usize = 3;
    /// Somebody asked the kernel to end it (`ss -K`).
    pub const EVICTED: usize = 4;
    /// Its network namespace went.
    pub const PURGED: usize = 5;
    /// In a way that none of the above is.
    pub const UNKNOWN: usize = 6;
    pub const COUNT: usize = 7;
}

/// What a small socket is at the moment of counting.
pub mod substate {
    /// The peer has not closed yet.
    pub const FIN_WAIT2: usize = 0;
    pub const TIME_WAIT: usize = 1;
    pub const COUNT: usize = 2;
}

/// What one CPU counted, or sums of it. TCP only, and only the watched namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Small sockets made, by the [`substate`] in which they began.
    pub made: [u64; substate::COUNT],
    /// Those of FIN_WAIT2 that turned to TIME_WAIT.
    pub turned: u64,
    /// Small sockets that the kernel refused to make, by `tcp_max_tw_buckets` or for want of memory.
    pub refused: u64,
    /// Ended, by [`substate`] and [`cause`].
    pub left: [[u64; cause::COUNT]; substate::COUNT],
}

/// What the programs of one CPU tell each other. All who write it run with softirqs off, so no other comes between.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtHand {
    /// Address of the timer whose handler has begun.
    pub timer: u64,
    /// Address of the small socket whose packet was looked at last.
    pub packet_tw: u64,
    /// Its state (as in [`super::state`]) before that packet.
    pub packet_substate: u64,
    /// Whether the packet asks for a new connection.
    pub packet_opens: u64,
}

/// The value of the one entry of the per-CPU map [`super::names::ENDS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuEnds {
    pub ends: Ends,
    pub at_hand: AtHand,
}

const _: () = assert!(size_of::<Ends>() == (substate::COUNT + 2 + substate::COUNT * cause::COUNT) * 8);
const _: () = assert!(size_of::<CpuEnds>() == size_of::<Ends>() + 4 * 8);
