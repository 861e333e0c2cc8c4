//! Rows about the daemon itself: what it was handed, what it lost, how it audits itself.

use std::collections::BTreeMap;

use crate::event::TcpState;
use crate::present::{Kind, Metric, Reading, Samples};

/// Samples of the last census, once there was one.
fn after_census(reading: &Reading<'_>, samples: &mut Samples, value: f64) {
    if reading.snapshot.census.at_unix_seconds.is_some() {
        samples.value(&[], value);
    }
}

/// Runs and nanoseconds by probe; a probe that is attached in two ways is one.
fn probe_runs<'a>(reading: &Reading<'a>) -> BTreeMap<&'static str, (u64, u64)> {
    let mut by_probe = BTreeMap::new();
    for probe in &reading.snapshot.probes {
        if let Some((runs, nanoseconds)) = probe.runs {
            let sums: &mut (u64, u64) = by_probe.entry(probe.probe).or_default();
            *sums = (sums.0 + runs, sums.1 + nanoseconds);
        }
    }
    by_probe
}

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_events_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Records that the kernel side handed over.",
        read: |reading, samples| samples.count(&[], reading.snapshot.events),
    },
    Metric {
        name: "synfin_events_lost_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "Records lost, by reason: ring_full, probe_missed (the kernel skipped a nested run, so the transition is \
               in no total either), undecodable, table_full (a connection is no longer followed).",
        read: |reading, samples| {
            let lost = &reading.snapshot.lost;
            samples.count(&["ring_full"], lost.ring_full);
            samples.count(&["probe_missed"], lost.probe_missed);
            samples.count(&["undecodable"], lost.undecodable);
            samples.count(&["table_full"], lost.table_full);
        },
    },
    Metric {
        name: "synfin_events_skipped_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "State changes that are not watched, by reason: other_protocol (MPTCP, SCTP, DCCP) and other_netns \
               (outside the watched network namespace).",
        read: |reading, samples| {
            samples.count(&["other_protocol"], reading.snapshot.other_protocol_transitions);
            samples.count(&["other_netns"], reading.snapshot.other_netns_transitions);
        },
    },
    Metric {
        name: "synfin_events_healed_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Records that showed an earlier loss and corrected it: another state than the one stored, or a birth at \
               the address of a living socket.",
        read: |reading, samples| samples.count(&[], reading.snapshot.healed),
    },
    Metric {
        name: "synfin_events_odd_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "State changes that no known kernel makes: a pair of states without a meaning, or a number that is no state.",
        read: |reading, samples| samples.count(&[], reading.snapshot.odd_transitions),
    },
    Metric {
        name: "synfin_ring_pending_bytes",
        kind: Kind::Gauge,
        unit: Some("bytes"),
        labels: &[],
        help: "Bytes of records that are not yet read, all CPUs.",
        read: |reading, samples| samples.count(&[], reading.snapshot.ring_pending_bytes),
    },
    Metric {
        name: "synfin_ring_size_bytes",
        kind: Kind::Gauge,
        unit: Some("bytes"),
        labels: &[],
        help: "Size of the memory that records travel in, all CPUs.",
        read: |reading, samples| samples.count(&[], reading.snapshot.ring_size_bytes),
    },
    Metric {
        name: "synfin_ring_wakeups_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Times that the kernel side woke the reader of its records.",
        read: |reading, samples| samples.count(&[], reading.snapshot.ring_wakeups),
    },
    Metric {
        name: "synfin_tracked_connections",
        kind: Kind::Gauge,
        unit: Some("connections"),
        labels: &[],
        help: "Connections in the table.",
        read: |reading, samples| samples.count(&[], reading.snapshot.tracked_connections),
    },
    Metric {
        name: "synfin_tracked_connections_limit",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Bound of the table of connections.",
        read: |reading, samples| samples.count(&[], reading.snapshot.tracked_connections_limit),
    },
    Metric {
        name: "synfin_units_folded_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Values of label unit that were folded into other.",
        read: |reading, samples| samples.count(&[], reading.snapshot.units_folded),
    },
    Metric {
        name: "synfin_census_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "When the kernel's socket tables were last walked, Unix time; absent before the first walk.",
        read: |reading, samples| {
            if let Some(at) = reading.snapshot.census.at_unix_seconds {
                samples.value(&[], at);
            }
        },
    },
    Metric {
        name: "synfin_census_duration_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "How long the last walk over the kernel's socket tables took; absent before the first.",
        read: |reading, samples| after_census(reading, samples, reading.snapshot.census.duration_seconds),
    },
    Metric {
        name: "synfin_census_apply_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "How long it took to take in what the last walk over the kernel's socket tables brought, after the walk \
               itself; absent before the first.",
        read: |reading, samples| after_census(reading, samples, reading.snapshot.census.apply_seconds),
    },
    Metric {
        name: "synfin_census_interval_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "Time between two walks over the kernel's socket tables, as adapted to what the last took, taking it in \
               included.",
        read: |reading, samples| samples.value(&[], reading.snapshot.census.interval_seconds),
    },
    Metric {
        name: "synfin_census_success",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "1 if the last walk over the kernel's socket tables succeeded, 0 if not or before the first.",
        read: |reading, samples| samples.count(&[], u64::from(reading.snapshot.census.success)),
    },
    Metric {
        name: "synfin_census_drift_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["state"],
        help: "Sockets tracked minus sockets counted at the last census, beyond what can have changed during the walk: by \
               how much synfin_tcp_sockets was corrected. Always 0 for close, in which there are no sockets.",
        read: |reading, samples| {
            for state in TcpState::ALL.into_iter().filter(|state| *state != TcpState::NewSynRecv) {
                samples.value(&[state.label()], reading.snapshot.census.drift[state.index()] as f64);
            }
        },
    },
    Metric {
        name: "synfin_census_resyncs_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Corrections of the tracked sockets after a drift or a loss. The split of small sockets into time_wait and \
               fin_wait2 is guessed between censuses, so its drift is none.",
        read: |reading, samples| samples.count(&[], reading.snapshot.census.resyncs),
    },
    Metric {
        name: "synfin_probe_attached",
        kind: Kind::Gauge,
        unit: None,
        labels: &["probe", "kind"],
        help: "1 for each probe that is attached, 0 for each that could be.",
        read: |reading, samples| {
            let mut by_name = BTreeMap::new();
            for probe in &reading.snapshot.probes {
                *by_name.entry((probe.probe, probe.kind)).or_insert(false) |= probe.attached;
            }
            for ((probe, kind), attached) in by_name {
                samples.count(&[probe, kind], u64::from(attached));
            }
        },
    },
    Metric {
        name: "synfin_probe_runs_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["probe"],
        help: "Runs of each probe by the kernel's statistics; absent unless kernel.bpf_stats_enabled is 1.",
        read: |reading, samples| {
            for (probe, (runs, _)) in probe_runs(reading) {
                samples.count(&[probe], runs);
            }
        },
    },
    Metric {
        name: "synfin_probe_run_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        labels: &["probe"],
        help: "CPU time of each probe by the kernel's statistics; absent unless kernel.bpf_stats_enabled is 1.",
        read: |reading, samples| {
            for (probe, (_, nanoseconds)) in probe_runs(reading) {
                samples.value(&[probe], nanoseconds as f64 / 1e9);
            }
        },
    },
    Metric {
        name: "synfin_build_info",
        kind: Kind::Gauge,
        unit: None,
        labels: &["version", "revision"],
        help: "Always 1; the labels say what was built.",
        read: |reading, samples| samples.count(&[reading.build.version, reading.build.revision], 1),
    },
    Metric {
        name: "synfin_start_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "When the daemon began to count, Unix time.",
        read: |reading, samples| samples.value(&[], reading.snapshot.started_unix_seconds),
    },
];
