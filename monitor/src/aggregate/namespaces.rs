//! What the kernel counts in a network namespace.

use super::Tally;

/// Name of the namespace of process 1: the host's own.
pub const HOST_NAMESPACE: &str = "host";

/// What the kernel counted in one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// `TCPTimeWaitOverflow`.
    pub time_wait_overflows: u64,
    /// `ListenOverflows`.
    pub listen_overflows: u64,
    /// `ListenDrops`.
    pub listen_drops: u64,
}

impl Tally for Counted {
    fn weight(&self) -> u64 {
        self.time_wait_overflows + self.listen_overflows + self.listen_drops
    }
    fn add(&mut self, more: Self) {
        self.time_wait_overflows += more.time_wait_overflows;
        self.listen_overflows += more.listen_overflows;
        self.listen_drops += more.listen_drops;
    }
}
