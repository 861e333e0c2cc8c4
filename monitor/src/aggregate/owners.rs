//! A memory of whose a connection was, for the small sockets that outlive it and carry no owner.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use foldhash::quality;

use super::makers::Substate;
use crate::event::{KernelTime, NetnsId, Tuple};
use crate::lifecycle::Role;

/// Longest life of a small socket: 60 s in FIN_WAIT2 (longer ones stay full sockets), then 60 s in TIME_WAIT.
pub const LONGEST_NS: u64 = 120 * 1_000_000_000;

/// Connections noted before they are filed all at once. Filed one by one, each would be fetched from main memory, since the
/// table is larger than the caches; in the order of their places many share what is fetched.
const NOTED: usize = 16_384;

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassThrough(u64);

impl Hasher for PassThrough {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Who a connection was, noted when its full socket died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedBy<U> {
    pub role: Role,
    /// `None` when it could not be learnt.
    pub unit: Option<U>,
}

/// What is remembered of a small socket that a census found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled<U> {
    pub by: OwnedBy<U>,
    /// When its full socket died.
    pub at: KernelTime,
    /// It was remembered as FIN_WAIT2 and is found in TIME_WAIT for the first time: that turn has no event.
    pub turned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry<U> {
    at: KernelTime,
    by: OwnedBy<U>,
    waiting: Substate,
    seen: bool,
}

/// A bounded table by namespace and four-tuple.
///
/// It keeps 64-bit hashes instead of the 38 bytes of a tuple. With 400,000 entries and a secret seed the chance that any
/// two meet is below 1 in 100 million; the price would be one socket under a wrong name, never a wrong sum.
#[derive(Clone, Debug)]
pub struct Owners<U> {
    entries: HashMap<u64, Entry<U>, BuildHasherDefault<PassThrough>>,
    /// Not in the table yet, oldest first.
    noted: Vec<(u64, Entry<U>)>,
    hasher: quality::RandomState,
    capacity: usize,
    refused: u64,
}

impl<U: Copy> Owners<U> {
    /// `capacity`: connections remembered at once; about 48 bytes each with an 8-byte `U`.
    pub fn new(capacity: usize) -> Self {
        let hasher = quality::RandomState::default();
        Self { entries: HashMap::default(), noted: Vec::new(), hasher, capacity, refused: 0 }
    }

    /// Notes the owner of a connection that went to CLOSE at `at` and left a small socket in `waiting`. Now and then the notes are
    /// filed, see [`Self::file`].
    pub fn remember(
        &mut self,
        netns: NetnsId,
        tuple: &Tuple,
        by: OwnedBy<U>,
        waiting: Substate,
        at: KernelTime,
        replaced: impl FnMut(OwnedBy<U>, Substate),
    ) {
        let key = self.key(netns, tuple);
        self.noted.push((key, Entry { at, by, waiting, seen: false }));
        if self.noted.len() >= NOTED {
            self.file(replaced);
        }
    }

    /// Files what was noted: to be called before anything is asked. A later connection on the same tuple replaces the earlier, which is
    /// handed to `replaced`. When the table is full a new one is refused and counted: its small socket will show as unknown.
    pub fn file(&mut self, mut replaced: impl FnMut(OwnedBy<U>, Substate)) {
        // The table's places go by the lower bits of the key; of the same key, the later must come later.
        let places = (self.entries.capacity() * 8 / 7).next_power_of_two() as u64 - 1;
        self.noted.sort_by_key(|(key, _)| key & places);
        for (key, entry) in self.noted.drain(..) {
            if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
                self.refused += 1;
            } else if let Some(before) = self.entries.insert(key, entry) {
                replaced(before.by, before.waiting);
            }
        }
    }

    /// What is known of a small socket that a census found in `waiting`, and a mark that it still lives.
    pub fn recall(&mut self, netns: NetnsId, tuple: &Tuple, waiting: Substate) -> Option<Recalled<U>> {
        let key = self.key(netns, tuple);
        let entry = self.entries.get_mut(&key)?;
        let turned = entry.waiting == Substate::FinWait2 && waiting == Substate::TimeWait;
        entry.seen = true;
        if turned {
            entry.waiting = waiting;
        }
        Some(Recalled { by: entry.by, at: entry.at, turned })
    }

