//! Who of the makers has lost sockets since the census: those first whose time is over.

use std::collections::BTreeMap;

use super::flows::Cgroup;
use crate::aggregate::{ByTimeLeft, Held, MakerRow, share};
use crate::event::NetnsId;

/// Makers of a census, and of what came since.
pub struct Departures {
    pub older: Vec<Held<Cgroup>>,
    pub newer: Vec<Held<Cgroup>>,
    /// Milliseconds since the census.
    pub elapsed_ms: u64,
}

impl Departures {
    /// Cuts the rows of each namespace to the sockets that it has: none when it is gone. Rows that belong to none stay.
    pub fn fit_namespaces(&mut self, totals: &BTreeMap<NetnsId, u64>) {
        let mut known: BTreeMap<NetnsId, u64> = BTreeMap::new();
        for held in self.older.iter().chain(&self.newer) {
            if let Some(netns) = held.netns {
                *known.entry(netns).or_default() += held.row.sockets;
            }
        }
        for (netns, sockets) in known {
            let total = totals.get(&netns).copied().unwrap_or(0);
            self.cut(sockets.saturating_sub(total), |held| held.netns == Some(netns));
        }
    }

    /// Cuts all rows to `total`; gives them, and how many sockets are in none.
    pub fn fit(mut self, total: u64) -> (Vec<MakerRow<Cgroup>>, u64) {
        let known: u64 = self.older.iter().chain(&self.newer).map(|held| held.row.sockets).sum();
        self.cut(known.saturating_sub(total), |_| true);
        let rows = self.older.into_iter().chain(self.newer).map(|held| held.row);
        (rows.collect(), total.saturating_sub(known))
    }

    /// Takes `gone` sockets from the rows that `is_hit` names: in the order in which their time is over, as far as it is over; then from
    /// all that the census met, since connect() takes them over whatever their time; then from the newer. Always in proportion.
    fn cut(&mut self, gone: u64, is_hit: impl Fn(&Held<Cgroup>) -> bool) {
        let mut gone = gone;
        let mut older: Vec<&mut Held<Cgroup>> = self.older.iter_mut().filter(|held| is_hit(held)).collect();
        for step in 0..=ByTimeLeft::step(self.elapsed_ms) {
            gone -= take(gone, &mut older, |held| held.left.of_step(step).min(held.row.sockets));
        }
        gone -= take(gone, &mut older, |held| held.row.sockets);
        let mut newer: Vec<&mut Held<Cgroup>> = self.newer.iter_mut().filter(|held| is_hit(held)).collect();
        take(gone, &mut newer, |held| held.row.sockets);
    }
}

/// Takes `gone` in proportion to `weight`, which is at most what a row has; gives how many it got.
fn take(gone: u64, rows: &mut [&mut Held<Cgroup>], weight: impl Fn(&Held<Cgroup>) -> u64) -> u64 {
    if gone == 0 {
        return 0;
    }
    let weights: Vec<u64> = rows.iter().map(|held| weight(held)).collect();
    let parts = share(gone, &weights);
    for (held, part) in rows.iter_mut().zip(&parts) {
        held.row.sockets -= part;
    }
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Tally, Unit};
    use crate::lifecycle::Role;

    /// Of a namespace: sockets with so many seconds left.
    fn held(netns: u32, lots: &[(u32, u32)]) -> Held<Cgroup> {
        let mut left = ByTimeLeft::default();
        for &(seconds, sockets) in lots {
            (0..sockets).for_each(|_| left.add(ByTimeLeft::one(seconds * 1000)));
        }
        let row = MakerRow { role: Role::Client, endpoint: None, unit: Unit::Unknown, sockets: left.weight() };
        Held { netns: Some(NetnsId(netns)), row, left }
    }

    fn rows(departures: Departures, total: u64) -> (Vec<u64>, u64) {
        let (rows, unseen) = departures.fit(total);
        (rows.iter().map(|row| row.sockets).collect(), unseen)
    }

    #[test]
    fn whose_time_is_over_goes_first() {
        let api = || held(1, &[(1, 3000), (58, 100)]);
        let web = || held(1, &[(41, 1000)]);
        let check = |elapsed_ms, total, expected: &[u64], unseen| {
            let departures = Departures { older: vec![api(), web()], newer: vec![held(1, &[(60, 50)])], elapsed_ms };
            assert_eq!(rows(departures, total), (expected.to_vec(), unseen), "{elapsed_ms} ms, {total}");
        };
        check(0, 4150, &[3100, 1000, 50], 0);
        check(2_000, 2150, &[1100, 1000, 50], 0);
        check(2_000, 1150, &[100, 1000, 50], 0);
        // More than that went before its time.
        check(2_000, 600, &[50, 500, 50], 0);
        check(2_000, 20, &[0, 0, 20], 0);
        check(45_000, 150, &[100, 0, 50], 0);
        check(2_000, 4200, &[3100, 1000, 50], 50);
    }

    #[test]
    fn a_namespace_that_is_gone_takes_its_rows_along() {
        let check = |totals: &[(u32, u64)], expected: &[u64]| {
            let mut departures =
                Departures { older: vec![held(1, &[(50, 900)]), held(2, &[(50, 800)])], newer: vec![], elapsed_ms: 0 };
            let totals: BTreeMap<_, _> = totals.iter().map(|&(netns, total)| (NetnsId(netns), total)).collect();
            departures.fit_namespaces(&totals);
            assert_eq!(rows(departures, totals.values().sum()), (expected.to_vec(), 0), "{totals:?}");
        };
        check(&[(1, 900), (2, 800)], &[900, 800]);
        check(&[(2, 800)], &[0, 800]);
        check(&[(1, 850), (2, 800)], &[850, 800]);
        check(&[], &[0, 0]);
    }
}
