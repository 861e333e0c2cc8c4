//! Bucket bounds as text: the one spelling that Prometheus 2, Prometheus 3 and OpenMetrics all keep.

/// `1.0`, `0.005`, `2.5e-05`, `+Inf`: Go's shortest `%g` with at least one of `.` and `e`.
///
/// Prometheus 3 rewrites `le` to this form on ingestion and Prometheus 2 keeps what it gets: only this form
/// names the same series in both.
pub fn bound(value: f64) -> String {
    if value == f64::INFINITY {
        return "+Inf".to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Limits of `%g` in its shortest form: strconv.FormatFloat(value, 'g', -1, 64).
    if !(-4..6).contains(&exponent) && value != 0.0 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_spelt_as_prometheus_3_spells_it() {
        #[track_caller]
        fn check(value: f64, expected: &str) {
            assert_eq!(bound(value), expected);
        }
        check(0.0, "0.0");
        check(1.0, "1.0");
        check(60.0, "60.0");
        check(0.005, "0.005");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(0.000025, "2.5e-05");
        check(86_400.0, "86400.0");
        check(999_999.0, "999999.0");
        check(1e6, "1e+06");
        check(1_234_567.0, "1.234567e+06");
        check(f64::INFINITY, "+Inf");
    }
}
