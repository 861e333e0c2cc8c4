//! The metric catalogue: every metric that synfin exports, one row each, in the order of the page.

mod connections;
mod daemon;
mod listeners;
mod namespaces;
mod ports;
mod process;
mod sockets;
mod time_wait;

use super::Metric;

/// Rows that belong together in the document.
pub struct Section {
    pub title: &'static str,
    pub metrics: &'static [Metric],
}

/// All of it. A new file of rows is one more line here.
pub const CATALOGUE: &[Section] = &[
    Section { title: "Connections", metrics: connections::METRICS },
    Section { title: "Sockets now", metrics: sockets::METRICS },
    Section { title: "TIME_WAIT", metrics: time_wait::METRICS },
    Section { title: "Ephemeral ports", metrics: ports::METRICS },
    Section { title: "Listeners and CLOSE_WAIT", metrics: listeners::METRICS },
    Section { title: "Network namespaces", metrics: namespaces::METRICS },
    Section { title: "The daemon", metrics: daemon::METRICS },
    Section { title: "The process", metrics: process::METRICS },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::Kind;
    use super::*;

    fn rows() -> impl Iterator<Item = &'static Metric> {
        CATALOGUE.iter().flat_map(|section| section.metrics)
    }

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for row in rows() {
            assert!(seen.insert(row.name), "{} is twice in the catalogue", row.name);
        }
    }

    #[test]
    fn total_ends_counters_and_nothing_else() {
        for row in rows() {
            assert_eq!(row.name.ends_with("_total"), row.kind == Kind::Counter, "{}", row.name);
        }
    }

    #[test]
    fn a_unit_is_the_last_word_of_its_name() {
        // OpenMetrics 1.0, "Unit": the name of the family must end in an underscore and the unit.
        for row in rows() {
            let family = row.name.strip_suffix("_total").unwrap_or(row.name);
            if let Some(unit) = row.unit {
                assert!(family.ends_with(&format!("_{unit}")), "{} does not end in {unit}", row.name);
            }
            for unit in ["seconds", "bytes"] {
                assert!(!family.ends_with(unit) || row.unit == Some(unit), "{} has unit {unit}", row.name);
            }
        }
    }

    #[test]
    fn no_label_collides_with_what_scrapers_add() {
        for row in rows() {
            for label in row.labels {
                let taken = ["instance", "job", "service", "cluster", "env", "type", "le", "quantile"];
                assert!(!taken.contains(label), "{} has label {label}", row.name);
            }
        }
    }
}
