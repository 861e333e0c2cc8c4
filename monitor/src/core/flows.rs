//! How TIME_WAIT sockets come and go: entries as they are classified, exits by conservation.
//!
//! Where no fentry can be attached nothing in the kernel reports the end of a TIME_WAIT socket ([`super::by_cause`] has it where one can), and
//! entries are known from the fields of the full socket's end. So each census gives `left = entered + before − now`, cut at the moment at which it began; `TWRecycled` says how
//! many of them connect() took over, the time that was left says how many must have expired, and the rest is `unknown`. An entry that was
//! never seen (a lost record, a silent turn of a socket older than the daemon) shows as a negative number and is counted as entered then.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use crate::aggregate::{Leave, OwnedBy, REMAINING_MS, Substate, Unit, share};
use crate::event::KernelTime;
use crate::lifecycle::Role;

/// The cgroup of a socket, where it could be learnt: 8 bytes with its absence.
pub type Cgroup = NonZeroU64;
/// Who entered.
pub type By = (Role, Unit<Cgroup>);

/// Makers told apart between two looks.
const MAKERS_LIMIT: usize = 4096;
/// Milliseconds of remaining time in one bucket.
const STEP_MS: u32 = 100;
/// The time that is left is measured in jiffies, by which timers fire too. They lag behind CLOCK_MONOTONIC while a virtual processor
/// stands still, and make it up when it goes on: on an overcommitted host a socket expired more than 100 ms before its time by the clock.
const SLACK_MS: u64 = 500;
/// A FIN_WAIT2 socket lives for at most 60 s and a TIME_WAIT socket for 60 s; the timer may be set anew, not for longer.
const STEPS: usize = 1200;

/// TIME_WAIT sockets by the time that was left of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeLeft(Vec<u32>);

impl Default for TimeLeft {
    fn default() -> Self {
        Self(vec![0; STEPS + 1])
    }
}

impl TimeLeft {
    pub fn add(&mut self, remaining_ms: u32) {
        self.0[((remaining_ms / STEP_MS) as usize).min(STEPS)] += 1;
    }

    /// By [`REMAINING_MS`], after `ms`; and those whose time is over then.
    pub fn after(&self, ms: u64) -> ([u64; REMAINING_MS.len()], u64) {
        let (mut remaining, mut over) = ([0; REMAINING_MS.len()], 0);
        for (step, &sockets) in self.0.iter().enumerate() {
            match (step as u64 * u64::from(STEP_MS)).checked_sub(ms) {
                Some(left) => remaining[remaining_class(left)] += u64::from(sockets),
                None => over += u64::from(sockets),
            }
        }
        (remaining, over)
    }

    /// Sockets whose time is over within `ms`, and [`SLACK_MS`] more.
    pub fn due(&self, ms: u64) -> u64 {
        let steps = usize::try_from((ms + SLACK_MS) / u64::from(STEP_MS)).unwrap_or(STEPS).min(STEPS);
        self.0[..=steps].iter().map(|&sockets| u64::from(sockets)).sum()
    }
}

/// The place in [`REMAINING_MS`] of a socket that has so much left, milliseconds.
pub fn remaining_class(ms: u64) -> usize {
    REMAINING_MS.partition_point(|&bound| u64::from(bound) < ms).min(REMAINING_MS.len() - 1)
}

/// What a census says of the TIME_WAIT sockets.
#[derive(Clone, Debug, Default)]
pub struct Level {
    pub began: KernelTime,
    /// What was met in the table was met that long after, at most.
    pub took_ms: u64,
    /// Those that were there when it began.
    pub standing: u64,
    /// Entries counted already whose sockets are not in `standing`, since they came after `began`.
    pub late: u64,
    pub time_left: TimeLeft,
    /// `TWRecycled`.
    pub recycled: Option<u64>,
    /// Records lost since the last one.
    pub lost: u64,
}

struct Cut {
    level: Level,
    entered: u64,
}

/// Counters of entries and exits; they never go back.
#[derive(Default)]
pub struct Flows {
    /// Ends that leave a small socket unless the kernel refused it: TIME_WAIT and FIN_WAIT2.
    pending: BTreeMap<By, [u64; 2]>,
    overflows: Option<u64>,
    /// Refusals whose ends were not handed over yet.
    refusals_owed: u64,
    /// Entries since the last [`Self::take_entered`].
    entered: BTreeMap<By, u64>,
    entered_total: u64,
    /// Ends into FIN_WAIT2 whose sockets went before a census saw them in TIME_WAIT.
    vanished: BTreeMap<By, u64>,
    last: Option<Cut>,
    /// Sockets that the last census met beyond all that were known to have entered.
    surplus: u64,
    recycled_owed: u64,
    left: [u64; Leave::COUNT],
}

/// The value of `by`; beyond the bound that of all others with its role.
fn slot<V: Default>(map: &mut BTreeMap<By, V>, by: By) -> &mut V {
    let known = map.len() < MAKERS_LIMIT || map.contains_key(&by);
    map.entry(if known { by } else { (by.0, Unit::Other) }).or_default()
}

