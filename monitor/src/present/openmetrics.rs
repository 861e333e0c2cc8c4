//! OpenMetrics 1.0 text: the same families with `# UNIT`, `# EOF` and counters named without `_total` in their metadata.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::number;

/// Exactly what Prometheus accepts for this format.
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn encode<'a>(families: impl Iterator<Item = (&'a MetricFamily, Option<&'static str>)>) -> String {
    let mut page = String::with_capacity(64 << 10);
    for (family, unit) in families {
        encode_family(&mut page, family, unit);
    }
    page.push_str("# EOF\n");
    page
}

fn encode_family(page: &mut String, family: &MetricFamily, unit: Option<&str>) {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
        _ => family.name(),
    };
    let kind_label = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    push(page, &["# TYPE ", name, " ", kind_label, "\n"]);
    if let Some(unit) = unit {
        push(page, &["# UNIT ", name, " ", unit, "\n"]);
    }
    push(page, &["# HELP ", name, " "]);
    push_escaped(page, family.help());
    page.push('\n');
    for metric in family.get_metric() {
        match kind {
            MetricType::COUNTER => sample(page, name, "_total", metric, None, metric.get_counter().get_value()),
            MetricType::HISTOGRAM => encode_histogram(page, name, metric),
            // The catalogue knows no others.
            MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                sample(page, name, "", metric, None, metric.get_gauge().get_value());
            }
        }
    }
}

fn encode_histogram(page: &mut String, name: &str, metric: &Metric) {
    let histogram = metric.get_histogram();
    for bucket in histogram.get_bucket() {
        let bound = number::bound(bucket.upper_bound());
        sample(page, name, "_bucket", metric, Some(&bound), bucket.cumulative_count() as f64);
    }
    let count = histogram.get_sample_count() as f64;
    sample(page, name, "_bucket", metric, Some("+Inf"), count);
    sample(page, name, "_sum", metric, None, histogram.get_sample_sum());
    sample(page, name, "_count", metric, None, count);
}

fn sample(page: &mut String, name: &str, suffix: &str, metric: &Metric, le: Option<&str>, value: f64) {
    push(page, &[name, suffix]);
    push_labels(page, metric.get_label(), le);
    push(page, &[" ", &value.to_string(), "\n"]);
}

fn push_labels(page: &mut String, labels: &[LabelPair], le: Option<&str>) {
    let pairs = labels.iter().map(|pair| (pair.name(), pair.value())).chain(le.map(|bound| ("le", bound)));
    let mut separator = "{";
    for (name, value) in pairs {
        push(page, &[separator, name, "=\""]);
        push_escaped(page, value);
        page.push('"');
        separator = ",";
    }
    if separator == "," {
        page.push('}');
    }
}

/// Label values and, unlike in the older format, help texts: backslash, newline and quote are escaped.
fn push_escaped(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => page.push_str("\\\\"),
            '\n' => page.push_str("\\n"),
            '"' => page.push_str("\\\""),
            _ => page.push(c),
        }
    }
}

fn push(page: &mut String, parts: &[&str]) {
    for part in parts {
        page.push_str(part);
    }
}
