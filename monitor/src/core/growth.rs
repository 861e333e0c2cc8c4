//! How fast ports towards each destination are being taken: the last few censuses side by side.
//!
//! A window of minutes would tell the growth of minutes ago, and a load that began seconds ago would seem slow in it. So the pace is that
//! of the last seconds, between the moments at which sockets were counted, not those at which somebody asked.

use std::collections::{BTreeMap, VecDeque};

use super::contacts::Contacts;
use crate::aggregate::{PortKey, PortTally, Top};
use crate::event::{CgroupId, KernelTime};

/// Nanoseconds looked back: enough censuses to smooth bursts, few enough to follow a load that has just begun.
const RECENT_NS: u64 = 5_000_000_000;
/// Pairs of source and destination kept of each census; each takes about 100 bytes.
const KEPT: usize = 256;

struct Look {
    at: KernelTime,
    used: BTreeMap<PortKey, u64>,
    /// Connections opened so far, of the destinations remembered.
    opened: BTreeMap<PortKey, u64>,
    /// Who is not in `used` had no port.
    complete: bool,
}

/// What changed over the last seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// More than 0.
    pub seconds: f64,
    /// Ports, more or fewer.
    pub grown: i64,
    /// Connections opened meanwhile.
    pub opened: u64,
}

/// The last few censuses.
#[derive(Default)]
pub struct Growth(VecDeque<Look>);

impl Growth {
    /// Takes in a census that began at `at`.
    pub fn take(&mut self, at: KernelTime, tuples: &Top<PortKey, PortTally<CgroupId>>, contacts: &Contacts) {
        self.0.push_back(Look {
            at,
            used: tuples.entries.iter().take(KEPT).map(|(key, tally)| (*key, tally.used)).collect(),
            opened: contacts.opened.iter().map(|(&key, &count)| (key, count)).collect(),
            complete: tuples.folded == 0 && tuples.understated == 0 && tuples.entries.len() <= KEPT,
        });
        // One is kept that is older than asked for, so that there are two however seldom they come.
        while self.0.get(1).is_some_and(|second| at.since(second.at).is_some_and(|ns| ns >= RECENT_NS)) {
            self.0.pop_front();
        }
    }

    /// When the last census began.
    pub fn at(&self) -> Option<KernelTime> {
        self.0.back().map(|look| look.at)
    }

    /// The pace of one pair; `None` before a second census that knows it.
    ///
    /// It begins where the pair last had no port at all: what was before says nothing of the load that came then.
    pub fn pace(&self, key: &PortKey) -> Option<Pace> {
        let (last, before) =
            self.0.iter().collect::<Vec<_>>().split_last().map(|(last, before)| (*last, before.to_vec()))?;
        let used = |look: &Look| look.used.get(key).copied().or(look.complete.then_some(0));
        let known = |look: &&Look| used(look).is_some();
        let empty = before.iter().rev().copied().find(|look| used(look) == Some(0));
        let first = empty.or_else(|| before.iter().copied().find(known))?;
        let grown = i64::try_from(used(last)?).ok()? - i64::try_from(used(first)?).ok()?;
        let seconds = last.at.since(first.at)? as f64 / 1e9;
        let opened = |look: &Look| look.opened.get(key).copied().unwrap_or(0);
        let opened = opened(last).saturating_sub(opened(first));
        (seconds > 0.0).then_some(Pace { seconds, grown, opened })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Endpoint, NetnsId};

    const KEY: PortKey =
        PortKey { netns: NetnsId(1), source: [1; 16], destination: Endpoint { addr: [2; 16], port: 80 } };

    /// A census a second; `folded`: some had no room in the list.
    fn growth(used: &[u64], folded: u64) -> Growth {
        let (mut growth, mut contacts) = (Growth::default(), Contacts::default());
        for (at, &used) in (0..).zip(used) {
            let entries = if used == 0 {
                vec![]
            } else {
                contacts.opened.add(KEY, 100);
                vec![(KEY, PortTally { used, ..PortTally::default() })]
            };
            let tuples = Top { entries, other: 0, total: used, folded, understated: 0 };
            growth.take(KernelTime(at * 1_000_000_000), &tuples, &contacts);
        }
        growth
    }

    #[test]
    fn the_pace_is_that_of_the_last_seconds() {
        let check = |name, used: &[u64], folded, expected: Option<(f64, i64, u64)>| {
            let pace = growth(used, folded).pace(&KEY).map(|pace| (pace.seconds, pace.grown, pace.opened));
            assert_eq!(pace, expected, "{name}");
        };
        check("no census", &[], 0, None);
        check("one", &[100], 0, None);
        check("two", &[100, 200], 0, Some((1.0, 100, 100)));
        check("steady", &[100, 200, 300, 400, 500, 600, 700, 800], 0, Some((5.0, 500, 500)));
        check("idle and then a load", &[0, 0, 0, 0, 0, 0, 100, 200], 0, Some((2.0, 200, 200)));
        check("absent at first", &[0, 100], 0, Some((1.0, 100, 100)));
        check("absent from a list that was cut", &[0, 100], 1, None);
        check("known since", &[0, 100, 200], 1, Some((1.0, 100, 100)));
        check("falls", &[300, 200, 100], 0, Some((2.0, -200, 200)));
    }

    #[test]
    fn two_are_kept_however_seldom_they_come_and_no_more_than_needed() {
        let mut growth = growth(&[1; 100], 0);
        assert_eq!(growth.0.len(), 6);
        let tuples = Top { entries: vec![], other: 0, total: 0, folded: 0, understated: 0 };
        growth.take(KernelTime(500_000_000_000), &tuples, &Contacts::default());
        assert_eq!((growth.0.len(), growth.at()), (2, Some(KernelTime(500_000_000_000))));
    }
}