fn by(owned: OwnedBy<Cgroup>) -> By {
    (owned.role, owned.unit.map_or(Unit::Unknown, Unit::Known))
}

impl Flows {
    /// A connection ended in a way that leaves a small socket.
    pub fn ended(&mut self, owned: OwnedBy<Cgroup>, waiting: Substate) {
        let counts = slot(&mut self.pending, by(owned));
        match waiting {
            Substate::TimeWait => counts[0] += 1,
            Substate::FinWait2 => counts[1] += 1,
        }
    }

    /// A small FIN_WAIT2 socket was found to have turned.
    pub fn turned(&mut self, owned: OwnedBy<Cgroup>) {
        self.enter(by(owned), 1);
    }

    /// A small FIN_WAIT2 socket is gone; it may have turned and been taken over between two censuses.
    pub fn vanished(&mut self, owned: OwnedBy<Cgroup>) {
        *slot(&mut self.vanished, by(owned)) += 1;
    }

    fn enter(&mut self, by: By, count: u64) {
        *slot(&mut self.entered, by) += count;
        self.entered_total += count;
    }

    /// Counts the ends since the last call as entries, less those for which the kernel refused a small socket (`TCPTimeWaitOverflow` grew).
    /// It refuses whoever comes, so each maker bears its share.
    pub fn settle_refusals(&mut self, overflows: Option<u64>) {
        let grown = match (self.overflows, overflows) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            (None, _) | (_, None) => 0,
        };
        self.overflows = overflows.or(self.overflows);
        let refused = self.refusals_owed + grown;
        let pending = std::mem::take(&mut self.pending);
        let weights: Vec<u64> = pending.values().flatten().copied().collect();
        let parts = share(refused, &weights);
        // The counter may be ahead of the records by what is in the ring: owed once more, and not for ever, since records can be lost.
        self.refusals_owed = (refused - parts.iter().sum::<u64>()).min(grown);
        for ((by, [time_wait, _]), part) in pending.into_iter().zip(parts.chunks_exact(2)) {
            self.enter(by, time_wait - part[0]);
        }
    }

    /// Takes in a census; the refusals must be settled and the turns told.
    pub fn take(&mut self, level: Level) {
        let vanished = std::mem::take(&mut self.vanished);
        let Some(last) = self.last.take() else {
            let entered = self.entered_total.saturating_sub(level.late);
            self.last = Some(Cut { level, entered });
            return;
        };
        let entered = self.entered_total.saturating_sub(level.late).saturating_sub(last.entered);
        let known = last.level.standing + entered;
        let gone = known.saturating_sub(level.standing + self.surplus);
        self.settle_surplus((level.standing + self.surplus).saturating_sub(known), level.lost);

        let grown = match (last.level.recycled, level.recycled) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            (None, _) | (_, None) => 0,
        };
        let elapsed_ms = level.began.since(last.level.began).unwrap_or(0) / 1_000_000;
        // What ended while the walk went on was not met either; what did not is still there, with that little left.
        let overdue = level.time_left.due(level.took_ms);
        let due = last.level.time_left.due(elapsed_ms + level.took_ms).saturating_sub(overdue).min(gone);
        let early = gone - due;
        let mut recycled = self.recycled_owed + grown;
        let mut take = |most: u64| {
            let taken = recycled.min(most);
            recycled -= taken;
            taken
        };
        let reused_early = take(early);
        let reused_unseen = take(vanished.values().sum());
        let reused_due = take(due);
        // The counter is read a little after the cut.
        self.recycled_owed = recycled.min(grown);
        for (&by, count) in vanished.keys().zip(share(reused_unseen, &vanished.values().copied().collect::<Vec<_>>())) {
            self.enter(by, count);
        }
        self.left[Leave::Reused.index()] += reused_early + reused_unseen + reused_due;
        self.left[Leave::Expired.index()] += due - reused_due;
        self.left[Leave::Unknown.index()] += early - reused_early;
        let entered = self.entered_total.saturating_sub(level.late);
        self.last = Some(Cut { level, entered });
    }

    /// A record may come just after the census that met its socket. What is still too much a census later has entered unseen; so has, at
    /// once, as much as records are known to be lost: until the next census all of them may be gone.
    fn settle_surplus(&mut self, surplus: u64, lost: u64) {
        let unseen = surplus.min(self.surplus.saturating_add(lost));
        if unseen > 0 {
            self.enter((Role::Unknown, Unit::Unknown), unseen);
        }
        self.surplus = surplus - unseen;
    }

    /// When the last census began, and the time that was left of what it met.
    pub fn last(&self) -> Option<(KernelTime, &TimeLeft)> {
        self.last.as_ref().map(|last| (last.level.began, &last.level.time_left))
    }

    /// Entries since the last call.
    pub fn take_entered(&mut self) -> BTreeMap<By, u64> {
        std::mem::take(&mut self.entered)
    }

    pub fn entered_total(&self) -> u64 {
        self.entered_total
    }

    pub fn left(&self) -> [u64; Leave::COUNT] {
        self.left
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
