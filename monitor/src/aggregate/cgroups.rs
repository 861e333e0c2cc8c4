//! Followed sockets by cgroup or namespace, and state: the sum of the tracker's moves.

use std::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::PerState;
use crate::event::{CgroupId, NetnsId, TcpState};

/// Rows kept before empty ones are looked for; after that, twice the number then in use.
const ROWS_MIN: usize = 1024;
/// Keys remembered as new until somebody asks.
const NEW_LIMIT: usize = 4096;

/// One row a key that has sockets, so never more than the tracker follows. Empty rows go when room is needed.
#[derive(Clone, Debug)]
pub struct SocketsBy<K> {
    rows: Vec<(K, PerState<u64>)>,
    places: HashMap<K, usize, FixedState>,
    /// Place of the row that moved last: moves come in bursts of one key.
    last: usize,
    sweep_at: usize,
    new: Vec<K>,
}

/// By the cgroup of the socket.
pub type CgroupSockets = SocketsBy<CgroupId>;
/// By the network namespace.
pub type NetnsSockets = SocketsBy<NetnsId>;

impl<K> Default for SocketsBy<K> {
    fn default() -> Self {
        Self { rows: Vec::new(), places: HashMap::default(), last: 0, sweep_at: ROWS_MIN, new: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash> SocketsBy<K> {
    /// Takes in one move of a followed socket.
    pub fn apply(&mut self, key: K, from: Option<TcpState>, to: Option<TcpState>) {
        let place = self.place(key);
        let Some((_, row)) = self.rows.get_mut(place) else { return };
        if let Some(from) = from {
            row[from.index()] = row[from.index()].saturating_sub(1);
        }
        if let Some(to) = to {
            row[to.index()] += 1;
        }
    }

    fn place(&mut self, key: K) -> usize {
        if self.rows.get(self.last).is_some_and(|(last, _)| *last == key) {
            return self.last;
        }
        self.last = match self.places.get(&key) {
            Some(&place) => place,
            None => self.add(key),
        };
        self.last
    }

    #[cold]
    fn add(&mut self, key: K) -> usize {
        if self.rows.len() >= self.sweep_at {
            self.rows.retain(|(_, row)| row.iter().any(|&sockets| sockets > 0));
            self.places = self.rows.iter().enumerate().map(|(place, (key, _))| (*key, place)).collect();
            self.sweep_at = (2 * self.rows.len()).max(ROWS_MIN);
        }
        if self.new.len() < NEW_LIMIT {
            self.new.push(key);
        }
        self.rows.push((key, [0; TcpState::COUNT]));
        self.places.insert(key, self.rows.len() - 1);
        self.rows.len() - 1
    }

    /// Keys met since the last call (at most 4096): a cgroup can be named only while its directory is still there.
    pub fn take_new(&mut self) -> impl Iterator<Item = K> {
        self.new.drain(..)
    }

    /// Whether [`Self::take_new`] has any.
    pub fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Over all keys.
    pub fn sum(&self) -> PerState<u64> {
        let mut sum = [0; TcpState::COUNT];
        for (_, row) in &self.rows {
            sum.iter_mut().zip(row).for_each(|(sum, sockets)| *sum += sockets);
        }
        sum
    }

    /// In order of first sight.
    pub fn rows(&self) -> &[(K, PerState<u64>)] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_and_empty_ones_make_room() {
        let mut cgroups = CgroupSockets::default();
        let (born, ended) = (Some(TcpState::SynSent), Some(TcpState::Established));
        cgroups.apply(CgroupId(0), None, born);
        cgroups.apply(CgroupId(0), born, ended);
        for number in 1..=3000 {
            cgroups.apply(CgroupId(number), None, born);
            cgroups.apply(CgroupId(number), born, None);
        }
        assert!(cgroups.rows().len() <= ROWS_MIN);
        let mut expected = [0; TcpState::COUNT];
        expected[TcpState::Established.index()] = 1;
        assert_eq!(cgroups.rows()[0], (CgroupId(0), expected));
        assert_eq!(cgroups.take_new().count(), 3001);
        assert_eq!(cgroups.take_new().count(), 0);
    }

    #[test]
    fn a_move_out_of_nothing_stays_at_zero() {
        let mut cgroups = CgroupSockets::default();
        cgroups.apply(CgroupId(1), Some(TcpState::Established), None);
        assert_eq!(cgroups.rows(), [(CgroupId(1), [0; TcpState::COUNT])]);
    }
}
