//! `docs/METRICS.md`, generated from the catalogue.

use super::{CATALOGUE, Metric};

/// The whole document, Markdown.
pub fn document() -> String {
    let mut text = String::from(HEAD);
    for section in CATALOGUE {
        text.push_str(&format!("\n## {}\n\n", section.title));
        text.push_str("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
        for metric in section.metrics {
            text.push_str(&row(metric));
        }
    }
    text
}

const HEAD: &str = "\
# Metrics

Generated from the catalogue in `src/present/catalogue/`; do not edit. To renew it: `SYNFIN_BLESS=1 cargo test -p synfin present`.

Every series that can exist exists from the start at 0. Times are seconds, sizes are bytes, points in time are Unix seconds.
";

fn row(metric: &Metric) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let or_dash = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    format!(
        "| `{}` | {} | {} | {} | {} |\n",
        metric.name,
        metric.kind.label(),
        or_dash(metric.unit.unwrap_or_default().to_owned()),
        or_dash(labels.join(", ")),
        metric.help.replace('|', "\\|"),
    )
}
