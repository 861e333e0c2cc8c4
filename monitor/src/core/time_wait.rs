//! TIME_WAIT by maker: counted by each census, moved by events in between, cut to the kernel's own total.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;

use super::audit::Moved;
use super::departures::Departures;
use super::flows::{Cgroup, Flows, Level, TimeLeft, remaining_class};
use super::turning::Turning;
use super::view::Told;
use crate::aggregate::{
    ByTimeLeft, EphemeralRanges, Held, Listening, MakerKey, MakerRow, Makers, OwnedBy, Owners, PerRole, REMAINING_MS,
    SmallSocket, Substate, TopK, Unit, endpoint_of,
};
use crate::event::{KernelTime, NetnsId, Tuple};
use crate::input::Walk;
use crate::lifecycle::{Finished, Role, Wait};

/// Makers held while a census is counted.
const MAKERS_CAPACITY: usize = 4096;
/// Makers kept of a census; which of them are shown is decided by the names of their units.
const MAKERS_KEPT: usize = 1024;
/// Ends remembered while a walk goes on, so that those that it missed are not: 3 MiB at most.
const UNDER_WAY_LIMIT: usize = 32_768;
/// A full memory is swept at most so often: each sweep looks at all of it.
const SWEEP_NS: u64 = 1_000_000_000;

/// Milliseconds that a TIME_WAIT socket lives (TCP_TIMEWAIT_LEN of include/net/tcp.h).
const LIFE_MS: u64 = 60_000;

type Key = (NetnsId, MakerKey<Cgroup>);

struct Noted {
    tuple: Tuple,
    key: Key,
    at: KernelTime,
}

/// Whose the TIME_WAIT sockets are.
pub struct Ledger {
    pub owners: Owners<Cgroup>,
    pub flows: Flows,
    pub turning: Turning,
    /// Of the last census.
    rows: Vec<Held<Cgroup>>,
    folded: u64,
    /// Since then, in either substate: almost all that start in FIN_WAIT2 turn within a round trip.
    added: TopK<Key, u64>,
    /// All of these, with those that found no place in `added`.
    added_by_role: PerRole<u64>,
    /// All of these, by the second in which they ended; no older than a TIME_WAIT socket can be.
    added_at: VecDeque<(u64, u64)>,
    /// `Some` while a walk goes on.
    under_way: Option<Vec<Noted>>,
    /// Ends since the last walk began, into TIME_WAIT and into FIN_WAIT2.
    since_walk: [u64; 2],
    swept_at: KernelTime,
}

/// A census, as far as the ledger is concerned: sockets go in, then [`Ledger::finish`].
pub struct Counting<'a> {
    makers: Makers<'a, Cgroup>,
    flows: &'a mut Flows,
    turning: &'a mut Turning,
    began: KernelTime,
    standing: u64,
    time_left: TimeLeft,
}

/// What came out of it.
pub struct Counted {
    by_maker: crate::aggregate::SmallByMaker<Cgroup>,
    standing: u64,
    time_left: TimeLeft,
}

impl Counted {
    /// Makers of small FIN_WAIT2 sockets, the largest first.
    pub fn take_fin_wait2(&mut self) -> Vec<MakerRow<Cgroup>> {
        std::mem::take(&mut self.by_maker.fin_wait2.rows).into_iter().map(|held| held.row).collect()
    }
}

impl Ledger {
    /// `capacity`: connections whose owners are remembered.
    pub fn new(capacity: usize) -> Self {
        Self {
            owners: Owners::new(capacity),
            flows: Flows::default(),
            turning: Turning::default(),
            rows: Vec::new(),
            folded: 0,
            added: TopK::new(MAKERS_CAPACITY),
            added_by_role: [0; Role::COUNT],
            added_at: VecDeque::new(),
            under_way: None,
            since_walk: [0; 2],
            swept_at: KernelTime(0),
        }
    }

    /// A connection ended. `role` as the tracker or, failing that, the listeners say.
    pub fn finished(&mut self, end: &Finished, role: Role) {
        let waiting = match end.wait {
            Wait::None => return,
            Wait::TimeWait => Substate::TimeWait,
            Wait::FinWait2 => Substate::FinWait2,
        };
        let by = OwnedBy { role, unit: NonZeroU64::new(end.cgroup.0) };
        if self.owners.is_full() && end.at.since(self.swept_at).is_some_and(|ns| ns >= SWEEP_NS) {
            self.swept_at = end.at;
            self.owners.sweep(end.at);
        }
        let flows = &mut self.flows;
        self.owners.remember(end.netns, &end.tuple, by, waiting, end.at, |by, waiting| forgotten(flows, by, waiting));
        self.flows.ended(by, waiting);
        match waiting {
            Substate::TimeWait => self.since_walk[0] += 1,
            Substate::FinWait2 => {
                self.since_walk[1] += 1;
                self.turning.end(end.netns, end.at);
            }
        }
        let maker = (role, endpoint_of(role, &end.tuple), by.unit.map_or(Unit::Unknown, Unit::Known));
        let key = (end.netns, maker);
        self.add(key, end.at);
        if let Some(noted) = self.under_way.as_mut().filter(|noted| noted.len() < UNDER_WAY_LIMIT) {
            noted.push(Noted { tuple: end.tuple, key, at: end.at });
        }
    }

