//! The figures of a snapshot: makers, ports and listeners with names, as many as a page has room for.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use super::by_cause::ByCause;
use super::closes::Closes;
use super::flows::{By, Cgroup};
use super::time_wait::Ledger;
use super::view::View;
use crate::aggregate::{
    CloseFigures, CloseRow, Closed, EphemeralRange, Figures, ListenFigures, ListenerRow, MakerRow, OTHER, PerRole,
    PortFigures, PortRow, Ranked, Sticky, Tally, TimeWaitFigures, TimeWaitRow, Unit,
};
use crate::config::EndpointDetail;
use crate::event::{CgroupId, Endpoint, KernelTime, NetnsId};
use crate::input::HostFigures;
use crate::lifecycle::Role;

/// The label of what could not be learnt.
const UNKNOWN: &str = "unknown";

/// What is remembered from page to page.
pub struct Pages {
    top: usize,
    detail: EndpointDetail,
    makers: Sticky<(Role, String, String)>,
    ports: Sticky<(String, String)>,
    /// A counter cannot change its name: who came first keeps its place.
    entered: BTreeMap<String, PerRole<u64>>,
    entered_other: PerRole<u64>,
    /// By endpoint and unit.
    closes: Ranked<(String, String), Closed>,
    /// By destination.
    no_port: Ranked<String, u64>,
}

/// What the figures are made of.
pub struct Sources<'a> {
    pub ledger: &'a mut Ledger,
    pub closes: &'a mut Closes,
    pub view: &'a View,
    pub range: Option<&'a EphemeralRange>,
    pub host: &'a HostFigures,
    pub by_cause: &'a ByCause,
    /// TIME_WAIT sockets now.
    pub time_wait: u64,
    /// The same by namespace, where all are watched.
    pub time_wait_by_netns: Option<BTreeMap<NetnsId, u64>>,
    /// Now.
    pub at: KernelTime,
}

impl Pages {
    /// `top`: rows of a metric before `other`.
    pub fn new(top: usize, detail: EndpointDetail) -> Self {
        Self {
            top,
            detail,
            makers: Sticky::new(top),
            ports: Sticky::new(top),
            entered: BTreeMap::new(),
            entered_other: [0; Role::COUNT],
            closes: Ranked::new(top),
            no_port: Ranked::new(top),
        }
    }

