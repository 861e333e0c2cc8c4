//! How many sockets there are now: what the tracker knows beside the totals, and what is known of small sockets since the last census.

use super::Core;
use crate::aggregate::{KernelCounters, PerState, SmallSockets};
use crate::event::KernelTime;

/// What there was when a walk began.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    pub totals: KernelCounters,
    /// Sockets that had found the table full.
    pub table_full: u64,
    /// `TWRecycled`.
    pub recycled: Option<u64>,
}

impl Core {
    pub(super) fn began(&self, totals: KernelCounters) -> Began {
        Began { totals, table_full: self.aggregates.table_full, recycled: self.host.tw_recycled }
    }

    /// Records whose change of state is in the totals and was not told.
    pub(super) fn lost_records(&self) -> u64 {
        self.totals.ring_full + self.undecodable
    }

    /// What keeps the tracker from knowing all: lost records, and sockets that found the table full.
    pub(super) fn unfollowed(&self) -> (u64, u64) {
        (self.lost_records(), self.aggregates.table_full)
    }

    /// Followed sockets in each state, less the net flow of all that the tracker was told.
    pub(super) fn tracked(&self) -> PerState<i64> {
        let (followed, told) = (self.aggregates.cgroups.sum(), self.handled.net());
        std::array::from_fn(|at| followed[at] as i64 - told[at])
    }

    /// After new totals. Once a record is lost the totals know better, and once a socket has found the table full, until the next census.
    pub(super) fn follow(&mut self) {
        if self.follows_since == Some(self.unfollowed()) {
            self.populations.follow(&self.tracked());
        }
    }

    /// Brings up to date what the last census said of small FIN_WAIT2 sockets.
    pub(super) fn age(&mut self, at: KernelTime) {
        let turning = &self.ledger.turning;
        match &mut self.namespaces {
            _ if self.walks_done == 0 => {}
            None => self.small.fin_wait2 = turning.now(None, at),
            Some(namespaces) => namespaces.age(|netns| turning.now(Some(netns), at)),
        }
    }

    /// Whether a census would tell much of small sockets that is only guessed at `at`.
    pub fn wants_census(&self, at: KernelTime) -> bool {
        let small = self.small_now();
        self.ledger.turning.is_unsure(small.time_wait + small.fin_wait2, at)
    }

    /// Small sockets by the last census and the last total of the kernel.
    pub(super) fn small_now(&self) -> SmallSockets {
        match &self.namespaces {
            None => self.host.time_wait.map_or(self.small, |tw| self.small.with_sockstat(tw)),
            Some(namespaces) => namespaces.small(),
        }
    }
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
