//! The watched namespaces: what was read in each, and sums that never go back when one of them goes.
//!
//! The kernel counts from the birth of a namespace and forgets with its end; so what each has grown by between two looks is added up.
//! What one counted between the last look and its end nobody knows. What a look leaves out stands as it stood.

use std::collections::{BTreeMap, VecDeque};

use crate::aggregate::{
    Candidate, Counted, EphemeralRange, HOST_NAMESPACE, NamespaceFigures, NamespaceRow, NetnsSockets, OTHER, PerState,
    Places, SmallSockets, fit,
};
use crate::event::{NetnsId, TcpState};
use crate::input::{HostFigures, NamespaceReading};

/// Namespaces remembered after they are gone: a look may have missed them, and then they go on where they were.
const GONE_LIMIT: usize = 1024;

/// What tells a namespace from a later one with its number.
pub type Identity = (NetnsId, Option<u64>);

/// A namespace, as of the last look.
#[derive(Clone, Debug)]
struct Living {
    cookie: Option<u64>,
    name: String,
    own: bool,
    host: HostFigures,
    range: Option<EphemeralRange>,
}

/// All of them.
pub struct Namespaces {
    places: Places<String, Counted>,
    living: BTreeMap<NetnsId, Living>,
    /// The oldest first.
    gone: VecDeque<(NetnsId, Living)>,
    /// Counters only.
    sums: HostFigures,
    /// Of the last census.
    small: BTreeMap<NetnsId, SmallSockets>,
    refused: u64,
}

/// What the rules of `diagnose` ask of one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceState<'a> {
    pub identity: Identity,
    pub name: &'a str,
    pub own: bool,
    pub small: SmallSockets,
    pub host: &'a HostFigures,
    pub ports_available: Option<u64>,
}

impl Namespaces {
    /// `places`: namespaces on a page.
    pub fn new(places: usize) -> Self {
        Self {
            places: Places::new(places),
            living: BTreeMap::new(),
            gone: VecDeque::new(),
            sums: HostFigures::default(),
            small: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Takes in a look into all of them. `full`: full sockets by namespace. Gives those that are gone since the last.
    pub fn take(&mut self, readings: &[NamespaceReading], refused: u64, full: Option<&NetnsSockets>) -> Vec<NetnsId> {
        let mut gone = Vec::new();
        self.refused = refused;
        let mut before = std::mem::take(&mut self.living);
        let mut grown = Vec::with_capacity(readings.len());
        for reading in readings {
            let last = match before.remove(&reading.id) {
                Some(old) if is_same(&old, reading) => {
                    if old.name != reading.name {
                        self.places.rename(&old.name, &reading.name);
                    }
                    Some(old)
                }
                Some(other) => {
                    gone.push(reading.id);
                    self.bury(reading.id, other);
                    self.exhume(reading)
                }
                None => self.exhume(reading),
            };
            let host = match &last {
                Some(last) => reading.host.or(last.host),
                None => reading.host,
            };
            grown.push((&reading.name, self.grow(last.as_ref().map(|last| last.host), host)));
            let range = range(reading).or(last.and_then(|last| last.range));
            let living = Living { cookie: reading.cookie, name: reading.name.clone(), own: reading.own, host, range };
            self.living.insert(reading.id, living);
        }
        for (id, old) in before {
            gone.push(id);
            self.bury(id, old);
        }
        self.choose(full);
        for (name, counted) in grown {
            self.places.count(name, counted);
        }
        gone
    }

    /// Adds what the counters grew by; gives what of it is shown by namespace.
    fn grow(&mut self, last: Option<HostFigures>, mut now: HostFigures) -> Counted {
        let mut last = last.unwrap_or_default();
        let mut grown = HostFigures::default();
        let counters = last.counters().into_iter().zip(now.counters()).zip(grown.counters()).zip(self.sums.counters());
        for (((last, now), grown), sum) in counters {
            if let Some(now) = *now {
                let more = now.saturating_sub(last.unwrap_or(0));
                *grown = Some(more);
                *sum = Some(sum.unwrap_or(0) + more);
            }
        }
        Counted {
            time_wait_overflows: grown.time_wait_overflows.unwrap_or(0),
            listen_overflows: grown.listen_overflows.unwrap_or(0),
            listen_drops: grown.listen_drops.unwrap_or(0),
        }
    }

    fn bury(&mut self, id: NetnsId, old: Living) {
        self.small.remove(&id);
        if self.gone.len() >= GONE_LIMIT {
            self.gone.pop_front();
        }
        self.gone.push_back((id, old));
    }

    /// What was last read in a namespace that had been taken for gone.
    fn exhume(&mut self, reading: &NamespaceReading) -> Option<Living> {
        let place = self.gone.iter().rposition(|(id, gone)| *id == reading.id && is_same(gone, reading))?;
        self.gone.remove(place).map(|(_, gone)| gone)
    }

    fn choose(&mut self, full: Option<&NetnsSockets>) {
        let mut weights: BTreeMap<NetnsId, u64> = BTreeMap::new();
        for (netns, row) in full.map_or(&[][..], NetnsSockets::rows) {
            *weights.entry(*netns).or_default() += row.iter().sum::<u64>();
        }
        let candidates: Vec<Candidate<'_, String>> = self
            .living
            .iter()
            .map(|(id, living)| {
                let small = self.small_of(*id, living);
                let weight = weights.get(id).copied().unwrap_or(0) + small.time_wait + small.fin_wait2;
                Candidate { key: &living.name, pinned: living.own || living.name == HOST_NAMESPACE, weight }
            })
            .collect();
        self.places.choose(&candidates);
    }

    /// Takes in what a census found of small sockets.
    pub fn take_census(&mut self, small: BTreeMap<NetnsId, SmallSockets>) {
        self.small = small;
    }

    /// Brings the FIN_WAIT2 sockets of each up to date, as far as that is known.
    pub fn age(&mut self, fin_wait2: impl Fn(NetnsId) -> u64) {
        for id in self.living.keys() {
            self.small.entry(*id).or_default().fin_wait2 = fin_wait2(*id);
        }
    }

    fn small_of(&self, id: NetnsId, living: &Living) -> SmallSockets {
        let counted = self.small.get(&id).copied().unwrap_or_default();
        living.host.time_wait.map_or(counted, |tw| counted.with_sockstat(tw))
    }

    /// Small sockets of all of them, now.
    pub fn small(&self) -> SmallSockets {
        let mut sum = SmallSockets::default();
        for (id, living) in &self.living {
            sum += self.small_of(*id, living);
        }
        sum
    }

    /// TIME_WAIT sockets of each, now.
    pub fn time_wait(&self) -> BTreeMap<NetnsId, u64> {
        self.living.iter().map(|(id, living)| (*id, self.small_of(*id, living).time_wait)).collect()
    }

    /// `own` with populations and counters of all namespaces.
    pub fn sum_up(&self, own: HostFigures) -> HostFigures {
        let mut host = own;
        let mut sums = self.sums;
        for (figure, sum) in host.counters().into_iter().zip(sums.counters()) {
            *figure = *sum;
        }
        host.time_wait = self.living.values().map(|living| living.host.time_wait).sum();
        host
    }

    /// The range of each, where it is known.
    pub fn ranges(&self) -> BTreeMap<NetnsId, EphemeralRange> {
        self.living.iter().filter_map(|(id, living)| Some((*id, living.range.clone()?))).collect()
    }

    pub fn states(&self) -> impl Iterator<Item = NamespaceState<'_>> {
        self.living.iter().map(|(id, living)| self.state_of(*id, living))
    }

    /// Of one of them.
    pub fn state(&self, id: NetnsId) -> Option<NamespaceState<'_>> {
        self.living.get(&id).map(|living| self.state_of(id, living))
    }