    fn add(&mut self, key: Key, at: KernelTime) {
        let (_, (role, _, _)) = key;
        self.added_by_role[role.index()] += 1;
        self.added.add(key, 1);
        let second = at.0 / 1_000_000_000;
        match self.added_at.back_mut() {
            Some((last, sockets)) if *last >= second => *sockets += 1,
            Some(_) | None => {
                self.added_at.push_back((second, 1));
                if self.added_at.front().is_some_and(|(first, _)| (second - first) * 1000 > LIFE_MS) {
                    self.added_at.pop_front();
                }
            }
        }
    }

    /// A namespace is gone with all its sockets, and its number may come again.
    pub fn forget(&mut self, netns: NetnsId) {
        self.turning.forget(netns);
        self.rows.retain(|held| held.netns != Some(netns));
    }

    pub fn begin_walk(&mut self) {
        self.under_way = Some(Vec::new());
        self.since_walk = [0; 2];
    }

    pub fn abandon_walk(&mut self) {
        self.under_way = None;
    }

    /// The walk is to be counted.
    pub fn count<'a>(
        &'a mut self,
        walk: &Walk<'_>,
        told: Told,
        listening: &'a Listening,
        ranges: &'a EphemeralRanges,
    ) -> Counting<'a> {
        let flows = &mut self.flows;
        self.owners.file(|by, waiting| forgotten(flows, by, waiting));
        let makers = Makers::new(&mut self.owners, listening, ranges, MAKERS_CAPACITY);
        self.turning.begin(walk.ended, told.fin_timeout);
        Counting {
            makers,
            flows: &mut self.flows,
            turning: &mut self.turning,
            began: walk.began,
            standing: 0,
            time_left: TimeLeft::default(),
        }
    }

    /// Takes over what was counted in `walk`.
    pub fn finish(&mut self, counted: Counted, walk: &Walk<'_>, told: Told) {
        let began = walk.began;
        self.turning.finish(began);
        self.added = TopK::new(MAKERS_CAPACITY);
        self.added_by_role = [0; Role::COUNT];
        self.added_at.clear();
        for noted in self.under_way.take().unwrap_or_default() {
            // What ended after the walk had passed its place is there all the same.
            if noted.at >= began && !self.owners.is_found(noted.key.0, &noted.tuple) {
                self.add(noted.key, noted.at);
            }
        }
        let Self { owners, flows, .. } = self;
        let late = owners.settle(began, |by, waiting| forgotten(flows, by, waiting));
        flows.take(Level {
            began,
            took_ms: walk.ended.since(began).unwrap_or(0) / 1_000_000,
            standing: counted.standing,
            late,
            time_left: counted.time_left,
            recycled: told.recycled,
            lost: told.lost,
        });
        self.rows = counted.by_maker.time_wait.rows;
        self.folded = counted.by_maker.time_wait.folded;
    }

    /// What can have changed under the walk that was counted last.
    pub fn moved(&self, walk: &Walk<'_>, recycled: u64) -> Moved {
        let [entered, waiting] = self.since_walk;
        let took_ms = walk.ended.since(walk.began).unwrap_or(0) / 1_000_000;
        let over = self.flows.last().map_or(0, |(_, time_left)| time_left.due(took_ms));
        Moved { entered, waiting, turning: self.turning.young() + waiting, left: over + recycled }
    }

    /// By [`REMAINING_MS`], at `at`; they sum to `total`. What is too much has ended, that with the least time first; what came unseen has
    /// all of it.
    pub fn remaining(&self, total: u64, at: KernelTime) -> [u64; REMAINING_MS.len()] {
        let elapsed_ms = |since: KernelTime| at.since(since).unwrap_or(0) / 1_000_000;
        let (mut remaining, over) = match self.flows.last() {
            Some((began, time_left)) => time_left.after(elapsed_ms(began)),
            None => ([0; REMAINING_MS.len()], 0),
        };
        for &(second, sockets) in &self.added_at {
            let age_ms = elapsed_ms(KernelTime(second * 1_000_000_000));
            remaining[remaining_class(LIFE_MS.saturating_sub(age_ms))] += sockets;
        }
        let known: u64 = remaining.iter().sum();
        let mut gone = known.saturating_sub(total);
        for sockets in &mut remaining {
            let part = gone.min(*sockets);
            (*sockets, gone) = (*sockets - part, gone - part);
        }
        // Timers are late by a tick or two; they are there until the kernel's own total says otherwise.
        let late = total.saturating_sub(known).min(over);
        remaining[0] += late;
        remaining[REMAINING_MS.len() - 1] += total.saturating_sub(known + late);
        remaining
    }

    /// Makers of the last census, and of what came since, that are in the remainder.
    pub fn folded(&self) -> u64 {
        self.folded + self.added.folded()
    }

    /// All makers at `at`; they sum to `total`. `by_netns`: the same by namespace, where all are watched. What has gone since the census
    /// is taken first from those whose time was over ([`Departures`]); what came unseen is of unknown role.
    pub fn makers(
        &self,
        total: u64,
        by_netns: Option<&BTreeMap<NetnsId, u64>>,
        at: KernelTime,
    ) -> Vec<MakerRow<Cgroup>> {
        let mut added: Vec<(&Key, u64)> = self.added.iter().map(|(key, &sockets)| (key, sockets)).collect();
        added.sort_unstable();
        let held = |netns, row| Held { netns, row, left: ByTimeLeft::default() };
        let mut rest = self.added_by_role;
        let mut newer = Vec::with_capacity(added.len() + Role::COUNT);
        for (&(netns, (role, endpoint, unit)), sockets) in added {
            rest[role.index()] -= sockets;
            newer.push(held(Some(netns), MakerRow { role, endpoint, unit, sockets }));
        }
        newer.extend(Role::ALL.map(|role| held(None, MakerRow::rest(role, rest[role.index()]))));
        let since = self.flows.last().and_then(|(began, _)| at.since(began)).unwrap_or(0);
        let mut departures = Departures { older: self.rows.clone(), newer, elapsed_ms: since / 1_000_000 };
        if let Some(by_netns) = by_netns {
            departures.fit_namespaces(by_netns);
        }
        let (mut rows, unseen) = departures.fit(total);
        rows.push(MakerRow::rest(Role::Unknown, unseen));
        rows
    }
}

