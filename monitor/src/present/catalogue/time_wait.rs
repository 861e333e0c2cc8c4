//! Rows about TIME_WAIT: how many, whose, for how long, how they come and go.

use crate::aggregate::Leave;
use crate::lifecycle::Role;
use crate::present::{Kind, Metric};

/// Labels of [`crate::aggregate::REMAINING_MS`].
const REMAINING: [&str; 6] = ["10s", "20s", "30s", "40s", "50s", "60s"];

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_time_wait_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["role", "endpoint", "unit"],
        help: "TIME_WAIT sockets by who made them: endpoint is the remote address and port for role client, the local one \
               for role server. Unit unknown: the connection ended before the daemon looked. All others are in endpoint \
               other, so that the sum is synfin_tcp_sockets of state time_wait.",
        read: |reading, samples| {
            for row in &reading.snapshot.figures.time_wait.rows {
                samples.count(&[row.role.label(), &row.endpoint, &row.unit], row.sockets);
            }
        },
    },
    Metric {
        name: "synfin_time_wait_remaining_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["remaining"],
        help: "TIME_WAIT sockets by the time that is left of them: upper bounds, each socket in one.",
        read: |reading, samples| {
            for (label, sockets) in REMAINING.iter().zip(reading.snapshot.figures.time_wait.remaining) {
                samples.count(&[label], sockets);
            }
        },
    },
    Metric {
        name: "synfin_time_wait_entered_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["role", "unit"],
        help: "Sockets that entered TIME_WAIT, without those that the kernel refused. One that first waits in FIN_WAIT2 \
               as a small socket counts when a census finds it turned. Role and unit unknown: found by a census only.",
        read: |reading, samples| {
            for (unit, counts) in &reading.snapshot.figures.time_wait.entered {
                for role in Role::ALL {
                    samples.count(&[role.label(), unit], counts[role.index()]);
                }
            }
        },
    },
    Metric {
        name: "synfin_time_wait_left_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["reason"],
        help: "TIME_WAIT sockets that ended: expired (their time was over), reused (connect() took them over), replaced (by a \
               new SYN on the same ports), reset, evicted (ss -K), purged (with their network namespace), unknown. Counted \
               by cause where synfin_probe_attached of inet_twsk_kill is 1; elsewhere derived at each census, and then all \
               early ends but reused are unknown.",
        read: |reading, samples| {
            for reason in Leave::ALL {
                samples.count(&[reason.label()], reading.snapshot.figures.time_wait.left[reason.index()]);
            }
        },
    },
    Metric {
        name: "synfin_time_wait_limit_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &[],
        help: "Bound of TIME_WAIT sockets, small FIN_WAIT2 ones included (net.ipv4.tcp_max_tw_buckets), in the daemon's own \
               network namespace.",
        read: |reading, samples| {
            if let Some(limit) = reading.snapshot.figures.time_wait.limit {
                samples.count(&[], limit);
            }
        },
    },
    Metric {
        name: "synfin_time_wait_overflows_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Connections that ended without TIME_WAIT since the bound was reached (TCPTimeWaitOverflow), in all watched \
               namespaces.",
        read: |reading, samples| {
            if let Some(overflows) = reading.snapshot.figures.time_wait.overflows {
                samples.count(&[], overflows);
            }
        },
    },
    Metric {
        name: "synfin_time_wait_owners_refused_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Connections whose owner could not be remembered, as the memory was full: their TIME_WAIT sockets are of \
               unit unknown.",
        read: |reading, samples| samples.count(&[], reading.snapshot.figures.owners_refused),
    },
    Metric {
        name: "synfin_rows_folded",
        kind: Kind::Gauge,
        unit: None,
        labels: &["metric"],
        help: "Label sets that have no row of their own now: makers (synfin_time_wait_sockets), endpoints \
               (synfin_tcp_endpoint_closes_total), destinations (synfin_ephemeral_port_failures_total), listeners and namespaces \
               (synfin_tcp_namespace_sockets) are in other, destinations of synfin_ephemeral_ports_used in no row.",
        read: |reading, samples| {
            let figures = &reading.snapshot.figures;
            samples.count(&["time_wait_sockets"], figures.time_wait.folded);
            samples.count(&["tcp_endpoint_closes_total"], figures.closes.folded);
            samples.count(&["ephemeral_port_failures_total"], figures.ports.failures_folded);
            samples.count(&["ephemeral_ports_used"], figures.ports.folded);
            samples.count(&["listener_backlog_sockets"], figures.listen.folded);
            if let Some(namespaces) = &figures.namespaces {
                samples.count(&["tcp_namespace_sockets"], namespaces.folded);
            }
        },
    },
];
