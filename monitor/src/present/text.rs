//! Prometheus text format 0.0.4.

use std::borrow::Cow;

use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

use super::number;

/// Exactly what Prometheus 3 accepts without a fallback.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn encode(families: &[MetricFamily]) -> anyhow::Result<String> {
    let page = TextEncoder::new().encode_to_string(families)?;
    let mut spelt = String::with_capacity(page.len() + page.len() / 64);
    for line in page.split_inclusive('\n') {
        spelt.push_str(&with_spelt_bound(line));
    }
    Ok(spelt)
}

/// The encoder writes `le="1"`; [`number::bound`] says why it must be `le="1.0"`.
///
/// `le` is always the last label, and a quote inside a label value is preceded by a backslash, so the last quote
/// before the closing one opens the value of `le` exactly when `,le=` or `{le=` stands before it.
fn with_spelt_bound(line: &str) -> Cow<'_, str> {
    let respelt = || {
        let (name, _) = line.split_once('{')?;
        if name.starts_with('#') || !name.ends_with("_bucket") {
            return None;
        }
        let close = line.rfind("\"} ")?;
        let open = line[..close].rfind('"')?;
        let before = &line[..open];
        if !before.ends_with(",le=") && !before.ends_with("{le=") {
            return None;
        }
        let bound: f64 = line[open + 1..close].parse().ok()?;
        Some(format!("{before}\"{}{}", number::bound(bound), &line[close..]))
    };
    respelt().map_or(Cow::Borrowed(line), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bounds_are_respelt() {
        #[track_caller]
        fn check(line: &str, expected: &str) {
            assert_eq!(with_spelt_bound(line), expected);
        }
        check("a_bucket{le=\"1\"} 5\n", "a_bucket{le=\"1.0\"} 5\n");
        check("a_bucket{role=\"x\",le=\"0.00001\"} 5\n", "a_bucket{role=\"x\",le=\"1e-05\"} 5\n");
        check("a_bucket{role=\"x\",le=\"+Inf\"} 5\n", "a_bucket{role=\"x\",le=\"+Inf\"} 5\n");
        check("a_bucket{role=\",le=\\\"1\",le=\"1\"} 5\n", "a_bucket{role=\",le=\\\"1\",le=\"1.0\"} 5\n");
        check("a_bucket{role=\",le=\\\"1\"} 5\n", "a_bucket{role=\",le=\\\"1\"} 5\n");
        check("a_sum{le=\"1\"} 5\n", "a_sum{le=\"1\"} 5\n");
        check("# HELP a_bucket{le=\"1\"} 5\n", "# HELP a_bucket{le=\"1\"} 5\n");
        check("a 5\n", "a 5\n");
    }
}
