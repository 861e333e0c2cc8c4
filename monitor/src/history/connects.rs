//! Connects by destination over some time: which failed and why, and how many did not.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;

use crate::diagnose::{Evidence, FailedConnects};
use crate::event::{CgroupId, Endpoint};
use crate::lifecycle::{ConnectFailure, Failed, Finished, Role, Wait};

/// Destinations and units of one reason that are told apart; what is beyond goes into one row without a destination.
const FAILED_LIMIT: usize = 32;
/// Pairs of source and destination whose finished connections are counted.
const FINISHED_LIMIT: usize = 512;
/// Destination of the row for what is beyond the bound.
const BEYOND: Endpoint = Endpoint { addr: [0; 16], port: 0 };

type FailedKey = (Endpoint, CgroupId);

/// Ends of active opens.
#[derive(Clone, Debug, Default)]
pub struct Connects {
    /// By [`ConnectFailure::index`].
    failed: [HashMap<FailedKey, u64>; ConnectFailure::COUNT],
    failed_beyond: [u64; ConnectFailure::COUNT],
    /// By source address and destination.
    finished: HashMap<([u8; 16], Endpoint), u64>,
    finished_beyond: u64,
    /// Small sockets that followed: all of them become TIME_WAIT sockets unless their peer never closes.
    waits: u64,
}

impl Connects {
    pub fn failed(&mut self, end: &Failed) {
        let key = (Endpoint { addr: end.tuple.daddr, port: end.tuple.dport }, end.cgroup);
        self.add_failed(end.reason.index(), key, 1);
    }

    pub fn finished(&mut self, end: &Finished) {
        match end.wait {
            Wait::TimeWait | Wait::FinWait2 => self.waits += 1,
            Wait::None => {}
        }
        if end.role == Role::Client {
            let key = (end.tuple.saddr, Endpoint { addr: end.tuple.daddr, port: end.tuple.dport });
            self.add_finished(key, 1);
        }
    }

    fn add_failed(&mut self, reason: usize, key: FailedKey, count: u64) {
        let table = &mut self.failed[reason];
        if table.len() < FAILED_LIMIT || table.contains_key(&key) {
            *table.entry(key).or_insert(0) += count;
        } else {
            self.failed_beyond[reason] += count;
        }
    }

    fn add_finished(&mut self, key: ([u8; 16], Endpoint), count: u64) {
        if self.finished.len() < FINISHED_LIMIT || self.finished.contains_key(&key) {
            *self.finished.entry(key).or_insert(0) += count;
        } else {
            self.finished_beyond += count;
        }
    }

    /// Adds what ended in another stretch of time. Within the bounds the busiest are kept.
    pub fn add(&mut self, other: &Self) {
        for reason in 0..ConnectFailure::COUNT {
            let mut rows: Vec<_> = other.failed[reason].iter().map(|(&key, &count)| (Reverse(count), key)).collect();
            rows.sort_unstable();
            rows.into_iter().for_each(|(Reverse(count), key)| self.add_failed(reason, key, count));
            self.failed_beyond[reason] += other.failed_beyond[reason];
        }
        other.finished.iter().for_each(|(&key, &count)| self.add_finished(key, count));
        self.finished_beyond += other.finished_beyond;
        self.waits += other.waits;
    }

    fn finished_to(&self, destination: Endpoint) -> u64 {
        self.finished.iter().filter(|((_, to), _)| *to == destination).map(|(_, count)| count).sum()
    }

    /// Puts in failed connects, and the rates that need a window.
    pub fn fill(
        &self,
        evidence: &mut Evidence,
        open_to: impl FnOnce(&[Endpoint]) -> Vec<u64>,
        name_unit: impl FnMut(CgroupId) -> String,
    ) {
        evidence.failures = Some(self.failures(open_to, name_unit));
        let Some(seconds) = evidence.window_seconds.filter(|seconds| *seconds > 0.0) else { return };
        evidence.time_wait_entered_per_second.get_or_insert(self.waits as f64 / seconds);
        for tuple in evidence.tuples.iter_mut().flatten() {
            let source = match tuple.source {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
            };
            let opened = self.finished.get(&(source, tuple.destination)).copied();
            // In the long run as many are opened as end.
            tuple.opens_per_second = tuple.opens_per_second.or(opened.map(|opened| opened as f64 / seconds));
        }
    }

    /// The most frequent first; those beyond the bound last.
    fn failures(
        &self,
        open_to: impl FnOnce(&[Endpoint]) -> Vec<u64>,
        mut name_unit: impl FnMut(CgroupId) -> String,
    ) -> Vec<FailedConnects> {
        let mut rows = Vec::new();
        for reason in ConnectFailure::ALL {
            for (&(destination, cgroup), &count) in &self.failed[reason.index()] {
                rows.push(FailedConnects { destination, reason, unit: name_unit(cgroup), count, opened: None });
            }
        }
        rows.sort_by(|a, b| {
            (b.count, a.destination, &a.unit, a.reason).cmp(&(a.count, b.destination, &b.unit, b.reason))
        });
        let destinations: Vec<_> = rows.iter().map(|row| row.destination).collect();
        for (row, open) in rows.iter_mut().zip(open_to(&destinations)) {
            let opened = open + self.finished_to(row.destination);
            // Beyond the bound of destinations none is proof of nothing.
            row.opened = (opened > 0 || self.finished_beyond == 0).then_some(opened);
        }
        for reason in ConnectFailure::ALL {
            let count = self.failed_beyond[reason.index()];
            if count > 0 {
                rows.push(FailedConnects { destination: BEYOND, reason, unit: "other".into(), count, opened: None });
            }
        }
        rows
    }
}
