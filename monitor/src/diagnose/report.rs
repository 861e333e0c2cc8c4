//! A diagnosis as text for people and as JSON for machines.

use serde::Serialize;

use super::finding::{Finding, Number, Severity};
use super::text::{count, duration, per_second, percent, thousands, wrap};
use super::{Diagnosis, Facts, RULES, Unchecked, formulas};

/// Raised when a field of the JSON form changes meaning; new fields do not raise it.
pub const JSON_VERSION: u32 = 1;

/// Columns of a line: fewer cannot be read, more are tiring. Commands to copy are never broken.
const COLUMNS: [usize; 2] = [40, 100];
/// Lines of the smallest terminal that people use, one of them for the prompt that follows.
const LINES: usize = 23;
/// Columns before what belongs to a line of the summary, and before what follows `do: `.
const INDENT: usize = 4;
const DO: &str = "do: ";
/// Columns before the title in the summary: severity, id.
const TITLE: usize = 17;
const LABEL: usize = 11;

/// How much of what was found is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent<'a> {
    /// What fits on one screen.
    Summary,
    /// Each finding whole.
    Details,
    /// The finding with this id, whole.
    Finding(&'a str),
}

/// Lines end in `\n`. In order: one line, however long. `columns`: of the terminal.
pub fn text(diagnosis: &Diagnosis, extent: Extent<'_>, columns: usize) -> String {
    let [least, most] = COLUMNS;
    let width = columns.clamp(least, most);
    let lines = match extent {
        Extent::Summary if is_quiet(&diagnosis.findings) => {
            let mut lines = vec![in_order(diagnosis)];
            let rules = &diagnosis.unchecked;
            let whole = unchecked(rules, width);
            lines.extend(if whole.len() < LINES { whole } else { unchecked_ids(rules, width) });
            lines
        }
        Extent::Summary => summary(diagnosis, width),
        Extent::Details => all_details(diagnosis, width),
        Extent::Finding(id) => one(diagnosis, id, width),
    };
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

/// Nothing found, or only the remark that containers have traffic of their own, which is so on any host with one.
fn is_quiet(findings: &[Finding]) -> bool {
    match findings {
        [] => true,
        [only] => only.id == "NS-001" && only.severity == Severity::Info,
        [_, _, ..] => false,
    }
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
    // Sockets and kernel counters are of all, limits of each; the copied sysctls of TW-010 are read in one place.
    let scope = if facts.all_namespaces { " in all network namespaces (TW-010: in the daemon's own)" } else { "" };
    let lost = lost(&facts);
    let verdict = if diagnosis.unchecked.is_empty() && lost.is_none() { "all in order" } else { "nothing found" };
    let remarks = diagnosis.findings.iter().map(|finding| format!("{}: {}", finding.id, finding.title));
    let sentences = [format!("{verdict}: {}{scope}", parts.join(", "))].into_iter().chain(lost).chain(remarks);
    sentences.collect::<Vec<_>>().join("; ")
}

/// What the numbers leave out; `None` when that is nothing, or not known.
fn lost(facts: &Facts) -> Option<String> {
    let some = |number: Option<u64>| number.filter(|&number| number > 0);
    let verb = |number| if number == 1 { "was" } else { "were" };
    let records = some(facts.lost_records).map(|records| {
        let records_were = format!("{} {}", count(records, "record"), verb(records));
        format!("{records_were} lost in this window: counts from events are lower bounds")
    });
    let connections = some(facts.table_full_connections).map(|connections| {
        let connections_were = format!("{} {}", count(connections, "connection"), verb(connections));
        format!("{connections_were} not followed to the end: a larger --max-connections is needed")
    });
    let lost: Vec<String> = records.into_iter().chain(connections).collect();
    (!lost.is_empty()).then(|| lost.join("; "))
}

/// How many of which kind, and over what time: a failure may be over by now.
fn heading(diagnosis: &Diagnosis) -> String {
    let findings = &diagnosis.findings;
    let counts = [Severity::Critical, Severity::Warning, Severity::Info].map(|severity| {
        let number = findings.iter().filter(|finding| finding.severity == severity).count();
        (number > 0).then(|| format!("{number} {}", severity.label()))
    });
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let scope = if diagnosis.facts.all_namespaces { ", in all network namespaces" } else { "" };
    format!("{} {}{scope}: {}", count(findings.len() as u64, "finding"), over(&diagnosis.facts), counts.join(", "))
}

fn over(facts: &Facts) -> String {
    match facts.window_seconds {
        Some(window) => format!("over the last {}", duration(window)),
        None => "at one moment".into(),
    }
}

/// In the order in which what is said of the findings is given room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    Title,
    FirstFix,
    FirstWhose,
    Why,
    Fixes,
    Whose,
}

/// After the titles.
const BY_WORTH: [Worth; 5] = [Worth::FirstFix, Worth::FirstWhose, Worth::Why, Worth::Fixes, Worth::Whose];

/// Lines that are shown together or not at all.
struct Part {
    worth: Worth,
    lines: Vec<String>,
    shown: bool,
}

