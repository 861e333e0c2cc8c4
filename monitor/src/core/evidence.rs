//! What the core can tell the rules of `diagnose`: levels of now, and deltas between two moments.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::flows::Cgroup;
use super::{Core, Moment};
use crate::aggregate::{OTHER, Unit};
use crate::diagnose::{
    CloseWait, Counters, Evidence, FailedConnects, HandshakeTail, InboundPeer, Level, Listener, Maker, NamespaceUse,
    SourceUse, Sysctls, TimeWait, Trend, TupleUse,
};
use crate::event::{CgroupId, NetnsId};
use crate::input::HostFigures;
use crate::lifecycle::{Close, Role};

/// Rows of each list: the rules look at the busiest.
const ROWS: usize = 64;

/// From when to when.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceWindow<'a> {
    /// `None`: nothing older is known, and the evidence has no deltas.
    pub before: Option<&'a Moment>,
    /// [`Core::moment`] of just now.
    pub now: &'a Moment,
}

impl EvidenceWindow<'_> {
    fn seconds(&self) -> Option<f64> {
        let seconds = self.now.at.since(self.before?.at)? as f64 / 1e9;
        (seconds > 0.0).then_some(seconds)
    }

    /// How a figure grew.
    fn grown(&self, figure: impl Fn(&Moment) -> Option<u64>) -> Option<u64> {
        figure(self.now)?.checked_sub(figure(self.before?)?)
    }

    fn trend(&self, figure: impl Fn(&Moment) -> Option<u64>) -> Option<Trend> {
        let (before, now) = (figure(self.before?)?, figure(self.now)?);
        Trend::of(&[(0.0, before), (self.seconds()?, now)])
    }

    fn level(&self, figure: impl Fn(&Moment) -> Option<u64>) -> Option<Level> {
        Some(Level { now: figure(self.now)?, trend: self.trend(&figure) })
    }
}

impl Core {
    /// All that the core knows. What only the edges know is left open: `sysctl_files` and `namespaces`.
    pub fn evidence(&self, window: &EvidenceWindow<'_>, mut name_unit: impl FnMut(CgroupId) -> String) -> Evidence {
        let name = &mut name_unit;
        let host = |figure: fn(&HostFigures) -> Option<u64>| window.grown(|moment| figure(&moment.host));
        let seconds = window.seconds();
        Evidence {
            window_seconds: seconds,
            sysctls: sysctls(&self.host),
            ports_available: self.ranges.own.as_ref().map(|range| range.available()),
            tuples: self.tuples(window, name),
            sources: self.sources(name),
            time_wait: self.time_wait(name),
            inbound: self.inbound(name),
            small_fin_wait2: (self.walks_done > 0).then(|| self.small_now().fin_wait2),
            fin_wait2: window.level(|moment| moment.fin_wait2),
            orphans: window.level(|moment| moment.host.orphans),
            close_wait: self.close_wait(window, name),
            listeners: self.listeners(name),
            counters: Counters {
                time_wait_overflow: host(|host| host.time_wait_overflows),
                tw_recycled: host(|host| host.tw_recycled),
                listen_overflows: host(|host| host.listen_overflows),
                listen_drops: host(|host| host.listen_drops),
                abort_on_close: host(|host| host.abort_on_close),
                abort_on_data: host(|host| host.abort_on_data),
            },
            failures: failures(window, name),
            handshakes: handshakes(window),
            closes: closes(window),
            time_wait_entered_per_second: window
                .grown(|moment| Some(moment.entered))
                .zip(seconds)
                .map(|(entered, seconds)| entered as f64 / seconds),
            sysctl_files: None,
            namespaces: None,
            by_namespace: self.by_namespace(window),
        }
    }

    fn tuples(&self, window: &EvidenceWindow<'_>, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<TupleUse>> {
        let entries = &self.view.ports.as_ref()?.tuples.entries;
        let rows = entries.iter().take(ROWS).map(|(key, tally)| {
            let opened = window.grown(|moment| Some(moment.opened.get(key).copied().unwrap_or(0)));
            TupleUse {
                source: address(key.source),
                destination: key.destination,
                used: tally.used,
                time_wait: tally.time_wait,
                role: Role::Client,
                unit: unit(tally.unit.winner(), name),
                opens_per_second: opened.zip(window.seconds()).map(|(opened, seconds)| opened as f64 / seconds),
                // Of a pair that was not among the busiest before, the growth is not known.
                trend: window.trend(|moment| moment.ports.as_ref()?.get(key).copied()),
                namespace: self.namespace(key.netns),
                ports_available: self.namespaces.as_ref().and_then(|_| Some(self.ranges.of(key.netns)?.available())),
            }
        });
        Some(rows.collect())
    }

