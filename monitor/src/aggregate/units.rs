//! Sockets by unit for the outside: a bounded number of names, the rest in `other`, columns that add up.

use std::collections::{BTreeMap, BTreeSet};

use super::PerState;
use crate::event::TcpState;

/// Names shown unless configured otherwise: with 12 states 720 series.
pub const UNITS_DEFAULT: usize = 60;
/// The name of the remainder.
pub const OTHER: &str = "other";

/// Whether sockets in this state have an owner: small TIME_WAIT sockets have none, in the two others there are no sockets.
pub fn is_owned(state: TcpState) -> bool {
    match state {
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Listen
        | TcpState::Closing => true,
        TcpState::TimeWait | TcpState::Close | TcpState::NewSynRecv => false,
    }
}

/// Cuts a column down to `total`, smallest first, so that what is too much falls to the largest; gives what is left of it.
pub fn fit(mut column: Vec<&mut u64>, total: u64) -> u64 {
    column.sort_by_key(|sockets| **sockets);
    let mut rest = total;
    for sockets in column {
        *sockets = rest.min(*sockets);
        rest -= *sockets;
    }
    rest
}

/// Decides which units have a name of their own. A name once shown stays, at 0 if need be, until a busier unit needs its place.
#[derive(Clone, Debug)]
pub struct Units {
    limit: usize,
    shown: BTreeSet<String>,
    /// Units with sockets that have no place now.
    folded: BTreeSet<String>,
    folded_total: u64,
}

impl Units {
    /// Shows at most `limit` names beside [`OTHER`].
    pub fn new(limit: usize) -> Self {
        Self { limit, shown: BTreeSet::new(), folded: BTreeSet::new(), folded_total: 0 }
    }

    /// How often a unit was folded into [`OTHER`] so far.
    pub fn folded_total(&self) -> u64 {
        self.folded_total
    }

    /// Groups `rows` (a name may come more than once) into the shown units, ordered by name, and [`OTHER`], last. For owned states the columns
    /// sum to `totals`; other states are 0. Where the rows exceed a total (records were lost since the last census) the largest gives way.
    pub fn fold(
        &mut self,
        rows: impl IntoIterator<Item = (String, PerState<u64>)>,
        totals: &PerState<u64>,
    ) -> Vec<(String, PerState<u64>)> {
        let mut units: BTreeMap<String, PerState<u64>> = BTreeMap::new();
        for (name, row) in rows {
            let sum = units.entry(name).or_insert([0; TcpState::COUNT]);
            for state in TcpState::ALL.into_iter().filter(|&state| is_owned(state)) {
                sum[state.index()] += row[state.index()];
            }
        }
        // What somebody named like the remainder is part of it.
        units.remove(OTHER);
        self.choose(&units);
        let mut page: Vec<_> = self
            .shown
            .iter()
            .map(|name| (name.clone(), units.get(name).copied().unwrap_or([0; TcpState::COUNT])))
            .collect();
        let mut other = [0; TcpState::COUNT];
        for state in TcpState::ALL.into_iter().filter(|&state| is_owned(state)) {
            let at = state.index();
            other[at] = fit(page.iter_mut().map(|(_, row)| &mut row[at]).collect(), totals[at]);
        }
        page.push((OTHER.to_owned(), other));
        page
    }