    /// Rows beyond a smaller `top` go to the remainder, with what they counted.
    pub fn set_top(&mut self, top: usize) {
        self.top = top;
        self.makers.set_places(top);
        self.ports.set_places(top);
        self.closes.set_limit(top);
        self.no_port.set_limit(top);
        while self.entered.len() > top {
            let least = self.entered.iter().min_by_key(|(_, counts)| counts.iter().sum::<u64>());
            let Some(counts) = least.map(|(name, _)| name.clone()).and_then(|name| self.entered.remove(&name)) else {
                break;
            };
            self.entered_other.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// What is on the page already names no more than `detail` either: counters go on under the shorter name, so that none goes back. A
    /// short name cannot be made longer; such rows give way to whoever needs their place.
    pub fn set_detail(&mut self, detail: EndpointDetail) {
        let before = std::mem::replace(&mut self.detail, detail);
        if detail == before {
            return;
        }
        self.makers.forget();
        self.ports.forget();
        self.closes.rename_all(|(endpoint, unit)| (shorten(detail, endpoint), unit.clone()));
        self.no_port.rename_all(|destination| shorten(detail, destination));
        if detail < before {
            self.closes.forget_candidates();
            self.no_port.forget_candidates();
        }
    }

    /// `name_unit`: the unit of a cgroup.
    pub fn figures(&mut self, sources: Sources<'_>, name_unit: &mut impl FnMut(CgroupId) -> String) -> Figures {
        let Sources { ledger, closes, view, range, host, by_cause, time_wait, time_wait_by_netns, at } = sources;
        self.take_closes(closes, name_unit);
        let mut names = |unit| unit_label(unit, name_unit);
        let makers = ledger.makers(time_wait, time_wait_by_netns.as_ref(), at);
        let (rows, folded) = self.makers(&makers, ledger.folded(), &mut names);
        self.name_entered(ledger.flows.take_entered(), &mut names);
        let entered = self.entered.iter().map(|(name, counts)| (name.clone(), *counts));
        let entered = entered.chain([(OTHER.to_owned(), self.entered_other)]).collect();
        Figures {
            time_wait: TimeWaitFigures {
                rows,
                folded,
                remaining: ledger.remaining(time_wait, at),
                entered,
                left: by_cause.left().unwrap_or_else(|| ledger.flows.left()),
                limit: host.tcp_max_tw_buckets,
                overflows: host.time_wait_overflows,
            },
            closes: self.closes(),
            ports: self.ports(view, range),
            listen: self.listeners(view, host),
            close_wait_oldest: self.close_wait_oldest(view, name_unit),
            owners_refused: ledger.owners.refused(),
            namespaces: None,
        }
    }

    fn makers(
        &mut self,
        makers: &[MakerRow<Cgroup>],
        folded: u64,
        name: &mut impl FnMut(Unit<Cgroup>) -> String,
    ) -> (Vec<TimeWaitRow>, u64) {
        let mut rest = [0; Role::COUNT];
        let mut merged: BTreeMap<(Role, String, String), u64> = BTreeMap::new();
        for row in makers {
            rest[row.role.index()] += row.sockets;
            let endpoint = match (row.endpoint, row.unit) {
                (_, Unit::Other) => continue,
                (None, Unit::Known(_) | Unit::Unknown) => UNKNOWN.to_owned(),
                (Some(endpoint), Unit::Known(_) | Unit::Unknown) => endpoint_label(self.detail, endpoint),
            };
            if row.sockets > 0 {
                *merged.entry((row.role, endpoint, name(row.unit))).or_default() += row.sockets;
            }
        }
        let mut largest: Vec<_> = merged.into_iter().collect();
        largest.sort_by_key(|(_, sockets)| std::cmp::Reverse(*sockets));
        let folded = folded + largest.len().saturating_sub(self.top) as u64;
        let mut rows = Vec::with_capacity(self.top + Role::COUNT);
        for ((role, endpoint, unit), sockets) in self.makers.page(largest) {
            rest[role.index()] -= sockets;
            rows.push(TimeWaitRow { role, endpoint, unit, sockets });
        }
        rows.extend(Role::ALL.map(|role| TimeWaitRow {
            role,
            endpoint: OTHER.to_owned(),
            unit: OTHER.to_owned(),
            sockets: rest[role.index()],
        }));
        (rows, folded)
    }

    fn name_entered(&mut self, entered: BTreeMap<By, u64>, name: &mut impl FnMut(Unit<Cgroup>) -> String) {
        for ((role, unit), count) in entered {
            let name = name(unit);
            let counts = if name == OTHER || (self.entered.len() >= self.top && !self.entered.contains_key(&name)) {
                &mut self.entered_other
            } else {
                self.entered.entry(name).or_default()
            };
            counts[role.index()] += count;
        }
    }

    /// A maker that is called like the remainder is part of it.
    fn take_closes(&mut self, closes: &mut Closes, name_unit: &mut impl FnMut(CgroupId) -> String) {
        let grown = closes.take();
        let mut merged: BTreeMap<(String, String), Closed> = BTreeMap::new();
        let mut elsewhere = grown.closed_elsewhere;
        for ((endpoint, cgroup), closed) in grown.closed {
            let endpoint =
                endpoint.map_or_else(|| UNKNOWN.to_owned(), |endpoint| endpoint_label(self.detail, endpoint));
            let unit = if cgroup.0 == 0 { UNKNOWN.to_owned() } else { name_unit(cgroup) };
            if unit == OTHER { elsewhere.add(closed) } else { merged.entry((endpoint, unit)).or_default().add(closed) }
        }
        self.closes.take(merged, elsewhere);
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        for (destination, count) in grown.no_port {
            *failures.entry(endpoint_label(self.detail, destination)).or_default() += count;
        }
        self.no_port.take(failures, grown.no_port_elsewhere);
    }

    fn closes(&self) -> CloseFigures {
        let places = self.closes.places();
        let row = |((endpoint, unit), closed): (&(String, String), Closed)| CloseRow {
            endpoint: endpoint.clone(),
            unit: unit.clone(),
            closed,
        };
        let other = CloseRow { endpoint: OTHER.to_owned(), unit: OTHER.to_owned(), closed: places.other() };
        CloseFigures { rows: places.shown().map(row).chain([other]).collect(), folded: places.folded() }
    }

    fn failures(&self) -> (Vec<(String, u64)>, u64) {
        let places = self.no_port.places();
        let shown = places.shown().map(|(destination, count)| (destination.clone(), count));
        (shown.chain([(OTHER.to_owned(), places.other())]).collect(), places.folded())
    }

    fn ports(&mut self, view: &View, range: Option<&EphemeralRange>) -> PortFigures {
        let available = range.map(EphemeralRange::available);
        let (failures, failures_folded) = self.failures();
        let Some(usage) = &view.ports else {
            return PortFigures { available, failures, failures_folded, ..PortFigures::default() };
        };
        // Where rows read alike the fullest counts: a sum over destinations says nothing about a range that each has to itself.
        let mut merged: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (key, tally) in &usage.tuples.entries {
            let key = (address_label(self.detail, key.source), endpoint_label(self.detail, key.destination));
            let used = merged.entry(key).or_default();
            *used = (*used).max(tally.used);
        }
        let mut fullest: Vec<_> = merged.into_iter().collect();
        fullest.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        let folded = usage.tuples.folded + fullest.len().saturating_sub(self.top) as u64;
        let rows = self.ports.page(fullest).into_iter();
        let rows = rows.map(|((source, destination), used)| PortRow { source, destination, used }).collect();
        PortFigures { rows, folded, available, failures, failures_folded }
    }

    fn listeners(&self, view: &View, host: &HostFigures) -> ListenFigures {
        let mut merged: BTreeMap<String, ListenerRow> = BTreeMap::new();
        let add = |row: &mut ListenerRow, (backlog, limit, half_open)| {
            row.backlog += backlog;
            row.limit += limit;
            row.half_open += half_open;
        };
        for (&(_, endpoint), listen) in &view.listeners {
            let row = merged.entry(endpoint_label(self.detail, endpoint)).or_default();
            add(row, (listen.backlog, listen.limit, listen.half_open));
        }
        let rows = merged.into_iter().map(|(listener, row)| ListenerRow { listener, ..row });
        let mut rows: Vec<_> = rows.collect();
        // By the share of the queue in use, compared as fractions.
        rows.sort_by(|a, b| {
            let share = |x: &ListenerRow, y: &ListenerRow| u128::from(x.backlog) * u128::from(y.limit.max(1));
            share(b, a).cmp(&share(a, b)).then(b.half_open.cmp(&a.half_open)).then(a.listener.cmp(&b.listener))
        });
        let folded: Vec<_> = rows.split_off(rows.len().min(self.top));
        let mut other = ListenerRow { listener: OTHER.to_owned(), ..ListenerRow::default() };
        add(&mut other, (view.other_listeners.backlog, view.other_listeners.limit, view.other_listeners.half_open));
        folded.iter().for_each(|row| add(&mut other, (row.backlog, row.limit, row.half_open)));
        rows.push(other);
        let folded = view.listeners_folded + folded.len() as u64;
        ListenFigures { rows, folded, overflows: host.listen_overflows, drops: host.listen_drops }
    }

    /// The oldest first come to the page; those beyond it are in `other`, with the oldest of them.
    fn close_wait_oldest(&self, view: &View, name_unit: &mut impl FnMut(CgroupId) -> String) -> Vec<(String, f64)> {
        let mut oldest = BTreeMap::new();
        for (&cgroup, held) in &view.close_wait {
            let since = oldest.entry(name_unit(cgroup)).or_insert(held.oldest);
            *since = (*since).min(held.oldest);
        }
        let mut rows: Vec<_> = oldest.into_iter().collect();
        rows.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        let rest = rows.split_off(rows.len().min(self.top));
        let mut rows: Vec<_> = rows.into_iter().map(|(name, since)| (name, view.unix_seconds(since))).collect();
        // A unit may be called like the remainder; a series must not come twice.
        if let Some((_, since)) = rest.first().filter(|_| rows.iter().all(|(name, _)| name != OTHER)) {
            rows.push((OTHER.to_owned(), view.unix_seconds(*since)));
        }
        rows
    }
}

fn unit_label(unit: Unit<Cgroup>, name_unit: &mut impl FnMut(CgroupId) -> String) -> String {
    match unit {
        Unit::Known(cgroup) => name_unit(CgroupId(cgroup.get())),
        Unit::Unknown => UNKNOWN.to_owned(),
        Unit::Other => OTHER.to_owned(),
    }
}

/// As much of an endpoint as the page may name.
fn endpoint_label(detail: EndpointDetail, endpoint: Endpoint) -> String {
    match detail {
        EndpointDetail::Full => endpoint.to_string(),
        EndpointDetail::Port => format!(":{}", endpoint.port),
        EndpointDetail::None => String::new(),
    }
}

/// The same of a label made with more detail; what names no endpoint stays.
fn shorten(detail: EndpointDetail, label: &str) -> String {
    match (detail, label.rfind(':')) {
        (EndpointDetail::Full, _) | (_, None) => label.to_owned(),
        (EndpointDetail::Port, Some(at)) => label[at..].to_owned(),
        (EndpointDetail::None, Some(_)) => String::new(),
    }
}

fn address_label(detail: EndpointDetail, addr: [u8; 16]) -> String {
    match detail {
        EndpointDetail::Full => {
            let addr = Ipv6Addr::from(addr);
            addr.to_ipv4_mapped().map_or_else(|| addr.to_string(), |v4| v4.to_string())
        }
        EndpointDetail::Port | EndpointDetail::None => String::new(),
    }
}