    fn sources(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<SourceUse>> {
        let usage = self.view.ports.as_ref()?;
        let busiest = |netns, source| {
            let towards = usage.tuples.entries.iter().filter(|(key, _)| key.netns == netns && key.source == source);
            towards.map(|(_, tally)| tally.used).max().unwrap_or(0)
        };
        let rows = usage.sources.iter().take(ROWS).map(|source| SourceUse {
            source: address(source.source),
            sockets: source.sockets,
            distinct_ports: source.distinct_ports,
            busiest_destination: busiest(source.netns, source.source),
            unit: unit(source.unit.winner(), name),
        });
        Some(rows.collect())
    }

    fn time_wait(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<TimeWait> {
        if self.walks_done == 0 {
            return None;
        }
        let total = self.small_now().time_wait;
        let mut merged = BTreeMap::new();
        for row in self.ledger.makers(total) {
            let unit = match row.unit {
                Unit::Known(cgroup) => name(cgroup_id(cgroup)),
                Unit::Unknown => unit(None, name),
                Unit::Other => OTHER.to_owned(),
            };
            *merged.entry((row.role, row.endpoint, unit)).or_insert(0) += row.sockets;
        }
        let rows = merged.into_iter().filter(|(_, sockets)| *sockets > 0);
        let mut makers: Vec<Maker> =
            rows.map(|((role, endpoint, unit), sockets)| Maker { role, endpoint, unit, sockets }).collect();
        makers.sort_by_key(|maker| std::cmp::Reverse(maker.sockets));
        let rest = makers.split_off(makers.len().min(ROWS));
        for role in Role::ALL {
            let sockets = rest.iter().filter(|maker| maker.role == role).map(|maker| maker.sockets).sum();
            if sockets > 0 {
                makers.push(Maker { role, endpoint: None, unit: OTHER.to_owned(), sockets });
            }
        }
        Some(TimeWait { total, makers })
    }

    fn inbound(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<InboundPeer>> {
        let entries = self.view.inbound.as_ref()?.entries.iter().take(ROWS);
        let rows = entries.map(|((local, peer), tally)| InboundPeer {
            local: *local,
            peer: address(*peer),
            unit: unit(tally.unit.winner(), name),
            sockets: tally.sockets,
            time_wait: tally.time_wait,
        });
        Some(rows.collect())
    }

    /// The number is of now, the age of the oldest as of the last census.
    fn close_wait(
        &self,
        window: &EvidenceWindow<'_>,
        name: &mut impl FnMut(CgroupId) -> String,
    ) -> Option<Vec<CloseWait>> {
        let now = window.now.close_wait.as_ref()?;
        let mut rows: BTreeMap<String, (u64, Option<u64>, Option<f64>)> = BTreeMap::new();
        let before = window.before.and_then(|moment| moment.close_wait.as_ref());
        for (&cgroup, &sockets) in now {
            let row = rows.entry(name(cgroup)).or_insert((0, before.map(|_| 0), None));
            row.0 += sockets;
            row.1 = row.1.zip(before).map(|(sum, before)| sum + before.get(&cgroup).copied().unwrap_or(0));
            let held = self.view.close_wait.get(&cgroup);
            let age = held.and_then(|held| window.now.at.since(held.oldest)).map(|ns| ns as f64 / 1e9);
            row.2 = row.2.into_iter().chain(age).reduce(f64::max);
        }
        let seconds = window.seconds();
        let rows = rows.into_iter().map(|(unit, (sockets, before, oldest_seconds))| CloseWait {
            unit,
            sockets,
            oldest_seconds,
            trend: before.zip(seconds).and_then(|(before, seconds)| Trend::of(&[(0.0, before), (seconds, sockets)])),
        });
        Some(rows.collect())
    }

    fn listeners(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<Listener>> {
        if self.walks_done == 0 {
            return None;
        }
        let rows = self.view.listeners.iter().map(|(&(netns, local), listen)| Listener {
            local,
            unit: name(listen.cgroup),
            backlog: listen.backlog,
            limit: listen.limit,
            half_open: listen.half_open,
            namespace: self.namespace(netns),
        });
        Some(rows.collect())
    }
}

/// Where several namespaces are watched.
impl Core {
    fn namespace(&self, netns: NetnsId) -> Option<String> {
        let namespaces = self.namespaces.as_ref()?;
        Some(namespaces.name(netns).map_or_else(|| format!("net:[{}]", netns.0), str::to_owned))
    }

    /// Those in which something was refused first, then those with the most small sockets.
    fn by_namespace(&self, window: &EvidenceWindow<'_>) -> Option<Vec<NamespaceUse>> {
        let before = window.before.and_then(|moment| moment.namespaces.as_ref());
        let rows = self.namespaces.as_ref()?.states().map(|state| {
            let grown = |figure: fn(&HostFigures) -> Option<u64>| {
                let now = figure(state.host)?;
                // One that was not there before has counted all of it since.
                let then = before?.get(&state.identity).map_or(Some(0), figure)?;
                now.checked_sub(then)
            };
            NamespaceUse {
                namespace: state.name.to_owned(),
                own: state.own,
                small: state.small.time_wait + state.small.fin_wait2,
                tcp_max_tw_buckets: state.host.tcp_max_tw_buckets,
                ports_available: state.ports_available,
                time_wait_overflow: grown(|host| host.time_wait_overflows),
                listen_overflows: grown(|host| host.listen_overflows),
                listen_drops: grown(|host| host.listen_drops),
            }
        });
        let mut rows: Vec<NamespaceUse> = rows.collect();
        let refused = |row: &NamespaceUse| row.time_wait_overflow.unwrap_or(0) + row.listen_drops.unwrap_or(0);
        rows.sort_by_key(|row| std::cmp::Reverse((refused(row), row.small)));
        rows.truncate(ROWS);
        Some(rows)
    }
}

fn sysctls(host: &HostFigures) -> Sysctls {
    Sysctls {
        tcp_max_tw_buckets: host.tcp_max_tw_buckets,
        tcp_max_tw_buckets_default: host.tcp_ehash_entries.map(|buckets| buckets / 2),
        tcp_tw_reuse: host.tcp_tw_reuse,
        tcp_timestamps: host.tcp_timestamps,
        tcp_fin_timeout: host.tcp_fin_timeout,
        tcp_max_orphans: host.tcp_max_orphans,
        somaxconn: host.somaxconn,
    }
}

fn failures(window: &EvidenceWindow<'_>, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<FailedConnects>> {
    let before = window.before?;
    let mut rows = Vec::new();
    for (key, &count) in &window.now.failed {
        let count = count.saturating_sub(before.failed.get(key).copied().unwrap_or(0));
        if count == 0 {
            continue;
        }
        let &(destination, reason, cgroup) = key;
        let towards = |moment: &Moment| {
            let towards = moment.opened.iter().filter(|(key, _)| key.destination == destination);
            towards.map(|(_, opened)| *opened).sum::<u64>()
        };
        let opened = towards(window.now).checked_sub(towards(before));
        rows.push(FailedConnects { destination, reason, unit: name(cgroup), count, opened });
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows.truncate(ROWS);
    Some(rows)
}

fn handshakes(window: &EvidenceWindow<'_>) -> Option<Vec<HandshakeTail>> {
    let before = window.before?;
    let rows = [Role::Client, Role::Server].map(|role| {
        let ((measured, longer), (measured_before, longer_before)) =
            (window.now.handshakes[role.index()], before.handshakes[role.index()]);
        let [one, three, seven] = [0, 1, 2].map(|step| longer[step].saturating_sub(longer_before[step]));
        let steps = [one.saturating_sub(three), three.saturating_sub(seven), seven];
        HandshakeTail { role, measured: measured.saturating_sub(measured_before), steps }
    });
    Some(rows.to_vec())
}

fn closes(window: &EvidenceWindow<'_>) -> Option<[u64; Close::COUNT]> {
    let before = window.before?;
    let mut closes = window.now.closes;
    closes.iter_mut().zip(before.closes).for_each(|(now, before)| *now = now.saturating_sub(before));
    Some(closes)
}

fn cgroup_id(cgroup: Cgroup) -> CgroupId {
    CgroupId(cgroup.get())
}

fn unit(cgroup: Option<&CgroupId>, name: &mut impl FnMut(CgroupId) -> String) -> String {
    // The name of cgroup 0 is that of what could not be learnt.
    name(cgroup.copied().unwrap_or_default())
}

fn address(addr: [u8; 16]) -> IpAddr {
    let addr = Ipv6Addr::from(addr);
    addr.to_ipv4_mapped().map_or(IpAddr::V6(addr), IpAddr::V4)
}
