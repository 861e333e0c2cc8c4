//! What the core can tell the rules of `diagnose`: levels of now, and deltas between two moments.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::contacts::EndKey;
use super::flows::Cgroup;
use super::namespaces::Namespaces;
use super::{Core, Moment};
use crate::aggregate::{EphemeralRange, Lost, MakerRow, OTHER, PortKey, Unit};
use crate::diagnose::{
    CloseWait, Contact, Counters, Evidence, FailedConnects, HandshakeTail, InboundPeer, Level, Listener, LostDetail,
    Maker, NamespaceName, NamespaceUse, SourceUse, Sysctls, TimeWait, Trend, TupleUse,
};
use crate::event::{CgroupId, KernelTime, NetnsId};
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
            lost: lost(window),
            sysctls: sysctls(&self.host),
            ports_available: self.ranges.own.as_ref().map(EphemeralRange::available),
            tuples: self.tuples(window, name),
            sources: self.sources(name),
            time_wait: self.time_wait(window.now.at, name),
            inbound: self.inbound(name),
            small_fin_wait2: (self.walks_done > 0).then(|| self.small_now().fin_wait2),
            fin_wait2: window.level(|moment| moment.fin_wait2),
            fin_wait2_makers: self.fin_wait2_makers(name),
            orphans: window.level(|moment| moment.host.orphans),
            close_wait: self.close_wait(window, name),
            close_wait_makers: self.close_wait_makers(name),
            listeners: self.listeners(name),
            counters: Counters {
                time_wait_overflow: host(|host| host.time_wait_overflows),
                tw_recycled: host(|host| host.tw_recycled),
                listen_overflows: host(|host| host.listen_overflows),
                listen_drops: host(|host| host.listen_drops),
                abort_on_close: host(|host| host.abort_on_close),
                abort_on_data: host(|host| host.abort_on_data),
            },
            failures: self.failures(window, name),
            syns_again: window.grown(|moment| Some(moment.syns_again)),
            handshakes: handshakes(window),
            slow_handshakes: contacts(window, |moment| &moment.slow, name),
            closes: closes(window),
            resets: contacts(window, |moment| &moment.reset, name),
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
        let counted = &self.view.ports.as_ref()?.tuples.entries;
        let units: BTreeMap<PortKey, Option<CgroupId>> =
            counted.iter().map(|(key, tally)| (*key, tally.unit.winner().copied())).collect();
        let now = window.now.at;
        let keys = self.growth.keys(&self.contacts).into_iter();
        let mut rows: Vec<_> =
            keys.filter_map(|key| Some((key, self.growth.taken(&key, now, &self.contacts)?))).collect();
        rows.retain(|(key, taken)| taken.used > 0 || units.contains_key(key));
        rows.sort_by_key(|(key, taken)| (std::cmp::Reverse(taken.used), *key));
        let rows = rows.into_iter().take(ROWS).map(|(key, taken)| {
            let range = self.ranges.of(key.netns).map(EphemeralRange::available);
            let pace = taken.pace;
            let used = taken.used.min(range.unwrap_or(u64::MAX));
            // Of one that the census did not meet yet, those who opened it have been seen.
            let owner = units.get(&key).copied().unwrap_or_else(|| self.contacts.owner(&key));
            TupleUse {
                source: address(key.source),
                destination: key.destination,
                used,
                time_wait: taken.time_wait.min(used),
                role: Role::Client,
                unit: unit(owner.as_ref(), name),
                namespace: self.foreign(key.netns),
                ports_available: range,
                opened: window.grown(|moment| Some(moment.opened.get(&key).copied().unwrap_or(0))),
                opens_per_second: pace.map(|pace| pace.opened),
                trend: pace
                    .map(|pace| Trend { delta: (pace.grown * pace.seconds).round() as i64, seconds: pace.seconds }),
            }
        });
        Some(rows.collect())
    }

    fn sources(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<SourceUse>> {
        let usage = self.view.ports.as_ref()?;
        let busiest = |netns, source| {
            let from = |key: &PortKey| key.netns == netns && key.source == source;
            let towards = usage.tuples.entries.iter().filter(|(key, _)| from(key));
            towards.map(|(_, tally)| tally.used).max().unwrap_or(0)
        };
        let rows = usage.sources.iter().take(ROWS).map(|source| SourceUse {
            source: address(source.source),
            sockets: source.sockets,
            distinct_ports: source.distinct_ports,
            busiest_destination: busiest(source.netns, source.source),
            unit: unit(source.unit.winner(), name),
            namespace: self.foreign(source.netns),
            ports_available: self.ranges.of(source.netns).map(EphemeralRange::available),
        });
        Some(rows.collect())
    }

    fn time_wait(&self, at: KernelTime, name: &mut impl FnMut(CgroupId) -> String) -> Option<TimeWait> {
        if self.walks_done == 0 {
            return None;
        }
        let total = self.small_now().time_wait;
        let by_netns = self.namespaces.as_ref().map(Namespaces::time_wait);
        let mut makers = named(&self.ledger.makers(total, by_netns.as_ref(), at), name);
        let rest = makers.split_off(makers.len().min(ROWS));
        for role in Role::ALL {
            let sockets = rest.iter().filter(|maker| maker.role == role).map(|maker| maker.sockets).sum();
            if sockets > 0 {
                makers.push(Maker { role, endpoint: None, unit: OTHER.to_owned(), sockets });
            }
        }
        Some(TimeWait { total, makers })
    }

    fn fin_wait2_makers(&self, name: &mut impl FnMut(CgroupId) -> String) -> Vec<Maker> {
        let mut makers = named(&self.view.fin_wait2, name);
        makers.truncate(ROWS);
        makers
    }

    fn close_wait_makers(&self, name: &mut impl FnMut(CgroupId) -> String) -> Vec<Maker> {
        let rows = self.view.close_wait_ends.iter().take(ROWS).map(|(key, sockets)| {
            let &(role, endpoint, cgroup) = key;
            Maker { role, endpoint: Some(endpoint), unit: name(cgroup), sockets: *sockets }
        });
        rows.collect()
    }

    fn inbound(&self, name: &mut impl FnMut(CgroupId) -> String) -> Option<Vec<InboundPeer>> {
        let entries = self.view.inbound.as_ref()?.entries.iter().take(ROWS);
        let rows = entries.map(|((_, local, peer), tally)| InboundPeer {
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

    fn failures(
        &self,
        window: &EvidenceWindow<'_>,
        name: &mut impl FnMut(CgroupId) -> String,
    ) -> Option<Vec<FailedConnects>> {
        let before = window.before?;
        let mut rows = Vec::new();
        for (key, &count) in &window.now.failed {
            let count = count.saturating_sub(before.failed.get(key).copied().unwrap_or(0));
            if count == 0 {
                continue;
            }
            let &(netns, destination, reason, cgroup) = key;
            let towards = |moment: &Moment| {
                let to = |key: &PortKey| key.netns == netns && key.destination == destination;
                let towards = moment.opened.iter().filter(|(key, _)| to(key));
                towards.map(|(_, opened)| *opened).sum::<u64>()
            };
            let opened = towards(window.now).checked_sub(towards(before));
            let namespace = self.foreign(netns);
            rows.push(FailedConnects { destination, reason, unit: name(cgroup), namespace, count, opened });
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows.truncate(ROWS);
        Some(rows)
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
            namespace: self.foreign(netns),
        });
        Some(rows.collect())
    }
}

/// Where several namespaces are watched.
impl Core {
    /// The namespace to name: `None` where there is only one, or for the daemon's own.
    fn foreign(&self, netns: NetnsId) -> Option<NamespaceName> {
        let state = self.namespaces.as_ref()?.state(netns);
        let name = match state {
            Some(state) if state.own => return None,
            Some(state) => state.name.to_owned(),
            None => format!("net:[{}]", netns.0),
        };
        Some(NamespaceName { name, inode: netns.0 })
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
                namespace: NamespaceName { name: state.name.to_owned(), inode: state.identity.0.0 },
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

/// With the names of their units, the largest first.
fn named(rows: &[MakerRow<Cgroup>], name: &mut impl FnMut(CgroupId) -> String) -> Vec<Maker> {
    let mut merged = BTreeMap::new();
    for row in rows.iter().filter(|row| row.sockets > 0) {
        let unit = match row.unit {
            Unit::Known(cgroup) => name(cgroup_id(cgroup)),
            Unit::Unknown => unit(None, name),
            Unit::Other => OTHER.to_owned(),
        };
        *merged.entry((row.role, row.endpoint, unit)).or_insert(0) += row.sockets;
    }
    let rows = merged.into_iter();
    let mut makers: Vec<Maker> =
        rows.map(|((role, endpoint, unit), sockets)| Maker { role, endpoint, unit, sockets }).collect();
    makers.sort_by_key(|maker| std::cmp::Reverse(maker.sockets));
    makers
}

/// How much each grew in the window, the most first.
fn contacts(
    window: &EvidenceWindow<'_>,
    counts: fn(&Moment) -> &BTreeMap<EndKey, u64>,
    name: &mut impl FnMut(CgroupId) -> String,
) -> Vec<Contact> {
    let Some(before) = window.before.map(counts) else { return vec![] };
    let rows = counts(window.now).iter().map(|(key, &count)| {
        let &(role, endpoint, cgroup) = key;
        let count = count.saturating_sub(before.get(key).copied().unwrap_or(0));
        (role, endpoint, cgroup, count)
    });
    let mut rows: Vec<_> = rows.filter(|row| row.3 > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.3));
    rows.truncate(ROWS);
    rows.into_iter()
        .map(|(role, endpoint, cgroup, count)| Contact { role, endpoint, unit: name(cgroup), count })
        .collect()
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

fn lost(window: &EvidenceWindow<'_>) -> Option<LostDetail> {
    let records =
        |Lost { ring_full, probe_missed, undecodable, table_full: _ }: Lost| ring_full + probe_missed + undecodable;
    Some(LostDetail {
        records: window.grown(|moment| Some(records(moment.lost)))?,
        table_full: window.grown(|moment| Some(moment.lost.table_full))?,
    })
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
