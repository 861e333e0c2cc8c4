//! A metrics page in the Prometheus text format 0.0.4, as a map from series to value.

use std::collections::BTreeMap;

/// Series by canonical name: labels sorted, `name{a="1",b="2"}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page(pub BTreeMap<String, f64>);

impl Page {
    /// Panics on a line that is neither a comment nor a sample: the page is under test too.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(samples.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// Value of one series; panics when the page lacks it, as every series exists from the start.
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("the page lacks {series}"))
    }

    /// Sum over the series of a metric whose labels contain all of `labels` (`role="client"`).
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(series, _)| name(series) == metric && labels.iter().all(|l| series.contains(l)))
            .map(|(_, v)| v)
            .sum()
    }

    /// Series of `self` less the same of `before`, where they differ.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |(series, after): (&String, &f64)| {
            let delta = after - before.0.get(series).copied().unwrap_or(0.0);
            (delta != 0.0).then(|| (series.clone(), delta))
        };
        Self(self.0.iter().filter_map(difference).collect())
    }

    /// The counters of the TCP life and the counts of its histograms: what a scripted life determines. Not those by endpoint, see
    /// [`Self::unequal_sums`].
    pub fn tcp_counters(&self) -> Self {
        let wanted = |series: &str| {
            let name = name(series);
            let counts = name.ends_with("_total") || name.ends_with("_count");
            name.starts_with("synfin_tcp_") && counts && name != CLOSES_BY_ENDPOINT
        };
        Self(self.0.iter().filter(|(series, _)| wanted(series)).map(|(s, v)| (s.clone(), *v)).collect())
    }
}

/// Places on the page come and go, but nothing that was counted does.
const CLOSES_BY_ENDPOINT: &str = "synfin_tcp_endpoint_closes_total";

impl Page {
    /// Where what is counted by endpoint does not sum to what is counted without.
    pub fn unequal_sums(&self) -> Vec<String> {
        let closes = ["local", "remote", "simultaneous", "reset", "timeout", "unknown"].map(|close| {
            let label = format!("close=\"{close}\"");
            (self.sum("synfin_tcp_connections_closed_total", &[&label]), self.sum(CLOSES_BY_ENDPOINT, &[&label]), close)
        });
        let no_port = (
            self.sum("synfin_tcp_connect_failures_total", &["reason=\"no_local_port\""]),
            self.sum("synfin_ephemeral_port_failures_total", &[]),
            "no_local_port",
        );
        let all = closes.into_iter().chain([no_port]);
        let unequal = all.filter(|(sum, by_endpoint, _)| sum != by_endpoint);
        unequal.map(|(sum, by_endpoint, what)| format!("{what} by endpoint: {by_endpoint} of {sum}")).collect()
    }
}

/// Metric name of a series.
pub fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

fn sample(line: &str) -> Option<(String, f64)> {
    let (series, value) = match line.find('{') {
        None => line.split_once(' ')?,
        Some(open) => {
            let close = open + closing_brace(&line[open..])?;
            (&line[..=close], line[close + 1..].trim_start())
        }
    };
    Some((canonical(series), value.split(' ').next()?.parse().ok()?))
}

/// Position of the brace that closes the label set, skipping quoted values.
fn closing_brace(labels: &str) -> Option<usize> {
    unquoted(labels).find(|&at| labels.as_bytes()[at] == b'}')
}

/// Positions of the bytes outside quoted values.
fn unquoted(labels: &str) -> impl Iterator<Item = usize> {
    let (mut quoted, mut escaped) = (false, false);
    labels.bytes().enumerate().filter_map(move |(at, byte)| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'"' if !was_escaped => quoted = !quoted,
            b'\\' if quoted && !was_escaped => escaped = true,
            _ => {}
        }
        (!quoted).then_some(at)
    })
}

fn canonical(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let labels = &labels[..labels.len() - 1];
    let mut start = 0;
    let mut pairs = Vec::new();
    for comma in unquoted(labels).filter(|&at| labels.as_bytes()[at] == b',') {
        pairs.push(&labels[start..comma]);
        start = comma + 1;
    }
    pairs.push(&labels[start..]);
    pairs.sort_unstable();
    format!("{name}{{{}}}", pairs.join(","))
}
