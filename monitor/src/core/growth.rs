//! Ports in use towards each destination now, and how fast they are being taken.
//!
//! A census counts them, but comes seldom where it is dear; a window of minutes would tell the pace of minutes ago. So each census is carried
//! on by what was seen since: a connection opened takes a port, one that ended without a wait gives it back. What leaves TIME_WAIT has
//! no event: how many are about to expire the census tells, and how many are taken over by connect() is what neither explains.

use std::collections::{BTreeMap, VecDeque};

use super::contacts::{Contacts, PortFlow};
use crate::aggregate::{DUE_SECONDS, PortKey, PortTally, Top};
use crate::event::{CgroupId, KernelTime};

/// Nanoseconds over which the pace is taken: enough to smooth bursts, little enough to follow a load that has just begun.
const RECENT_NS: u64 = 5_000_000_000;
/// Nanoseconds between two looks at the counters.
const STEP_NS: u64 = 500_000_000;

/// Counters at one moment.
struct Look {
    at: KernelTime,
    flows: BTreeMap<PortKey, PortFlow>,
}

impl Look {
    fn flow(&self, key: &PortKey) -> PortFlow {
        self.flows.get(key).copied().unwrap_or_default()
    }
}

/// Ports of one pair, as a census counted them.
#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    used: u64,
    time_wait: u64,
    /// TIME_WAIT sockets that expire per second, for the next seconds.
    expiring: f64,
}

struct Counted {
    look: Look,
    used: BTreeMap<PortKey, Ports>,
    /// Who is not in `used` had no port.
    complete: bool,
}

impl Counted {
    fn used(&self, key: &PortKey) -> Option<Ports> {
        self.used.get(key).copied().or(self.complete.then(Ports::default))
    }
}

/// Ports of one pair now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    pub used: u64,
    pub time_wait: u64,
    /// `None` before anything could be compared.
    pub pace: Option<Pace>,
}

/// Per second, over the last `seconds`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub seconds: f64,
    pub opened: f64,
    /// Ports more, or fewer.
    pub grown: f64,
}

/// The last census and the last few seconds.
#[derive(Default)]
pub struct Growth {
    census: Option<Counted>,
    /// Share of the connections opened between the last two censuses that took over a port in TIME_WAIT.
    reusing: BTreeMap<PortKey, f64>,
    /// Oldest first; one is older than [`RECENT_NS`].
    looks: VecDeque<Look>,
}

impl Growth {
    /// Takes in a census that ended at `at`, with every event before it in `contacts`.
    pub fn take_census(&mut self, at: KernelTime, tuples: &Top<PortKey, PortTally<CgroupId>>, contacts: &Contacts) {
        let rows = tuples.entries.iter();
        let counted = Counted {
            look: look(at, contacts),
            used: rows
                .map(|(key, tally)| {
                    let expiring = tally.due as f64 / f64::from(DUE_SECONDS);
                    (*key, Ports { used: tally.used, time_wait: tally.time_wait, expiring })
                })
                .collect(),
            complete: tuples.folded == 0 && tuples.understated == 0,
        };
        self.reusing = match &self.census {
            None => BTreeMap::new(),
            Some(last) => counted.used.keys().filter_map(|key| Some((*key, reusing(key, last, &counted)?))).collect(),
        };
        self.census = Some(counted);
    }

    /// Remembers the counters at `at`, when that is due.
    pub fn look(&mut self, at: KernelTime, contacts: &Contacts) {
        if self.looks.back().is_some_and(|last| at.since(last.at).is_none_or(|ns| ns < STEP_NS)) {
            return;
        }
        self.looks.push_back(look(at, contacts));
        while self.looks.get(1).is_some_and(|second| at.since(second.at).is_some_and(|ns| ns >= RECENT_NS)) {
            self.looks.pop_front();
        }
    }

    /// Pairs that the last census met or that had connections since.
    pub fn keys(&self, contacts: &Contacts) -> Vec<PortKey> {
        let counted = self.census.iter().flat_map(|census| census.used.keys().copied());
        let busy = contacts.flows.iter().map(|(key, _)| *key);
        let mut keys: Vec<PortKey> = counted.chain(busy).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The ports of one pair at `now`; `None` when the last census did not know.
    pub fn taken(&self, key: &PortKey, now: KernelTime, contacts: &Contacts) -> Option<Taken> {
        let census = self.census.as_ref()?;
        let ports = census.used(key)?;
        let current = contacts.flow(key);
        let since = current.since(census.look.flow(key));
        let age = now.since(census.look.at).unwrap_or(0) as f64 / 1e9;
        let fresh = 1.0 - self.reusing.get(key).copied().unwrap_or(0.0);
        let left = |counted: u64, came: u64| (counted as f64 + fresh * came as f64 - ports.expiring * age).max(0.0);
        let used = (left(ports.used, since.opened) - since.released as f64).max(0.0).round() as u64;
        let time_wait = (left(ports.time_wait, since.waiting).round() as u64).min(used);
        Some(Taken { used, time_wait, pace: self.pace(key, now, current, fresh, ports.expiring) })
    }

    /// It begins where the pair last had been idle: what was before says nothing of the load that came then.
    fn pace(&self, key: &PortKey, now: KernelTime, current: PortFlow, fresh: f64, expiring: f64) -> Option<Pace> {
        let oldest = self.looks.front()?.flow(key);
        let first = self.looks.iter().take_while(|look| look.flow(key) == oldest).last()?;
        let seconds = now.since(first.at)? as f64 / 1e9;
        let since = current.since(first.flow(key));
        let taken = fresh * since.opened as f64 - since.released as f64;
        let pace = Pace { seconds, opened: since.opened as f64 / seconds, grown: taken / seconds - expiring };
        (seconds > 0.0).then_some(pace)
    }
}

fn look(at: KernelTime, contacts: &Contacts) -> Look {
    Look { at, flows: contacts.flows.iter().map(|(&key, &flow)| (key, flow)).collect() }
}

/// `None` when one of the two censuses did not know the pair.
fn reusing(key: &PortKey, last: &Counted, next: &Counted) -> Option<f64> {
    let (before, after) = (last.used(key)?, next.used(key)?);
    let seconds = next.look.at.since(last.look.at)? as f64 / 1e9;
    let since = next.look.flow(key).since(last.look.flow(key));
    let expired = (before.expiring * seconds).min(before.time_wait as f64);
    let due = before.used as f64 + since.opened as f64 - since.released as f64 - expired;
    let share = (due - after.used as f64) / since.opened.max(1) as f64;
    Some(share.clamp(0.0, 1.0))
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
