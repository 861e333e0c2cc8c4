//! A diagnosis as text for people and as JSON for machines.

use serde::Serialize;

use super::finding::{Finding, Number, Severity};
use super::text::{count, cut, duration, per_second, percent, thousands, wrap};
use super::{Diagnosis, Facts, RULES, Unchecked, formulas};

/// Raised when a field of the JSON form changes meaning; new fields do not raise it.
pub const JSON_VERSION: u32 = 1;

/// Columns of a line of prose; commands to copy are never broken.
const WIDTH: usize = 96;
/// Lines of the summary, heading included: the smallest terminal that people use.
const SCREEN: usize = 24;
/// Columns before what belongs to a line of the summary.
const INDENT: usize = 4;
const LABEL: usize = 11;

/// Lines end in `\n`. In order: one line. One finding: a heading and its details. Several: a summary of one screen, then the details.
pub fn text(diagnosis: &Diagnosis) -> String {
    let mut lines = vec![];
    match diagnosis.findings.as_slice() {
        [] => lines.push(in_order(diagnosis)),
        [finding] => {
            lines.push(heading(diagnosis));
            lines.push(String::new());
            lines.extend(details(finding));
        }
        findings => {
            lines.push(heading(diagnosis));
            lines.extend(summary(findings));
            for finding in findings {
                lines.push(String::new());
                lines.extend(details(finding));
            }
        }
    }
    lines.extend(unchecked(&diagnosis.unchecked));
    lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The JSON form, one object on several lines. Ids and field names are stable.
///
/// # Errors
/// None that a diagnosis can cause; whatever serialization reports is passed on.
pub fn json(diagnosis: &Diagnosis) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Report<'a> {
        version: u32,
        /// `ok` or the worst severity.
        status: &'static str,
        exit_status: u8,
        facts: Facts,
        findings: &'a [Finding],
        unchecked: &'a [Unchecked],
    }
    let report = Report {
        version: JSON_VERSION,
        status: diagnosis.worst().map_or("ok", Severity::label),
        exit_status: diagnosis.exit_status(),
        facts: diagnosis.facts,
        findings: &diagnosis.findings,
        unchecked: &diagnosis.unchecked,
    };
    serde_json::to_string_pretty(&report).map(|text| text + "\n")
}

fn in_order(diagnosis: &Diagnosis) -> String {
    let facts = diagnosis.facts;
    let mut parts = vec![];
    parts.extend(facts.time_wait_sockets.map(|sockets| format!("{} in TIME_WAIT", count(sockets, "socket"))));
    if let (Some(used), Some(ports)) = (facts.busiest_destination_ports, facts.ephemeral_ports_available) {
        parts.push(format!("at most {} of ports in use to one destination", percent(formulas::share(used, ports))));
    }
    let checked = RULES.len() - diagnosis.unchecked.len();
    parts.push(match facts.window_seconds {
        Some(window) => format!("{checked} rules checked over {}", duration(window)),
        None => format!("{checked} rules checked at one moment"),
    });
    // Limits and counters of the kernel are by namespace; only the daemon's own are read.
    let scope = if facts.all_namespaces { " in all namespaces (kernel counters of one)" } else { "" };
    let verdict = if diagnosis.unchecked.is_empty() { "all in order" } else { "nothing found" };
    format!("{verdict}: {}{scope}", parts.join(", "))
}

/// How many of which kind, and over what time: a failure may be over by now.
fn heading(diagnosis: &Diagnosis) -> String {
    let findings = &diagnosis.findings;
    let counts = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| {
        let number = findings.iter().filter(|finding| finding.severity == severity).count();
        (number > 0).then(|| format!("{number} {}", severity.label()))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let over = match diagnosis.facts.window_seconds {
        Some(window) => format!("over the last {}", duration(window)),
        None => "at one moment".into(),
    };
    let scope = if diagnosis.facts.all_namespaces { ", in all network namespaces" } else { "" };
    format!("{} {over}{scope}: {}", count(findings.len() as u64, "finding"), counts.join(", "))
}

fn summary(findings: &[Finding]) -> Vec<String> {
    let mut lines = vec![];
    // The more there are, the less is said of each, so that all fit on one screen; the most severe come first.
    let room = SCREEN.saturating_sub(1 + findings.len());
    let (with_whose, with_fix) = match room.checked_sub(findings.len()) {
        Some(rest) => (findings.len(), rest),
        None => (room / 2, room / 2),
    };
    for (at, finding) in findings.iter().enumerate() {
        let head = format!("{:<8} {}  {}", finding.severity.label(), finding.id, finding.title);
        lines.push(cut(&head, WIDTH + 4));
        let said = [
            finding.whose.first().filter(|_| at < with_whose).map(|whose| format!("{:INDENT$}{whose}", "")),
            finding.fixes.first().filter(|_| at < with_fix).map(|fix| format!("{:INDENT$}do: {fix}", "")),
        ];
        lines.extend(said.into_iter().flatten().map(|line| cut(&line, WIDTH + 4)));
    }
    lines
}

fn details(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("{} {}: {}", finding.id, finding.severity.label(), finding.title)];
    let mut block = |label: &str, paragraphs: Vec<String>| {
        let mut label = label;
        for paragraph in paragraphs {
            for line in wrap(&paragraph, WIDTH - LABEL) {
                lines.push(format!("  {label:<width$}{line}", width = LABEL - 2));
                label = "";
            }
        }
    };
    block("whose", finding.whose.clone());
    block("why", vec![finding.why.clone()]);
    let measured = finding.measured.iter();
    block("measured", measured.map(|m| format!("{}: {} [{}]", m.name, amount(m.value, m.unit), m.source)).collect());
    let threshold = &finding.threshold;
    block("limit", vec![format!("{}: {}", amount(threshold.value, threshold.unit), threshold.formula)]);
    block("do", (1..).zip(&finding.fixes).map(|(n, fix)| format!("{n}. {fix}")).collect());
    block("no help", finding.not_helpful.clone());
    for (label, command) in [("PromQL", &finding.verify.promql), ("shell", &finding.verify.ss)] {
        lines.push(format!("  {label:<width$}{command}", width = LABEL - 2));
    }
    lines
}

fn amount(value: Number, unit: &str) -> String {
    match (value, unit) {
        (Number::Real(share), "1") => percent(share),
        (Number::Real(seconds), "s") => duration(seconds),
        (Number::Real(rate), "1/s") => per_second(rate),
        (Number::Real(real), unit) => format!("{real:.1} {unit}"),
        (Number::Count(count), "1") => thousands(count),
        (Number::Count(1), unit) => {
            format!("1 {}", unit.strip_suffix('s').filter(|unit| !unit.is_empty()).unwrap_or(unit))
        }
        (Number::Count(count), unit) => format!("{} {unit}", thousands(count)),
    }
}

fn unchecked(rules: &[Unchecked]) -> Vec<String> {
    let mut lines = vec![];
    if !rules.is_empty() {
        lines.push("could not check:".into());
    }
    for rule in rules {
        for (at, line) in wrap(&rule.why, WIDTH - LABEL).into_iter().enumerate() {
            let id = if at == 0 { rule.id } else { "" };
            lines.push(format!("  {id:<width$}{line}", width = LABEL - 2));
        }
    }
    lines
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
