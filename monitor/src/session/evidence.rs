//! What a session has measured, for the rules of [`crate::diagnose`].

use std::path::Path;
use std::time::Duration;

use super::{Session, clock};
use crate::aggregate::Snapshot;
use crate::core::Observer;
use crate::diagnose::{CloseWait, Counters, Evidence, Level, Maker, Namespaces, Sysctls, TimeWait};
use crate::event::{Endpoint, TcpState};
use crate::history::{self, History, Moment, Totals};
use crate::host;
use crate::lifecycle::Role;

impl Session {
    /// Takes a sample when one is due; the first as soon as the populations are known.
    pub fn sample(&mut self, history: &mut History) {
        let due = history.sampled_at().is_none_or(|at| now_seconds() - at >= history::INTERVAL.as_secs_f64());
        if due && self.is_ready() {
            let moment = self.moment(history);
            history.push(&moment);
        }
    }

    /// What was measured over the last `window`, or as much of it as `history` has; `None` before its first sample.
    pub fn evidence(&mut self, window: Duration, history: &mut History) -> Option<Evidence> {
        let moment = self.moment(history);
        let Self { core, cgroups, .. } = self;
        let open_to = |destinations: &[Endpoint]| {
            let open = |destination: &Endpoint| {
                core.connections()
                    .filter(|connection| connection.role == Role::Client && connection.state.is_synchronized())
                    .filter(|connection| {
                        (connection.tuple.daddr, connection.tuple.dport) == (destination.addr, destination.port)
                    })
                    .count() as u64
            };
            destinations.iter().map(open).collect()
        };
        let now = std::time::Instant::now();
        history.evidence(window, moment, open_to, |cgroup| cgroups.unit(cgroup, now).to_string())
    }

    /// Seconds since a moment of [`History::sampled_at`].
    pub fn seconds_since(at_seconds: f64) -> f64 {
        now_seconds() - at_seconds
    }

    fn moment(&mut self, observer: &mut impl Observer) -> Moment {
        let snapshot = self.snapshot(observer);
        let mut now = read_levels(&snapshot);
        now.namespaces = Some(Namespaces {
            // Others are counted by whoever asks, who may see more of them.
            count: 1,
            all_watched: self.watches_all,
            elsewhere_transitions: None,
        });
        Moment { at_seconds: now_seconds(), now, totals: Totals::of(&snapshot, read_counters()) }
    }
}

fn now_seconds() -> f64 {
    clock::kernel_now().0 as f64 / 1e9
}

/// The levels of the watched namespace.
fn read_levels(snapshot: &Snapshot) -> Evidence {
    let root = Path::new("/proc/sys");
    let sysctls = host::read_sysctls(root);
    let sockets = |state: TcpState| snapshot.sockets[state.index()];
    let level = |now| Level { now, trend: None };
    let orphans = host::read_sockstat(Path::new("/proc/thread-self")).ok().and_then(|sockstat| sockstat.orphan);
    let counted = snapshot.census.at_unix_seconds.is_some();
    let everyone =
        Maker { role: Role::Unknown, endpoint: None, unit: "unknown".into(), sockets: sockets(TcpState::TimeWait) };
    let close_wait = snapshot.unit_sockets.iter().filter(|(_, row)| row[TcpState::CloseWait.index()] > 0);
    Evidence {
        sysctls: Sysctls {
            tcp_max_tw_buckets: sysctls.tcp_max_tw_buckets,
            tcp_max_tw_buckets_default: host::read_sysctl(root, "net.ipv4.tcp_ehash_entries")
                .and_then(|text| text.parse::<u64>().ok())
                .map(|buckets| buckets / 2),
            tcp_tw_reuse: sysctls.tcp_tw_reuse.map(u64::from),
            tcp_timestamps: sysctls.tcp_timestamps.map(u64::from),
            tcp_fin_timeout: sysctls.tcp_fin_timeout,
            tcp_max_orphans: sysctls.tcp_max_orphans,
            somaxconn: sysctls.somaxconn,
        },
        ports_available: sysctls.ephemeral_ports_available().map(u64::from),
        time_wait: counted.then(|| TimeWait { total: sockets(TcpState::TimeWait), makers: vec![everyone] }),
        fin_wait2: counted.then(|| level(sockets(TcpState::FinWait2))),
        orphans: orphans.map(level),
        close_wait: counted.then(|| {
            close_wait
                .map(|(unit, row)| CloseWait {
                    unit: unit.clone(),
                    sockets: row[TcpState::CloseWait.index()],
                    oldest_seconds: None,
                    trend: None,
                })
                .collect()
        }),
        ..Evidence::default()
    }
}

/// The kernel's counters of this namespace, as they stand.
fn read_counters() -> Counters {
    let snmp = host::read_snmp(Path::new("/proc/thread-self")).unwrap_or_default();
    Counters {
        time_wait_overflow: snmp.tcp_ext("TCPTimeWaitOverflow"),
        tw_recycled: snmp.tcp_ext("TWRecycled"),
        listen_overflows: snmp.tcp_ext("ListenOverflows"),
        listen_drops: snmp.tcp_ext("ListenDrops"),
        abort_on_close: snmp.tcp_ext("TCPAbortOnClose"),
        abort_on_data: snmp.tcp_ext("TCPAbortOnData"),
    }
}