/// A small socket that was known in `waiting` is no more.
fn forgotten(flows: &mut Flows, by: OwnedBy<Cgroup>, waiting: Substate) {
    match waiting {
        Substate::FinWait2 => flows.vanished(by),
        Substate::TimeWait => {}
    }
}

impl Counting<'_> {
    /// Counts a small socket and says whose it is.
    pub fn add(&mut self, socket: &SmallSocket) -> OwnedBy<Cgroup> {
        let (by, recalled) = self.makers.add(socket);
        match socket.substate {
            Substate::TimeWait => {
                self.standing += u64::from(recalled.is_none_or(|recalled| recalled.at < self.began));
                self.time_left.add(socket.remaining_ms);
            }
            Substate::FinWait2 => {
                self.turning.find(socket.netns, recalled.map(|recalled| recalled.at), socket.remaining_ms);
            }
        }
        if recalled.is_some_and(|recalled| recalled.turned) {
            self.flows.turned(by);
        }
        by
    }

    pub fn finish(self) -> Counted {
        Counted { by_maker: self.makers.finish(MAKERS_KEPT), standing: self.standing, time_left: self.time_left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::samples::FINISHED;

    #[test]
    fn makers_beyond_the_bound_keep_their_role() {
        const MAKERS: u16 = 10_000;
        let mut ledger = Ledger::new(usize::from(MAKERS));
        for dport in 1..=MAKERS {
            let tuple = Tuple { dport, ..FINISHED.tuple };
            ledger.finished(&Finished { tuple, ..FINISHED }, Role::Client);
        }
        let check = |total: u64, by_role: PerRole<u64>| {
            let mut counted = [0; Role::COUNT];
            ledger.makers(total, None, FINISHED.at).iter().for_each(|row| counted[row.role.index()] += row.sockets);
            assert_eq!(counted, by_role, "{total}");
        };
        let clients = |sockets, unknown| {
            let mut by_role = [0; Role::COUNT];
            by_role[Role::Client.index()] = sockets;
            by_role[Role::Unknown.index()] = unknown;
            by_role
        };
        check(10_000, clients(10_000, 0));
        check(10_007, clients(10_000, 7));
        check(9_000, clients(9_000, 0));
        check(0, clients(0, 0));
    }
}
