//! How many small sockets wait in FIN_WAIT2, between two censuses: their turn to TIME_WAIT has no event, and `sockstat` counts both as one.
//!
//! Where the peer closes too they turn within a round trip; where it does not they stay for up to 60 s. A census tells which happens, and
//! what happened at the last one is taken to go on:
//! * those that it met and that were older than [`YOUNG_NS`] stay until their time is over;
//! * of the young ones there is a share in proportion to those that ended lately: when the load ends, they turn;
//! * of those that have grown old since then, as large a part stays as at the census, and no more than came at that pace.
//!
//! Whatever is beyond that pace is taken to turn at once. That is wrong where peers stop closing, so then a census is asked for.

use std::collections::{BTreeMap, VecDeque};

use crate::aggregate::{ByTimeLeft, Tally};
use crate::event::{KernelTime, NetnsId};

/// Round trips are shorter, and so is the time in which an application sees that its peer has closed.
const YOUNG_NS: u64 = 1_000_000_000;
/// Ends are remembered by slots of this length.
const SLOT_NS: u64 = 250_000_000;
/// One part in so many of TIME_WAIT and FIN_WAIT2 may be unsure.
const UNSURE: u64 = 100;

/// Connections of one namespace that ended in FIN_WAIT2.
#[derive(Clone, Debug, Default)]
struct Waits {
    ended: u64,
    /// The last three [`YOUNG_NS`] of them, by number of the slot.
    slots: VecDeque<(u64, u64)>,
    census: Census,
    counting: Counting,
}

/// What the last census said.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    began: KernelTime,
    ended: KernelTime,
    /// Found, and younger than [`YOUNG_NS`].
    young: u64,
    /// All others that were found.
    old: ByTimeLeft,
    /// All that ended within [`YOUNG_NS`] before it.
    recent: u64,
    /// All that ended before those.
    before: u64,
    /// Of those that grew old from the census before to this one: how many, in how long, and how many of them were found.
    grown: u64,
    grown_in_ns: u64,
    stayed: u64,
}

/// A census that is being counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counting {
    young: ByTimeLeft,
    old: ByTimeLeft,
    stayed: u64,
}

impl Waits {
    fn end(&mut self, at: KernelTime) {
        self.ended += 1;
        let slot = at.0 / SLOT_NS;
        match self.slots.back_mut() {
            Some((last, ends)) if *last >= slot => *ends += 1,
            Some(_) | None => {
                self.slots.push_back((slot, 1));
                while self.slots.front().is_some_and(|(first, _)| first + 3 * YOUNG_NS / SLOT_NS < slot) {
                    self.slots.pop_front();
                }
            }
        }
    }

    /// Ends since `age` before `at`, nanoseconds; at most three times [`YOUNG_NS`].
    fn since(&self, at: KernelTime, age: u64) -> u64 {
        let slot = at.0.saturating_sub(age) / SLOT_NS;
        self.slots.iter().filter(|(each, _)| *each > slot).map(|(_, ends)| ends).sum()
    }

    fn recent(&self, at: KernelTime) -> u64 {
        self.since(at, YOUNG_NS)
    }

    fn find(&mut self, walk_ended: KernelTime, died: Option<KernelTime>, remaining_ms: u32) {
        let age = died.and_then(|died| walk_ended.since(died));
        if age.is_some_and(|age| age <= YOUNG_NS) {
            return self.counting.young.add(ByTimeLeft::one(remaining_ms));
        }
        self.counting.old.add(ByTimeLeft::one(remaining_ms));
        let known_until = self.census.ended.0.saturating_sub(YOUNG_NS);
        self.counting.stayed += u64::from(died.is_some_and(|died| died.0 > known_until));
    }

    fn finish(&mut self, began: KernelTime, ended: KernelTime) {
        let Counting { mut young, mut old, stayed } = std::mem::take(&mut self.counting);
        let (last, recent) = (self.census, self.recent(ended));
        if recent == 0 {
            // Younger than the daemon's first look: with nothing to compare them with they are taken to stay.
            old.add(std::mem::take(&mut young));
        }
        let young = young.weight();
        let before = self.ended.saturating_sub(recent);
        let grown = before.saturating_sub(last.before);
        self.census = Census { began, ended, young, old, recent, before, ..last };
        // What grew old at no time says nothing of those to come.
        (self.census.grown_in_ns, self.census.grown, self.census.stayed) = match grown {
            0 => (0, last.grown, last.stayed),
            // Before the first there is no time to speak of a pace.
            _ if last.ended == KernelTime(0) => (0, grown, stayed.min(grown)),
            _ => (ended.since(last.ended).unwrap_or(0), grown, stayed.min(grown)),
        };
    }

