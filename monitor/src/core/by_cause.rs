//! Ends of TIME_WAIT as the kernel side counts them by cause, on hosts that allow it.

use synfin_ebpf::abi::Ends;
use synfin_ebpf::abi::ends::{cause, substate};

use crate::aggregate::Leave;

/// The last reading, if there ever was one.
#[derive(Debug, Default)]
pub struct ByCause {
    ends: Option<Ends>,
    /// `TCPTimeWaitOverflow` at the last look.
    overflows: Option<u64>,
    /// The same when the probes had counted none, or a little less: what came between two looks counts as before them.
    overflows_before: Option<u64>,
}

impl ByCause {
    pub fn take(&mut self, ends: &Ends) {
        self.overflows_before =
            self.overflows_before.or_else(|| self.overflows.map(|counted| counted.saturating_sub(ends.refused)));
        self.ends = Some(*ends);
    }

    /// `TCPTimeWaitOverflow` was read.
    pub fn take_overflows(&mut self, counted: Option<u64>) {
        self.overflows = counted.or(self.overflows);
    }

    /// TIME_WAIT sockets that left, by [`Leave::index`]; small sockets in FIN_WAIT2 never entered. `None`: not counted here.
    pub fn left(&self) -> Option<[u64; Leave::COUNT]> {
        let by_cause = &self.ends?.left[substate::TIME_WAIT];
        Some(Leave::ALL.map(|leave| by_cause[cause_of(leave)]))
    }

    /// Small sockets refused. The kernel's own counter is of one namespace, the probes' of all that are watched: the larger
    /// one has it all.
    pub fn overflows(&self) -> Option<u64> {
        let watched = self.overflows_before.zip(self.ends).map(|(before, ends)| before + ends.refused);
        self.overflows.max(watched)
    }
}

fn cause_of(leave: Leave) -> usize {
    match leave {
        Leave::Expired => cause::EXPIRED,
        Leave::Reused => cause::REUSED,
        Leave::Replaced => cause::REPLACED,
        Leave::Reset => cause::RESET,
        Leave::Evicted => cause::EVICTED,
        Leave::Purged => cause::PURGED,
        Leave::Unknown => cause::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_reason_and_fin_wait2_none() {
        let mut ends = Ends::default();
        ends.left[substate::FIN_WAIT2] = [100; cause::COUNT];
        for (place, count) in ends.left[substate::TIME_WAIT].iter_mut().enumerate() {
            *count = 1 + place as u64;
        }
        let mut by_cause = ByCause::default();
        assert_eq!(by_cause.left(), None);
        by_cause.take(&ends);
        let left = by_cause.left().expect("taken");
        let of = |leave: Leave| left[leave.index()] as usize;
        assert_eq!(of(Leave::Expired), 1 + cause::EXPIRED);
        assert_eq!(of(Leave::Evicted), 1 + cause::EVICTED);
        let mut all: Vec<usize> = Leave::ALL.map(of).to_vec();
        all.sort_unstable();
        assert_eq!(all, (1..=cause::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn refusals_of_all_namespaces_are_added_to_what_was_before() {
        let mut by_cause = ByCause::default();
        let mut check = |refused: Option<u64>, counted, expected| {
            if let Some(refused) = refused {
                by_cause.take(&Ends { refused, ..Ends::default() });
            }
            by_cause.take_overflows(counted);
            assert_eq!(by_cause.overflows(), expected, "{refused:?} {counted:?}");
        };
        check(None, None, None);
        check(None, Some(40), Some(40));
        check(Some(0), Some(40), Some(40));
        check(Some(3), Some(43), Some(43));
        // Five of them in another namespace.
        check(Some(8), Some(43), Some(48));
        // The probes are read a little before the counter.
        check(Some(8), Some(50), Some(50));
        check(Some(15), Some(50), Some(55));
        check(None, None, Some(55));
    }
}
