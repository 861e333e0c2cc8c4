//! Rows about ephemeral ports.

use crate::present::{Kind, Metric};

pub const METRICS: &[Metric] = &[
    Metric {
        name: "synfin_ephemeral_ports_used",
        kind: Kind::Gauge,
        unit: None,
        labels: &["source", "destination"],
        help: "Ports of the ephemeral range taken from one address towards one address and port, in all states, TIME_WAIT \
               included; the fullest, as of the last census. Where addresses are not named, or several namespaces have the \
               same, the fullest of those that read alike.",
        read: |reading, samples| {
            for row in &reading.snapshot.figures.ports.rows {
                samples.count(&[&row.source, &row.destination], row.used);
            }
        },
    },
    Metric {
        name: "synfin_ephemeral_ports_available",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Ports that connect() may choose from, for each source and destination anew: ip_local_port_range less \
               ip_local_reserved_ports of the daemon's own network namespace.",
        read: |reading, samples| {
            if let Some(available) = reading.snapshot.figures.ports.available {
                samples.count(&[], available);
            }
        },
    },
    Metric {
        name: "synfin_ephemeral_port_failures_total",
        kind: Kind::Counter,
        unit: None,
        labels: &["destination"],
        help: "Connects that found no free local port (EADDRNOTAVAIL), by destination; those with the most, the rest in other. \
               The sum is synfin_tcp_connect_failures_total of reason no_local_port.",
        read: |reading, samples| {
            for (destination, failures) in &reading.snapshot.figures.ports.failures {
                samples.count(&[destination], *failures);
            }
        },
    },
];