    fn now(&self, at: KernelTime) -> u64 {
        let census = &self.census;
        let since = |moment| at.since(moment).unwrap_or(0);
        let old = census.old.left_after(since(census.began) / 1_000_000);
        let recent = self.recent(at);
        let young = part(census.young, recent.min(census.recent), census.recent);
        let grown = self.ended.saturating_sub(recent).saturating_sub(census.before);
        let pace = part(census.grown, since(census.ended), census.grown_in_ns);
        old + young + part(census.stayed, grown.min(census.recent + pace), census.grown)
    }

    /// By how much those that grew old since the last census, in any [`YOUNG_NS`] of the last two, differ from what it saw come, beyond a
    /// change of the pace by half.
    fn unsure(&self, at: KernelTime) -> u64 {
        let Some(since) = at.since(self.census.ended) else { return 0 };
        let before = self.census.recent;
        let windows = (0..=YOUNG_NS / SLOT_NS).map(|slots| YOUNG_NS + slots * SLOT_NS).filter(|end| *end <= since);
        let grown = windows.map(|end| self.since(at, end + YOUNG_NS) - self.since(at, end));
        grown.map(|grown| grown.abs_diff(before).saturating_sub(before / 2)).max().unwrap_or(0)
    }
}

/// `whole` × `part` / `of`, 0 for a part of nothing.
fn part(whole: u64, part: u64, of: u64) -> u64 {
    let part = u128::from(whole) * u128::from(part);
    part.checked_div(u128::from(of)).map_or(0, |part| u64::try_from(part).unwrap_or(u64::MAX))
}

/// FIN_WAIT2 of all namespaces.
#[derive(Clone, Debug, Default)]
pub struct Turning {
    waits: BTreeMap<NetnsId, Waits>,
    /// End of the walk that is being counted.
    walk_ended: KernelTime,
    /// Milliseconds that a small socket may stay, for those whose end is not remembered (`tcp_fin_timeout`).
    timeout_ms: Option<u64>,
}

impl Turning {
    /// A connection ended in FIN_WAIT2, with a small socket unless the kernel refused it.
    pub fn end(&mut self, netns: NetnsId, at: KernelTime) {
        self.waits.entry(netns).or_default().end(at);
    }

    /// A namespace is gone, and its number may come again.
    pub fn forget(&mut self, netns: NetnsId) {
        self.waits.remove(&netns);
    }

    /// A walk that ended at `ended` is to be counted.
    pub fn begin(&mut self, ended: KernelTime, timeout_seconds: Option<u64>) {
        (self.walk_ended, self.timeout_ms) = (ended, timeout_seconds.map(|seconds| seconds.saturating_mul(1000)));
        self.waits.values_mut().for_each(|waits| waits.counting = Counting::default());
    }

    /// It found a small FIN_WAIT2 socket. `died`: when its connection ended, if that is remembered.
    pub fn find(&mut self, netns: NetnsId, died: Option<KernelTime>, remaining_ms: u32) {
        let aged = |timeout_ms: u64| {
            let age_ms = timeout_ms.saturating_sub(u64::from(remaining_ms));
            KernelTime(self.walk_ended.0.saturating_sub(age_ms.saturating_mul(1_000_000)))
        };
        let died = died.or(self.timeout_ms.map(aged));
        self.waits.entry(netns).or_default().find(self.walk_ended, died, remaining_ms);
    }

    /// It is counted.
    pub fn finish(&mut self, began: KernelTime) {
        let ended = self.walk_ended;
        self.waits.values_mut().for_each(|waits| waits.finish(began, ended));
        // A namespace without any is forgotten, with what was learnt there.
        self.waits.retain(|_, waits| waits.census.young + waits.census.old.weight() + waits.recent(ended) > 0);
    }

    /// How many there are at `at`, by namespace; `None` stands for all together.
    pub fn now(&self, netns: Option<NetnsId>, at: KernelTime) -> u64 {
        match netns {
            Some(netns) => self.waits.get(&netns).map_or(0, |waits| waits.now(at)),
            None => self.waits.values().map(|waits| waits.now(at)).sum(),
        }
    }

    /// Those of the last census that may have turned while it went on.
    pub fn young(&self) -> u64 {
        self.waits.values().map(|waits| waits.census.young).sum()
    }

    /// Whether a census would tell much more, of `small` small sockets in all.
    pub fn is_unsure(&self, small: u64, at: KernelTime) -> bool {
        self.waits.values().map(|waits| waits.unsure(at)).sum::<u64>() > small / UNSURE
    }
}

#[cfg(test)]
#[path = "turning_tests.rs"]
mod tests;
