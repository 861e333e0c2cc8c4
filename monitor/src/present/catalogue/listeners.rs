//! Rows about what applications leave undone: connections not accepted, and closed by the peer only.

use crate::aggregate::ListenerRow;
use crate::present::{Kind, Metric, Reading, Samples};

fn each(reading: &Reading<'_>, samples: &mut Samples, value: fn(&ListenerRow) -> u64) {
    for row in &reading.snapshot.figures.listen.rows {
        samples.count(&[&row.listener], value(row));
    }
}

fn if_known(samples: &mut Samples, value: Option<u64>) {
    if let Some(value) = value {
        samples.count(&[], value);
    }
}

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_listener_backlog_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["listener"],
        help: "Connections that wait for accept(), by local address and port, as of the last census; the fullest queues, the \
               rest in other.",
        read: |reading, samples| each(reading, samples, |row| row.backlog),
    },
    Metric {
        name: "synfin_listener_backlog_limit_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["listener"],
        help: "Bound of the accept queue: the argument of listen() or net.core.somaxconn, whichever is smaller; summed \
               where several sockets share an address.",
        read: |reading, samples| each(reading, samples, |row| row.limit),
    },
    Metric {
        name: "synfin_listener_half_open_sockets",
        kind: Kind::Gauge,
        unit: Some("sockets"),
        labels: &["listener"],
        help: "Requests that wait for the last ACK of the handshake; those of listeners that are gone are in other.",
        read: |reading, samples| each(reading, samples, |row| row.half_open),
    },
    Metric {
        name: "synfin_listen_overflows_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "SYNs and final ACKs dropped because the accept queue was full (ListenOverflows), in all watched namespaces.",
        read: |reading, samples| if_known(samples, reading.snapshot.figures.listen.overflows),
    },
    Metric {
        name: "synfin_listen_drops_total",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "SYNs and final ACKs dropped by a listener for any reason, a full queue included (ListenDrops), in all watched \
               namespaces.",
        read: |reading, samples| if_known(samples, reading.snapshot.figures.listen.drops),
    },
    Metric {
        name: "synfin_close_wait_oldest_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &["unit"],
        help: "When the oldest CLOSE_WAIT socket of a unit got there, or was first seen there, Unix time, as of the last \
               census; only units that have one.",
        read: |reading, samples| {
            for (unit, at) in &reading.snapshot.figures.close_wait_oldest {
                samples.value(&[unit], *at);
            }
        },
    },
];
