//! Ends of TIME_WAIT as the kernel side counts them by cause, on hosts that allow it.

use synfin_ebpf::abi::Ends;
use synfin_ebpf::abi::ends::{cause, substate};

use crate::aggregate::Leave;

/// The last reading, if there ever was one.
#[derive(Debug, Default)]
pub struct ByCause {
    ends: Option<Ends>,
}

impl ByCause {
    pub fn take(&mut self, ends: &Ends) {
        self.ends = Some(*ends);
    }

    /// TIME_WAIT sockets that left, by [`Leave::index`]; small sockets in FIN_WAIT2 never entered. `None`: not counted here.
    pub fn left(&self) -> Option<[u64; Leave::COUNT]> {
        let by_cause = &self.ends?.left[substate::TIME_WAIT];
        Some(Leave::ALL.map(|leave| by_cause[cause_of(leave)]))
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
}
