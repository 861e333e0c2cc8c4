//! Rows about the daemon's process, by the names that every Prometheus client library uses.

use crate::host::process::ProcessStatus;
use crate::present::{Kind, Metric, Reading, Samples};

fn if_known(reading: &Reading<'_>, samples: &mut Samples, value: fn(&ProcessStatus) -> f64) {
    if let Some(process) = reading.process {
        samples.value(&[], value(process));
    }
}

pub const METRICS: &[Metric] = &[
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Some("seconds"),
        labels: &[],
        help: "User and system CPU time of the daemon.",
        read: |reading, samples| if_known(reading, samples, |process| process.cpu_seconds),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Some("bytes"),
        labels: &[],
        help: "Resident memory of the daemon.",
        read: |reading, samples| if_known(reading, samples, |process| process.resident_bytes as f64),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        unit: Some("bytes"),
        labels: &[],
        help: "Virtual memory of the daemon.",
        read: |reading, samples| if_known(reading, samples, |process| process.virtual_bytes as f64),
    },
    Metric {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Open file descriptors of the daemon.",
        read: |reading, samples| if_known(reading, samples, |process| process.open_fds as f64),
    },
    Metric {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Bound of open file descriptors of the daemon (soft limit).",
        read: |reading, samples| if_known(reading, samples, |process| process.max_fds as f64),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "When the daemon's process started, Unix time.",
        read: |reading, samples| if_known(reading, samples, |process| process.start_unix_seconds),
    },
];
