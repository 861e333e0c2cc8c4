//! TIME_WAIT and small FIN_WAIT2 sockets by maker: role, endpoint and unit, with the time that is left of them.

use std::hash::Hash;

use super::listening::Listening;
use super::owners::{OwnedBy, Owners, Recalled};
use super::ports::EphemeralRanges;
use super::snapshot::PerRole;
use super::time_left::ByTimeLeft;
use super::top::{Tally, TopK};
use crate::event::{Endpoint, NetnsId, Tuple};
use crate::lifecycle::Role;

/// Milliseconds; upper bounds, inclusive, of the time left. Disjoint. What is longer counts as the last.
pub const REMAINING_MS: [u32; 6] = [10_000, 20_000, 30_000, 40_000, 50_000, 60_000];

/// The two kinds of small sockets; the kernel calls it the substate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Substate {
    TimeWait,
    FinWait2,
}

/// One small socket of a census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallSocket {
    pub netns: NetnsId,
    pub tuple: Tuple,
    pub substate: Substate,
    /// Milliseconds until its timer ends it.
    pub remaining_ms: u32,
}

/// To whom sockets are attributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit<U> {
    Known(U),
    /// The connection died before the daemon looked, or the memory was full.
    Unknown,
    /// All that were folded together.
    Other,
}

/// Sockets of one maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MakerRow<U> {
    pub role: Role,
    /// Client: the remote end. Server: the local end. `None`: folded together, or the role is unknown and so is the end.
    pub endpoint: Option<Endpoint>,
    pub unit: Unit<U>,
    pub sockets: u64,
}

impl<U> MakerRow<U> {
    /// All others of a role.
    pub fn rest(role: Role, sockets: u64) -> Self {
        Self { role, endpoint: None, unit: Unit::Other, sockets }
    }
}

/// Sockets of one maker as a census met them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<U> {
    /// `None`: of all namespaces together.
    pub netns: Option<NetnsId>,
    pub row: MakerRow<U>,
    pub left: ByTimeLeft,
}

/// All sockets of one substate by maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Population<U> {
    /// The largest first, then one row a role for the rest, with [`Unit::Other`]. Sums to `total` exactly. One maker in several namespaces
    /// has a row in each.
    pub rows: Vec<Held<U>>,
    pub total: u64,
    /// Makers folded into the rest.
    pub folded: u64,
}

/// The small sockets of one census.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallByMaker<U> {
    pub time_wait: Population<U>,
    pub fin_wait2: Population<U>,
}

/// Role, endpoint and unit of a maker.
pub type MakerKey<U> = (Role, Option<Endpoint>, Unit<U>);

/// The end by which a maker goes: the remote one of a client, the local one of a server; of an unknown role none.
pub fn endpoint_of(role: Role, tuple: &Tuple) -> Option<Endpoint> {
    match role {
        Role::Client => Some(tuple.destination()),
        Role::Server => Some(tuple.source()),
        Role::Unknown => None,
    }
}

struct Counting<U> {
    top: TopK<(NetnsId, MakerKey<U>), ByTimeLeft>,
    by_role: PerRole<ByTimeLeft>,
}

impl<U: Copy + Ord + Hash> Counting<U> {
    fn finish(self, k: usize) -> Population<U> {
        let top = self.top.finish(k);
        let mut rest = self.by_role;
        let mut rows: Vec<Held<U>> = vec![];
        for ((netns, (role, endpoint, unit)), left) in top.entries {
            rest[role.index()].subtract(left);
            let row = MakerRow { role, endpoint, unit, sockets: left.weight() };
            rows.push(Held { netns: Some(netns), row, left });
        }
        // Always there, so that a series that empties reads 0.
        rows.extend(Role::ALL.map(|role| {
            let left = rest[role.index()];
            Held { netns: None, row: MakerRow::rest(role, left.weight()), left }
        }));
        Population { rows, total: top.total, folded: top.folded }
    }
}

/// Counts the small sockets of one census.
pub struct Makers<'a, U> {
    owners: &'a mut Owners<U>,
    listening: &'a Listening,
    ranges: &'a EphemeralRanges,
    time_wait: Counting<U>,
    fin_wait2: Counting<U>,
}

impl<'a, U: Copy + Ord + Hash> Makers<'a, U> {
    /// `listening`: of the same census. `ranges`: of the watched namespaces, where known. `capacity`: makers held at once.
    pub fn new(
        owners: &'a mut Owners<U>,
        listening: &'a Listening,
        ranges: &'a EphemeralRanges,
        capacity: usize,
    ) -> Self {
        let counting = || Counting { top: TopK::new(capacity), by_role: Default::default() };
        Self { owners, listening, ranges, time_wait: counting(), fin_wait2: counting() }
    }

    /// Counts one socket, and says to whom it was attributed: what [`super::Ports`] and [`super::Inbound`] ask for. Besides, what was
    /// remembered of it.
    pub fn add(&mut self, socket: &SmallSocket) -> (OwnedBy<U>, Option<Recalled<U>>) {
        let recalled = self.owners.recall(socket.netns, &socket.tuple, socket.substate);
        let remembered = recalled.map(|recalled| recalled.by);
        let role = match remembered.map(|by| by.role) {
            Some(role @ (Role::Client | Role::Server)) => role,
            Some(Role::Unknown) | None => {
                self.listening.role_of(socket.netns, &socket.tuple, self.ranges.of(socket.netns))
            }
        };
        let by = OwnedBy { role, unit: remembered.and_then(|by| by.unit) };
        let endpoint = endpoint_of(role, &socket.tuple);
        let counting = match socket.substate {
            Substate::TimeWait => &mut self.time_wait,
            Substate::FinWait2 => &mut self.fin_wait2,
        };
        let (key, left) =
            ((role, endpoint, by.unit.map_or(Unit::Unknown, Unit::Known)), ByTimeLeft::one(socket.remaining_ms));
        counting.by_role[role.index()].add(left);
        counting.top.add((socket.netns, key), left);
        (by, recalled)
    }

    /// The `k` largest makers of each substate.
    pub fn finish(self, k: usize) -> SmallByMaker<U> {
        SmallByMaker { time_wait: self.time_wait.finish(k), fin_wait2: self.fin_wait2.finish(k) }
    }
}

#[cfg(test)]
#[path = "makers_tests.rs"]
mod tests;
