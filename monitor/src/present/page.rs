//! One reading as metric families: what both formats are encoded from.

use prometheus::proto::{MetricFamily, MetricType};

use super::{CATALOGUE, Kind, Metric, Reading, Samples, openmetrics, text};

/// All families with at least one sample, in the order of the catalogue.
pub struct Page {
    families: Vec<MetricFamily>,
    /// The unit of each family.
    units: Vec<Option<&'static str>>,
}

impl Page {
    pub fn new(reading: &Reading<'_>) -> Self {
        let mut page = Self { families: Vec::new(), units: Vec::new() };
        for metric in CATALOGUE.iter().flat_map(|section| section.metrics) {
            page.push(metric, reading);
        }
        page
    }

    /// A page of some rows only.
    #[cfg(test)]
    pub(super) fn of(metrics: &[Metric], reading: &Reading<'_>) -> Self {
        let mut page = Self { families: Vec::new(), units: Vec::new() };
        for metric in metrics {
            page.push(metric, reading);
        }
        page
    }

    fn push(&mut self, metric: &Metric, reading: &Reading<'_>) {
        let samples = Samples::of(metric, reading);
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(match metric.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(samples);
        self.families.push(family);
        self.units.push(metric.unit);
    }

    /// Prometheus text format 0.0.4, served as [`super::TEXT_CONTENT_TYPE`].
    ///
    /// # Errors
    /// None is known: the encoder refuses only families without a name or a sample, and there are none.
    pub fn text(&self) -> anyhow::Result<String> {
        text::encode(&self.families)
    }

    /// OpenMetrics 1.0, served as [`super::OPENMETRICS_CONTENT_TYPE`].
    pub fn openmetrics(&self) -> String {
        openmetrics::encode(self.families.iter().zip(self.units.iter().copied()))
    }

    /// Time series on the page, as Prometheus counts them: a bucket is one.
    pub fn series(&self) -> usize {
        let of_sample = |family: &MetricFamily, sample: &prometheus::proto::Metric| match family.get_field_type() {
            // `+Inf`, `_sum`, `_count`.
            MetricType::HISTOGRAM => sample.get_histogram().get_bucket().len() + 3,
            _ => 1,
        };
        self.families
            .iter()
            .map(|family| family.get_metric().iter().map(|sample| of_sample(family, sample)).sum::<usize>())
            .sum()
    }
}
