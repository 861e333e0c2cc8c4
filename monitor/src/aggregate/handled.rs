//! Which of the transitions that the kernel side counted have come as records: it counts first and writes then, and a record can be lost.

use super::populations::Flow;
use super::{PerState, Transitions};
use crate::event::TcpState;

/// Transitions handled, and those whose records never come.
#[derive(Clone, Debug, Default)]
pub struct Handled {
    seen: Transitions,
    /// Counted and not seen. While no record is lost it only shrinks to what was lost before: the rest is under way. Negative where a
    /// birth was told that there was not.
    unseen: PerState<PerState<i64>>,
    lost: u64,
}

impl Handled {
    /// A record of this transition was handled.
    pub fn count(&mut self, from: TcpState, to: TcpState) {
        self.seen[from.index()][to.index()] += 1;
    }

    /// Takes in totals that were read after the last record. `lost`: records that found no room or made no sense, so far.
    pub fn compare(&mut self, counted: &Transitions, lost: u64) {
        let is_new = std::mem::replace(&mut self.lost, lost) != lost;
        let cells = self.unseen.as_flattened_mut().iter_mut();
        for ((unseen, counted), seen) in cells.zip(counted.as_flattened()).zip(self.seen.as_flattened()) {
            let ahead = *counted as i64 - *seen as i64;
            *unseen = if is_new { ahead } else { ahead.min(*unseen) };
        }
    }

    /// Entered less left, of all that was counted up to the last record handled.
    pub fn net(&self) -> PerState<i64> {
        let (seen, unseen) = (Flow::new(&self.seen), Flow::new(&self.unseen));
        TcpState::ALL.map(|state| seen.net(state) + unseen.net(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_told_from_what_was_lost() {
        use TcpState::{Established, FinWait1, SynSent};
        let mut handled = Handled::default();
        let mut counted = Transitions::default();
        let mut check = |opened: u64, seen: u64, lost, net: i64| {
            counted[SynSent.index()][Established.index()] = opened;
            (0..seen).for_each(|_| handled.count(SynSent, Established));
            handled.compare(&counted, lost);
            let found = handled.net();
            assert_eq!((found[Established.index()], found[SynSent.index()]), (net, -net), "{opened} {seen} {lost}");
        };
        // Seven are still in the ring.
        check(10, 3, 0, 3);
        check(10, 7, 0, 10);
        // Five were lost, two of these are under way.
        check(20, 3, 5, 20);
        check(20, 2, 5, 20);
        check(30, 3, 5, 23);
        check(30, 7, 5, 30);
        // A record that stood for a transition that there was not.
        handled.count(Established, FinWait1);
        handled.compare(&counted, 5);
        let found = handled.net();
        assert_eq!((found[Established.index()], found[FinWait1.index()]), (30, 0));
    }
}