    fn state_of<'a>(&self, id: NetnsId, living: &'a Living) -> NamespaceState<'a> {
        NamespaceState {
            identity: (id, living.cookie),
            name: &living.name,
            own: living.own,
            small: self.small_of(id, living),
            host: &living.host,
            ports_available: living.range.as_ref().map(EphemeralRange::available),
        }
    }

    /// What the page shows. `totals`: sockets of the host; `fullest`: ports by namespace, of the last census.
    pub fn figures(
        &self,
        totals: &PerState<u64>,
        full: Option<&NetnsSockets>,
        fullest: Option<&BTreeMap<NetnsId, u64>>,
    ) -> NamespaceFigures {
        let mut rows: BTreeMap<&str, NamespaceRow> = self
            .places
            .shown()
            .map(|(name, counted)| {
                (name.as_str(), NamespaceRow { name: name.clone(), counted, ..NamespaceRow::default() })
            })
            .collect();
        let full: BTreeMap<NetnsId, &PerState<u64>> =
            full.map_or(&[][..], NetnsSockets::rows).iter().map(|(id, row)| (*id, row)).collect();
        for (id, living) in &self.living {
            let Some(row) = rows.get_mut(living.name.as_str()) else { continue };
            let none = [0; TcpState::COUNT];
            let all = self.small_of(*id, living).add_to(full.get(id).copied().unwrap_or(&none));
            row.sockets.iter_mut().zip(all).for_each(|(sum, sockets)| *sum += sockets);
            row.time_wait_limit = living.host.tcp_max_tw_buckets;
            row.ports_available = living.range.as_ref().map(EphemeralRange::available);
            row.ports_used = fullest.map(|fullest| fullest.get(id).copied().unwrap_or(0));
        }
        let mut rows: Vec<NamespaceRow> = rows.into_values().collect();
        let mut other =
            NamespaceRow { name: OTHER.to_owned(), counted: self.places.other(), ..NamespaceRow::default() };
        for (at, total) in totals.iter().enumerate() {
            other.sockets[at] = fit(rows.iter_mut().map(|row| &mut row.sockets[at]).collect(), *total);
        }
        rows.push(other);
        let watched = self.living.len() as u64;
        NamespaceFigures { rows, watched, refused: self.refused, folded: self.places.folded() }
    }
}

/// Before Linux 5.14 only counters tell a namespace from a later one with its number.
fn is_same(old: &Living, reading: &NamespaceReading) -> bool {
    old.cookie == reading.cookie && !went_back(old.host, reading.host)
}

fn went_back(mut last: HostFigures, mut now: HostFigures) -> bool {
    last.counters()
        .into_iter()
        .zip(now.counters())
        .any(|(last, now)| last.zip(*now).is_some_and(|(last, now)| now < last))
}

fn range(reading: &NamespaceReading) -> Option<EphemeralRange> {
    let (range, reserved) = reading.ports.as_ref()?;
    EphemeralRange::parse(range, reserved).ok()
}

#[cfg(test)]
#[path = "namespaces_tests.rs"]
mod tests;
