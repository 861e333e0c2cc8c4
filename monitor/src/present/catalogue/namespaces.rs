//! Rows about network namespaces: only where all of them are watched (`--netns all`).

use crate::aggregate::{NamespaceFigures, NamespaceRow};
use crate::event::TcpState;
use crate::present::{Kind, Metric, Reading, Samples};

fn each(reading: &Reading<'_>, samples: &mut Samples, value: fn(&NamespaceRow) -> Option<u64>) {
    for row in reading.snapshot.figures.namespaces.iter().flat_map(|namespaces| &namespaces.rows) {
        if let Some(value) = value(row) {
            samples.count(&[&row.name], value);
        }
    }
}

fn one(reading: &Reading<'_>, samples: &mut Samples, value: fn(&NamespaceFigures) -> u64) {
    if let Some(namespaces) = &reading.snapshot.figures.namespaces {
        samples.count(&[], value(namespaces));
    }
}

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_tcp_namespace_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["namespace", "state"],
        help: "TCP sockets by network namespace, as ss counts them there; only with --netns all. namespace is host (that of \
               process 1), the name of ip netns, the unit or container of a process in it, or net:[inode]; beyond the bound \
               it is other, so that the sum is synfin_tcp_sockets. A name whose namespace is gone reads 0 until its place \
               is needed.",
        read: |reading, samples| {
            for row in reading.snapshot.figures.namespaces.iter().flat_map(|namespaces| &namespaces.rows) {
                for state in TcpState::ALL.into_iter().filter(|state| *state != TcpState::NewSynRecv) {
                    samples.count(&[&row.name, state.label()], row.sockets[state.index()]);
                }
            }
        },
    },
    Metric {
        name: "synfin_namespace_time_wait_limit_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["namespace"],
        help: "Bound of TIME_WAIT sockets in each network namespace (net.ipv4.tcp_max_tw_buckets); only with --netns all.",
        read: |reading, samples| each(reading, samples, |row| row.time_wait_limit),
    },
    Metric {
        name: "synfin_namespace_time_wait_overflows_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["namespace"],
        help: "Connections that ended without TIME_WAIT since the bound of their namespace was reached; only with --netns \
               all. What a namespace without a place counts, and what one had counted whose place was taken, is in other, \
               so that the sum is synfin_time_wait_overflows_total.",
        read: |reading, samples| each(reading, samples, |row| Some(row.counted.time_wait_overflows)),
    },
    Metric {
        name: "synfin_namespace_ephemeral_ports_available",
        kind: Kind::Gauge,
        unit: None,
        labels: &["namespace"],
        help: "Ports that connect() may choose from in each network namespace, for each source and destination anew; only \
               with --netns all.",
        read: |reading, samples| each(reading, samples, |row| row.ports_available),
    },
    Metric {
        name: "synfin_namespace_ephemeral_ports_used",
        kind: Kind::Gauge,
        unit: None,
        labels: &["namespace"],
        help: "Ports of the ephemeral range taken towards the fullest destination of each network namespace, as of the last \
               census; only with --netns all.",
        read: |reading, samples| each(reading, samples, |row| row.ports_used),
    },
    Metric {
        name: "synfin_namespace_listen_overflows_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["namespace"],
        help: "SYNs and final ACKs dropped because an accept queue was full, by network namespace; only with --netns all. The sum \
               is synfin_listen_overflows_total.",
        read: |reading, samples| each(reading, samples, |row| Some(row.counted.listen_overflows)),
    },
    Metric {
        name: "synfin_namespace_listen_drops_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["namespace"],
        help: "SYNs and final ACKs dropped by a listener for any reason, by network namespace; only with --netns all. The sum is \
               synfin_listen_drops_total.",
        read: |reading, samples| each(reading, samples, |row| Some(row.counted.listen_drops)),
    },
    Metric {
        name: "synfin_namespaces_watched",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Network namespaces that the last look found and entered; only with --netns all.",
        read: |reading, samples| one(reading, samples, |namespaces| namespaces.watched),
    },
    Metric {
        name: "synfin_namespaces_refused",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Network namespaces that the last look found and could not enter: no census sees their sockets, and their \
               counters are in no sum; only with --netns all.",
        read: |reading, samples| one(reading, samples, |namespaces| namespaces.refused),
    },
];