/// All that the summary may say of a finding, in the order in which it is read.
fn parts(finding: &Finding, width: usize) -> Vec<Part> {
    let part = |worth, lines| Part { worth, lines, shown: worth == Worth::Title };
    let head = format!("{:<8} {}  ", finding.severity.label(), finding.id);
    let mut parts = vec![part(Worth::Title, hanging(&head, TITLE, &finding.title, width))];
    for (at, whose) in finding.whose.iter().enumerate() {
        let worth = if at == 0 { Worth::FirstWhose } else { Worth::Whose };
        parts.push(part(worth, hanging("", INDENT, whose, width)));
    }
    parts.push(part(Worth::Why, hanging("", INDENT, &finding.why, width)));
    for (at, fix) in finding.fixes.iter().enumerate() {
        let (worth, label) = if at == 0 { (Worth::FirstFix, DO) } else { (Worth::Fixes, "") };
        let number = if finding.fixes.len() > 1 { format!("{}. ", at + 1) } else { String::new() };
        let head = format!("{:INDENT$}{label:<width$}", "", width = DO.len());
        parts.push(part(worth, hanging(&head, INDENT + DO.len(), &(number + fix), width)));
    }
    parts
}

/// One screen, whatever was found: first the titles, the most severe first, then as much of the rest as has room.
fn summary(diagnosis: &Diagnosis, width: usize) -> Vec<String> {
    let findings = &diagnosis.findings;
    let mut lines = hanging("", 0, &heading(diagnosis), width);
    lines.extend(lost(&diagnosis.facts).into_iter().flat_map(|lost| hanging("", 0, &lost, width)));
    let mut tail = unchecked_ids(&diagnosis.unchecked, width);
    tail.extend(hanging("", 0, &how_to_see_more(findings), width));
    let mut blocks: Vec<Vec<Part>> = findings.iter().map(|finding| parts(finding, width)).collect();
    let mut room = LINES.saturating_sub(lines.len() + tail.len());
    let length = |blocks: &[Vec<Part>]| -> usize {
        blocks.iter().flatten().filter(|part| part.shown).map(|part| part.lines.len()).sum()
    };
    let fits = |&shown: &usize| length(&blocks[..shown]) + more(&findings[shown..], width).len() <= room;
    let shown = (1..=blocks.len()).rev().find(fits).unwrap_or(1);
    let more = more(&findings[shown..], width);
    blocks.truncate(shown);
    room = room.saturating_sub(length(&blocks) + more.len());
    for worth in BY_WORTH {
        for part in blocks.iter_mut().flatten().filter(|part| part.worth == worth) {
            let Some(left) = room.checked_sub(part.lines.len()) else { break };
            (room, part.shown) = (left, true);
        }
    }
    lines.extend(blocks.into_iter().flatten().filter(|part| part.shown).flat_map(|part| part.lines));
    lines.extend(more);
    lines.extend(tail);
    lines
}

/// Findings for which there is no room.
fn more(findings: &[Finding], width: usize) -> Vec<String> {
    if findings.is_empty() {
        return vec![];
    }
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    hanging("", 0, &format!("and {} more: {}", findings.len(), ids.join(", ")), width)
}

fn how_to_see_more(findings: &[Finding]) -> String {
    match findings {
        [first, _, ..] => format!("details: the same command with --details; of one finding: --explain {}", first.id),
        [_] | [] => "details: the same command with --details".into(),
    }
}

fn all_details(diagnosis: &Diagnosis, width: usize) -> Vec<String> {
    let mut lines = vec![];
    if diagnosis.findings.is_empty() {
        lines.push(in_order(diagnosis));
    } else {
        lines.push(heading(diagnosis));
        lines.extend(lost(&diagnosis.facts));
    }
    for finding in &diagnosis.findings {
        lines.push(String::new());
        lines.extend(details(finding, width));
    }
    lines.extend(unchecked(&diagnosis.unchecked, width));
    lines
}

fn one(diagnosis: &Diagnosis, id: &str, width: usize) -> Vec<String> {
    let found = diagnosis.findings.iter().find(|finding| finding.id == id);
    let rule = diagnosis.unchecked.iter().find(|rule| rule.id == id);
    let mut lines = match (found, rule) {
        (Some(finding), _) => details(finding, width),
        (None, Some(rule)) => unchecked(std::slice::from_ref(rule), width),
        (None, None) => vec![format!("{id}: nothing found {}", over(&diagnosis.facts))],
    };
    lines.extend(lost(&diagnosis.facts));
    lines
}

/// `text` behind `head`, all its lines from the same column on; a word longer than the line is broken.
fn hanging(head: &str, column: usize, text: &str, width: usize) -> Vec<String> {
    let room = width - column;
    let lines = wrap(text, room).into_iter().flat_map(|line| {
        let characters: Vec<char> = line.chars().collect();
        characters.chunks(room).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>()
    });
    lines.enumerate().map(|(at, line)| format!("{:<column$}{line}", if at == 0 { head } else { "" })).collect()
}

fn details(finding: &Finding, width: usize) -> Vec<String> {
    let mut lines = vec![format!("{} {}: {}", finding.id, finding.severity.label(), finding.title)];
    let mut block = |label: &str, paragraphs: Vec<String>| {
        let mut label = label;
        for paragraph in paragraphs {
            for line in wrap(&paragraph, width - LABEL) {
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

fn unchecked(rules: &[Unchecked], width: usize) -> Vec<String> {
    let mut lines = vec![];
    if !rules.is_empty() {
        lines.push("could not check:".into());
    }
    for rule in rules {
        for (at, line) in wrap(&rule.why, width - LABEL).into_iter().enumerate() {
            let id = if at == 0 { rule.id } else { "" };
            lines.push(format!("  {id:<width$}{line}", width = LABEL - 2));
        }
    }
    lines
}

fn unchecked_ids(rules: &[Unchecked], width: usize) -> Vec<String> {
    if rules.is_empty() {
        return vec![];
    }
    let ids: Vec<&str> = rules.iter().map(|rule| rule.id).collect();
    hanging("", 0, &format!("could not check (--details says why): {}", ids.join(", ")), width)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