    /// Gives places to the units with the most sockets, and takes them only from units with fewer.
    fn choose(&mut self, units: &BTreeMap<String, PerState<u64>>) {
        let sockets = |name: &str| units.get(name).map_or(0, |row| row.iter().sum::<u64>());
        let mut waiting: Vec<&String> =
            units.keys().filter(|name| sockets(name) > 0 && !self.shown.contains(*name)).collect();
        waiting.sort_by_key(|name| std::cmp::Reverse(sockets(name)));
        let mut folded = BTreeSet::new();
        for name in waiting {
            if self.shown.len() >= self.limit {
                let least = self.shown.iter().min_by_key(|name| sockets(name)).cloned();
                match least.filter(|least| sockets(least) < sockets(name)) {
                    Some(least) => {
                        self.shown.remove(&least);
                        if sockets(&least) > 0 {
                            folded.insert(least);
                        }
                    }
                    None => {
                        folded.insert(name.clone());
                        continue;
                    }
                }
            }
            self.shown.insert(name.clone());
        }
        self.folded_total += folded.difference(&self.folded).count() as u64;
        self.folded = folded;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(state: TcpState, sockets: u64) -> PerState<u64> {
        let mut row = [0; TcpState::COUNT];
        row[state.index()] = sockets;
        row
    }

    /// Units with established sockets, and as many in all.
    fn fold(units: &mut Units, rows: &[(&str, u64)], total: u64) -> Vec<(String, u64)> {
        let rows = rows.iter().map(|&(name, sockets)| (name.to_owned(), row(TcpState::Established, sockets)));
        let page = units.fold(rows, &row(TcpState::Established, total));
        page.into_iter().map(|(name, row)| (name, row[TcpState::Established.index()])).collect()
    }

    #[test]
    fn the_busiest_units_have_names() {
        let mut units = Units::new(2);
        let mut check = |rows: &[(&str, u64)], total, expected: &[(&str, u64)], folded| {
            let page = fold(&mut units, rows, total);
            let page: Vec<_> = page.iter().map(|(name, sockets)| (name.as_str(), *sockets)).collect();
            assert_eq!((page.as_slice(), units.folded_total()), (expected, folded));
        };
        check(&[], 0, &[("other", 0)], 0);
        check(&[("b", 2), ("a", 1)], 3, &[("a", 1), ("b", 2), ("other", 0)], 0);
        // A name may come twice; an emptied unit keeps its place.
        check(&[("b", 2), ("b", 3)], 5, &[("a", 0), ("b", 5), ("other", 0)], 0);
        // Until somebody needs it.
        check(&[("b", 2), ("c", 1)], 3, &[("b", 2), ("c", 1), ("other", 0)], 0);
        // No place for the third; folded once, however often it is asked.
        check(&[("b", 2), ("c", 1), ("d", 1)], 4, &[("b", 2), ("c", 1), ("other", 1)], 1);
        check(&[("b", 2), ("c", 1), ("d", 1)], 4, &[("b", 2), ("c", 1), ("other", 1)], 1);
        // A busier one displaces it.
        check(&[("b", 2), ("c", 1), ("d", 3)], 6, &[("b", 2), ("d", 3), ("other", 1)], 2);
        // More in all than followed, and less.
        check(&[("b", 2), ("d", 3)], 9, &[("b", 2), ("d", 3), ("other", 4)], 2);
        check(&[("b", 2), ("d", 3)], 3, &[("b", 2), ("d", 1), ("other", 0)], 2);
        check(&[("other", 7), ("b", 1)], 8, &[("b", 1), ("d", 0), ("other", 7)], 2);
    }

    proptest! {
        #[test]
        fn columns_sum_to_the_totals(
            pages in prop::collection::vec((prop::collection::vec(("[a-f]", any::<[u16; 12]>()), 0..9), any::<[u32; 12]>()), 1..5),
            limit in 0usize..5,
        ) {
            let mut units = Units::new(limit);
            for (rows, totals) in pages {
                let totals = totals.map(u64::from);
                let page = units.fold(rows.into_iter().map(|(name, row)| (name, row.map(u64::from))), &totals);
                prop_assert!(page.len() <= limit + 1);
                prop_assert!(page[..page.len() - 1].is_sorted_by(|a, b| a.0 < b.0));
                for state in TcpState::ALL {
                    let sum: u64 = page.iter().map(|(_, row)| row[state.index()]).sum();
                    prop_assert_eq!(sum, if is_owned(state) { totals[state.index()] } else { 0 });
                }
            }
        }
    }
}