    /// Whether the census that is not settled yet has found it.
    pub fn is_found(&self, netns: NetnsId, tuple: &Tuple) -> bool {
        self.entries.get(&self.key(netns, tuple)).is_some_and(|entry| entry.seen)
    }

    /// After a complete census that began at `began`: forgets what it should have found and did not, and hands it to `forgotten`.
    /// Gives the number of those in TIME_WAIT that died after `began`.
    /// Not to be called after one that failed or left a namespace out.
    pub fn settle(&mut self, began: KernelTime, mut forgotten: impl FnMut(OwnedBy<U>, Substate)) -> u64 {
        let mut late = 0;
        self.entries.retain(|_, entry| {
            let seen = std::mem::take(&mut entry.seen);
            let is_late = entry.at >= began;
            late += u64::from(is_late && entry.waiting == Substate::TimeWait);
            if !seen && !is_late {
                forgotten(entry.by, entry.waiting);
            }
            seen || is_late
        });
        self.shrink();
        late
    }

    /// Forgets what no small socket can outlive: for long gaps between censuses.
    pub fn sweep(&mut self, now: KernelTime) {
        self.entries.retain(|_, entry| now.since(entry.at).is_none_or(|age| age <= LONGEST_NS));
        self.shrink();
    }

    /// Gives memory back after a storm.
    fn shrink(&mut self) {
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Whether the next stranger will be refused.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Connections remembered; of those that are not filed yet, one on the same tuple as another counts as well.
    pub fn len(&self) -> usize {
        self.entries.len() + self.noted.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections that found the table full, so far.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The family is left out: it follows from the addresses, and the kernel's two kinds of sockets may differ in it.
    fn key(&self, netns: NetnsId, tuple: &Tuple) -> u64 {
        // As three integers: byte arrays would be hashed with their lengths, which takes twice as long.
        let rest = u64::from(netns.0) << 32 | u64::from(tuple.sport) << 16 | u64::from(tuple.dport);
        self.hasher.hash_one((u128::from_ne_bytes(tuple.saddr), u128::from_ne_bytes(tuple.daddr), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Family;

    const HERE: NetnsId = NetnsId(1);
    const BY: OwnedBy<u32> = OwnedBy { role: Role::Client, unit: Some(7) };

    /// Notes and files at once; what is replaced is given back.
    fn remember(
        owners: &mut Owners<u32>,
        sport: u16,
        by: OwnedBy<u32>,
        waiting: Substate,
        at: u64,
    ) -> Option<(OwnedBy<u32>, Substate)> {
        let mut found = None;
        owners.remember(HERE, &tuple(sport), by, waiting, KernelTime(at), |_, _| panic!("one note alone is not filed"));
        owners.file(|by, waiting| found = Some((by, waiting)));
        found
    }

    fn tuple(sport: u16) -> Tuple {
        Tuple { sport, ..Tuple::UNKNOWN }
    }

    fn owner(owners: &mut Owners<u32>, netns: NetnsId, tuple: &Tuple) -> Option<OwnedBy<u32>> {
        owners.recall(netns, tuple, Substate::TimeWait).map(|recalled| recalled.by)
    }

    #[test]
    fn a_turn_from_fin_wait2_is_told_once() {
        let mut owners = Owners::new(8);
        remember(&mut owners, 1, BY, Substate::FinWait2, 5);
        let mut check = |found, turned| {
            let recalled = owners.recall(HERE, &tuple(1), found);
            assert_eq!(recalled, Some(Recalled { by: BY, at: KernelTime(5), turned }));
        };
        check(Substate::FinWait2, false);
        check(Substate::TimeWait, true);
        check(Substate::TimeWait, false);
    }

    #[test]
    fn what_is_replaced_or_forgotten_is_given_back() {
        let mut owners = Owners::new(8);
        assert_eq!(remember(&mut owners, 1, BY, Substate::FinWait2, 5), None);
        let replaced = remember(&mut owners, 1, BY, Substate::TimeWait, 6);
        assert_eq!(replaced, Some((BY, Substate::FinWait2)));
        assert!(!owners.is_found(HERE, &tuple(1)));
        let mut forgotten = vec![];
        owners.settle(KernelTime(10), |by, waiting| forgotten.push((by, waiting)));
        assert_eq!(forgotten, [(BY, Substate::TimeWait)]);
    }

    #[test]
    fn an_owner_is_found_by_namespace_and_tuple() {
        let mut owners = Owners::new(8);
        remember(&mut owners, 1, BY, Substate::TimeWait, 5);
        let mut check =
            |name, netns, tuple: &Tuple, found| assert_eq!(owner(&mut owners, netns, tuple), found, "{name}");
        check("the same", HERE, &tuple(1), Some(BY));
        check("seen as another family", HERE, &Tuple { family: Family::Inet6, ..tuple(1) }, Some(BY));
        check("another port", HERE, &tuple(2), None);
        check("another namespace", NetnsId(2), &tuple(1), None);
        check("the other end", HERE, &Tuple { sport: 0, dport: 1, ..tuple(0) }, None);
    }

    #[test]
    fn a_later_connection_on_the_same_ports_replaces_the_owner() {
        let mut owners = Owners::new(1);
        let later = OwnedBy { role: Role::Server, unit: None };
        remember(&mut owners, 1, BY, Substate::TimeWait, 5);
        remember(&mut owners, 1, later, Substate::TimeWait, 6);
        assert_eq!((owner(&mut owners, HERE, &tuple(1)), owners.refused()), (Some(later), 0));
    }

    #[test]
    fn many_notes_are_filed_in_their_order() {
        let (mut owners, mut replaced) = (Owners::new(100_000), 0);
        for number in 0..3 * NOTED as u32 {
            let by = OwnedBy { role: Role::Client, unit: Some(number) };
            let tuple = tuple((number % 20_000) as u16);
            owners.remember(HERE, &tuple, by, Substate::TimeWait, KernelTime(5), |_, _| replaced += 1);
        }
        assert!(owners.noted.is_empty(), "{} are left", owners.noted.len());
        assert_eq!((owners.len(), replaced), (20_000, 3 * NOTED - 20_000));
        for sport in 0..20_000_u32 {
            let last = if sport + 40_000 < 3 * NOTED as u32 { sport + 40_000 } else { sport + 20_000 };
            assert_eq!(owner(&mut owners, HERE, &tuple(sport as u16)).and_then(|by| by.unit), Some(last));
        }
    }

    #[test]
    fn a_full_table_refuses_and_counts() {
        let mut owners = Owners::new(2);
        for sport in 1..=5 {
            remember(&mut owners, sport, BY, Substate::TimeWait, 5);
        }
        assert_eq!((owners.len(), owners.refused()), (2, 3));
        assert_eq!(owner(&mut owners, HERE, &tuple(3)), None);
    }

    #[test]
    fn a_census_forgets_what_it_did_not_find() {
        let check = |name, at, seen, kept| {
            let mut owners = Owners::new(8);
            remember(&mut owners, 1, BY, Substate::TimeWait, at);
            if seen {
                owner(&mut owners, HERE, &tuple(1));
            }
            owners.settle(KernelTime(10), |_, _| ());
            assert_eq!(owners.len() == 1, kept, "{name}");
        };
        check("found", 5, true, true);
        check("not found", 5, false, false);
        check("died after the census began", 10, false, true);
        let mut owners = Owners::new(8);
        remember(&mut owners, 1, BY, Substate::TimeWait, 5);
        owner(&mut owners, HERE, &tuple(1));
        owners.settle(KernelTime(10), |_, _| ());
        owners.settle(KernelTime(20), |_, _| ());
        assert!(owners.is_empty(), "found once is not found for ever");
    }

    #[test]
    fn a_sweep_forgets_what_no_socket_outlives() {
        let mut owners = Owners::new(8);
        remember(&mut owners, 1, BY, Substate::TimeWait, 5);
        owners.sweep(KernelTime(5 + LONGEST_NS));
        assert_eq!(owners.len(), 1);
        owners.sweep(KernelTime(6 + LONGEST_NS));
        assert!(owners.is_empty());
    }
}
