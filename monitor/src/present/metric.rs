//! A row of the catalogue, what it reads, and the samples it yields.

use prometheus::proto;

use crate::aggregate::{Histogram, Snapshot};
use crate::host::process::ProcessStatus;

/// One metric, wholly described: the only place that knows its name.
pub struct Metric {
    /// As on the text page: counters end in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// The last word of the name (before `_total`) when it is a unit; for OpenMetrics and the document.
    pub unit: Option<&'static str>,
    /// Label names, in the order in which `read` gives their values.
    pub labels: &'static [&'static str],
    /// One sentence or two, without markup.
    pub help: &'static str,
    /// Yields every series that can exist, at 0 if nothing happened; nothing at all for what could not be learnt.
    pub read: fn(&Reading<'_>, &mut Samples),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As in `# TYPE` lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All that a page is made from.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    pub snapshot: &'a Snapshot,
    /// `None` when `/proc/self` could not be read: then there is no `process_*`.
    pub process: Option<&'a ProcessStatus>,
    pub build: Build,
}

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    pub version: &'static str,
    /// The commit, or `unknown` in builds outside a repository.
    pub revision: &'static str,
}

impl Build {
    /// This build; the revision is the environment variable `SYNFIN_REVISION` of the compilation.
    pub const CURRENT: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        revision: match option_env!("SYNFIN_REVISION") {
            Some(revision) => revision,
            None => "unknown",
        },
    };
}

/// Collects the samples of one metric.
pub struct Samples {
    kind: Kind,
    labels: &'static [&'static str],
    samples: Vec<proto::Metric>,
}

impl Samples {
    pub(super) fn of(metric: &Metric, reading: &Reading<'_>) -> Vec<proto::Metric> {
        let mut samples = Self { kind: metric.kind, labels: metric.labels, samples: Vec::new() };
        (metric.read)(reading, &mut samples);
        samples.samples
    }

    /// A whole number; `values` are the label values in the row's order.
    pub fn count(&mut self, values: &[&str], number: u64) {
        self.value(values, number as f64);
    }

    /// A whole number of a series that exists only once it was counted, unless `possible`.
    pub fn count_if(&mut self, possible: bool, values: &[&str], number: u64) {
        if possible || number > 0 {
            self.count(values, number);
        }
    }

    /// A number of a counter or gauge.
    pub fn value(&mut self, values: &[&str], number: f64) {
        let mut sample = proto::Metric::from_label(self.pairs(values));
        match self.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(number);
                sample.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(number);
                sample.set_gauge(gauge);
            }
        }
        self.samples.push(sample);
    }

    /// A histogram, its bounds turned from nanoseconds to seconds.
    pub fn histogram(&mut self, values: &[&str], histogram: &Histogram) {
        let buckets = histogram.bounds_ns().iter().zip(histogram.cumulative()).map(|(&bound_ns, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound_ns as f64 / 1e9);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut proto_histogram = proto::Histogram::default();
        proto_histogram.set_bucket(buckets.collect());
        proto_histogram.set_sample_count(histogram.count());
        proto_histogram.set_sample_sum(histogram.sum_seconds());
        let mut sample = proto::Metric::from_label(self.pairs(values));
        sample.set_histogram(proto_histogram);
        self.samples.push(sample);
    }

    fn pairs(&self, values: &[&str]) -> Vec<proto::LabelPair> {
        debug_assert_eq!(self.labels.len(), values.len(), "a row gives one value a label");
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        self.labels.iter().zip(values).map(pair).collect()
    }
}
