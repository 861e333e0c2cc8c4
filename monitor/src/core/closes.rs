//! Who closes first, and who finds no local port, by the end that tells whose they are: what came since the last page.

use hashbrown::HashMap;

use crate::aggregate::{Closed, Tally, endpoint_of};
use crate::event::{CgroupId, Endpoint};
use crate::lifecycle::{Close, ConnectFailure, Finished, Outcome, Role};

/// Ends told apart between two pages, and destinations; what is beyond goes to the remainder.
const CAPACITY: usize = 4096;

/// The end by which connections go, `None` when the role is not known, and the cgroup.
pub type CloseKey = (Option<Endpoint>, CgroupId);

/// What came since the last [`Self::take`].
#[derive(Clone, Debug, Default)]
pub struct Closes {
    closed: HashMap<CloseKey, Closed, foldhash::quality::RandomState>,
    closed_elsewhere: Closed,
    no_port: HashMap<Endpoint, u64, foldhash::quality::RandomState>,
    no_port_elsewhere: u64,
}

/// All of it, in an order that depends on nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    pub closed: Vec<(CloseKey, Closed)>,
    pub closed_elsewhere: Closed,
    pub no_port: Vec<(Endpoint, u64)>,
    pub no_port_elsewhere: u64,
}

impl Closes {
    /// A connection ended; `role` as the tracker or, failing that, the listeners say.
    pub fn finished(&mut self, end: &Finished, role: Role) {
        // A child that never reached a synchronized state was not opened, so it is not closed.
        if end.from.is_synchronized() {
            let key = (endpoint_of(role, &end.tuple), end.cgroup);
            slot(&mut self.closed, key, &mut self.closed_elsewhere).0[role.index()][end.close.index()] += 1;
        }
    }

    /// Takes in what else there is to count.
    pub fn apply(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(end) if end.reason == ConnectFailure::NoLocalPort => {
                *slot(&mut self.no_port, end.tuple.destination(), &mut self.no_port_elsewhere) += 1;
            }
            // Counted as closed, however little is known of it.
            Outcome::EndMissed { last, role } if last.is_synchronized() => {
                self.closed_elsewhere.0[role.index()][Close::Unknown.index()] += 1;
            }
            _ => {}
        }
    }

    /// What came since the last time.
    pub fn take(&mut self) -> Grown {
        let Self { closed, closed_elsewhere, no_port, no_port_elsewhere } = std::mem::take(self);
        let mut grown = Grown {
            closed: closed.into_iter().collect(),
            closed_elsewhere,
            no_port: no_port.into_iter().collect(),
            no_port_elsewhere,
        };
        grown.closed.sort_unstable_by_key(|(key, _)| *key);
        grown.no_port.sort_unstable();
        grown
    }
}

/// The count of `key`; beyond the bound that of all others.
fn slot<'a, K: Eq + std::hash::Hash, V: Tally>(
    counts: &'a mut HashMap<K, V, foldhash::quality::RandomState>,
    key: K,
    elsewhere: &'a mut V,
) -> &'a mut V {
    if counts.len() < CAPACITY || counts.contains_key(&key) { counts.entry(key).or_default() } else { elsewhere }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{TcpState, Tuple};
    use crate::lifecycle::samples::FINISHED;

    fn closed(role: Role, close: Close, count: u64) -> Closed {
        let mut closed = Closed::default();
        closed.0[role.index()][close.index()] = count;
        closed
    }

    #[test]
    fn each_end_is_counted_where_it_belongs() {
        let mut closes = Closes::default();
        closes.finished(&FINISHED, Role::Client);
        closes.finished(&Finished { close: Close::Remote, ..FINISHED }, Role::Server);
        closes.finished(&FINISHED, Role::Unknown);
        closes.finished(&Finished { from: TcpState::SynRecv, ..FINISHED }, Role::Server);
        closes.apply(&Outcome::EndMissed { last: TcpState::Established, role: Role::Client });
        closes.apply(&Outcome::EndMissed { last: TcpState::SynSent, role: Role::Client });
        let (tuple, cgroup) = (FINISHED.tuple, FINISHED.cgroup);
        let mut expected = vec![
            ((None, cgroup), closed(Role::Unknown, Close::Local, 1)),
            ((Some(tuple.source()), cgroup), closed(Role::Server, Close::Remote, 1)),
            ((Some(tuple.destination()), cgroup), closed(Role::Client, Close::Local, 1)),
        ];
        expected.sort_unstable_by_key(|(key, _)| *key);
        let grown = closes.take();
        assert_eq!(grown.closed, expected);
        assert_eq!(grown.closed_elsewhere, closed(Role::Client, Close::Unknown, 1));
        assert_eq!(closes.take(), Grown::default());
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_elsewhere() {
        let mut closes = Closes::default();
        for number in 0..2 * (CAPACITY as u16 + 10) {
            closes
                .finished(&Finished { tuple: Tuple { dport: number / 2, ..FINISHED.tuple }, ..FINISHED }, Role::Client);
        }
        let grown = closes.take();
        assert_eq!((grown.closed.len(), grown.closed_elsewhere), (CAPACITY, closed(Role::Client, Close::Local, 20)));
        assert!(grown.closed.iter().all(|(_, counts)| counts.weight() == 2));
    }
}
