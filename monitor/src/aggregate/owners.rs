//! A memory of whose a connection was, for the small sockets that outlive it and carry no owner.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::{fast, quality};

use crate::event::{KernelTime, NetnsId, Tuple};
use crate::lifecycle::Role;

/// Longest life of a small socket: 60 s in FIN_WAIT2 (longer ones stay full sockets), then 60 s in TIME_WAIT.
pub const LONGEST_NS: u64 = 120 * 1_000_000_000;

/// Who a connection was, noted when its full socket died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedBy<U> {
    pub role: Role,
    /// `None` when it could not be learnt.
    pub unit: Option<U>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<U> {
    at: KernelTime,
    by: OwnedBy<U>,
    seen: bool,
}

/// A bounded table by namespace and four-tuple.
///
/// It keeps 64-bit hashes instead of the 38 bytes of a tuple. With 400,000 entries and a secret seed the chance that any
/// two meet is below 1 in 100 million; the price would be one socket under a wrong name, never a wrong sum.
#[derive(Clone, Debug)]
pub struct Owners<U> {
    entries: HashMap<u64, Entry<U>, fast::RandomState>,
    hasher: quality::RandomState,
    capacity: usize,
    refused: u64,
}

impl<U: Copy> Owners<U> {
    /// `capacity`: connections remembered at once; about 32 bytes each with a 4-byte `U`.
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::default(), hasher: quality::RandomState::default(), capacity, refused: 0 }
    }

    /// Notes the owner of a connection that went to CLOSE at `at`. A later connection on the same tuple replaces it.
    /// When the table is full a new one is refused and counted: its small socket will show as unknown.
    pub fn remember(&mut self, netns: NetnsId, tuple: &Tuple, by: OwnedBy<U>, at: KernelTime) {
        let key = self.key(netns, tuple);
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.refused += 1;
            return;
        }
        self.entries.insert(key, Entry { at, by, seen: false });
    }

    /// The owner of a small socket that a census found, and a mark that it still lives.
    pub fn recall(&mut self, netns: NetnsId, tuple: &Tuple) -> Option<OwnedBy<U>> {
        let key = self.key(netns, tuple);
        let entry = self.entries.get_mut(&key)?;
        entry.seen = true;
        Some(entry.by)
    }

    /// After a complete census that began at `began`: forgets what it should have found and did not.
    /// Not to be called after one that failed or left a namespace out.
    pub fn settle(&mut self, began: KernelTime) {
        self.entries.retain(|_, entry| std::mem::take(&mut entry.seen) || entry.at >= began);
        self.shrink();
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

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

    fn tuple(sport: u16) -> Tuple {
        Tuple { sport, ..Tuple::UNKNOWN }
    }

    #[test]
    fn an_owner_is_found_by_namespace_and_tuple() {
        let mut owners = Owners::new(8);
        owners.remember(HERE, &tuple(1), BY, KernelTime(5));
        let mut check = |name, netns, tuple: &Tuple, found| assert_eq!(owners.recall(netns, tuple), found, "{name}");
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
        owners.remember(HERE, &tuple(1), BY, KernelTime(5));
        owners.remember(HERE, &tuple(1), later, KernelTime(6));
        assert_eq!((owners.recall(HERE, &tuple(1)), owners.refused()), (Some(later), 0));
    }

    #[test]
    fn a_full_table_refuses_and_counts() {
        let mut owners = Owners::new(2);
        (1..=5).for_each(|sport| owners.remember(HERE, &tuple(sport), BY, KernelTime(5)));
        assert_eq!((owners.len(), owners.refused()), (2, 3));
        assert_eq!(owners.recall(HERE, &tuple(3)), None);
    }

    #[test]
    fn a_census_forgets_what_it_did_not_find() {
        let check = |name, at, seen, kept| {
            let mut owners = Owners::new(8);
            owners.remember(HERE, &tuple(1), BY, KernelTime(at));
            if seen {
                owners.recall(HERE, &tuple(1));
            }
            owners.settle(KernelTime(10));
            assert_eq!(owners.len() == 1, kept, "{name}");
        };
        check("found", 5, true, true);
        check("not found", 5, false, false);
        check("died after the census began", 10, false, true);
        let mut owners = Owners::new(8);
        owners.remember(HERE, &tuple(1), BY, KernelTime(5));
        owners.recall(HERE, &tuple(1));
        owners.settle(KernelTime(10));
        owners.settle(KernelTime(20));
        assert!(owners.is_empty(), "found once is not found for ever");
    }

    #[test]
    fn a_sweep_forgets_what_no_socket_outlives() {
        let mut owners = Owners::new(8);
        owners.remember(HERE, &tuple(1), BY, KernelTime(5));
        owners.sweep(KernelTime(5 + LONGEST_NS));
        assert_eq!(owners.len(), 1);
        owners.sweep(KernelTime(6 + LONGEST_NS));
        assert!(owners.is_empty());
    }
}
