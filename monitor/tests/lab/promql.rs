//! PromQL judged by Prometheus' own engine, on series as the daemon's page had them before and after the trouble.

use std::fmt::Write as _;
use std::process::Command;

use super::page::Page;

/// Minute at which the expression is evaluated: `[5m]` then holds the page before and the one after.
const AT: u32 = 9;
/// The page before is repeated up to this minute.
const BEFORE: u32 = 4;

/// Whether `expression` gives at least one series once the page has gone from `before` to `after`.
///
/// # Errors
/// What Prometheus says otherwise.
pub fn fires(expression: &str, before: &Page, after: &Page) -> Result<(), String> {
    let mut text = String::from("evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n");
    for (series, value) in &after.0 {
        let was = before.0.get(series).copied().unwrap_or(0.0);
        let quoted = series.replace('\'', "''");
        let _ = writeln!(text, "  - series: '{quoted}'\n    values: '{was}x{BEFORE} {value}x{AT}'");
    }
    let expression = expression.replace('\'', "''");
    let _ = writeln!(
        text,
        "  promql_expr_test:\n  - expr: 'clamp_max(count({expression}), 1)'\n    eval_time: {AT}m\n    exp_samples:\n    - value: 1"
    );
    let file = std::env::temp_dir().join(format!("synfin-promql-{}.yml", std::process::id()));
    std::fs::write(&file, &text).expect("a file in the temporary directory");
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output();
    let output =
        output.expect("cannot run promtool: install the Debian package `prometheus` (its service is not needed)");
    std::fs::remove_file(&file).expect("our own file");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said) }
}
