//! What people and machines get to see: golden pages, and the size of the summary.
//!
//! `SYNFIN_BLESS=1 cargo test -p synfin --lib diagnose` writes the pages anew; read the difference before committing it.

use std::path::Path;

use super::super::{Counters, Evidence, LostDetail, Namespaces, TimeWait, Trend, TupleUse, diagnose, fixture};
use super::*;
use crate::lifecycle::Role;

fn check(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("diagnose_{name}.txt"));
    if std::env::var_os("SYNFIN_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, golden, "{} differs", path.display());
}

fn changed(change: impl FnOnce(&mut Evidence)) -> Diagnosis {
    let mut evidence = fixture::in_order();
    change(&mut evidence);
    diagnose(&evidence)
}

#[test]
fn golden_pages() {
    let harmless = changed(|e| {
        let makers = vec![
            fixture::maker(Role::Client, Some(443), 6000),
            fixture::maker(Role::Server, Some(8080), 50_000),
            fixture::maker(Role::Client, None, 4000),
        ];
        e.time_wait = Some(TimeWait { total: 60_000, makers });
    });
    let knee = changed(|e| {
        let trend = Some(Trend { delta: 3000, seconds: 5.0 });
        e.tuples = Some(vec![TupleUse { opens_per_second: Some(600.0), trend, ..fixture::tuple(14_200) }]);
    });
    let unwatched = changed(|e| {
        e.window_seconds = None;
        e.failures = None;
        e.handshakes = None;
        e.counters = Counters::default();
    });
    let night = diagnose(&fixture::a_bad_night());
    let summary = |diagnosis: &Diagnosis| text(diagnosis, Extent::Summary, 80);
    check("in_order", &summary(&changed(|_| {})));
    check("harmless", &summary(&harmless));
    check("knee", &summary(&knee));
    check("bad_night", &summary(&night));
    check("bad_night_narrow", &text(&night, Extent::Summary, 60));
    check("bad_night_details", &text(&night, Extent::Details, 96));
    check("unwatched", &summary(&unwatched));
    check("in_order_json", &json(&changed(|_| {})).unwrap());
    check("knee_json", &json(&knee).unwrap());
}

#[test]
fn every_query_is_promql() {
    let night = diagnose(&fixture::a_bad_night());
    let mut rules = String::from("groups:\n- name: verify\n  rules:\n");
    for finding in &night.findings {
        let query = finding.verify.promql.replace('\'', "''");
        rules += &format!("  - alert: {}\n    expr: '{query}'\n", finding.id.replace('-', "_"));
    }
    let file = std::env::temp_dir().join(format!("synfin-queries-{}.yml", std::process::id()));
    std::fs::write(&file, rules).unwrap();
    let output = std::process::Command::new("promtool").args(["check", "rules"]).arg(&file).output();
    std::fs::remove_file(&file).unwrap();
    let output =
        output.expect("cannot run promtool: install the Debian package `prometheus` (its service is not needed)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(night.findings.len() >= 10);
}

#[test]
fn a_host_in_order_gets_one_line() {
    let check = |change: fn(&mut Evidence), starts: &str, ends: &str| {
        let diagnosis = changed(change);
        let page = text(&diagnosis, Extent::Summary, 80);
        assert!(page.starts_with(starts) && page.ends_with(&format!("{ends}\n")), "{page}");
        assert_eq!((page.lines().count(), diagnosis.exit_status()), (1, 0), "{page}");
    };
    check(|_| {}, "all in order: 600 sockets", "checked over 1 min");
    let others = |e: &mut Evidence| {
        e.namespaces = Some(Namespaces { count: 4, all_watched: false, elsewhere_transitions: Some(52_000) });
    };
    let remark = "; NS-001: there is traffic outside these numbers, in 3 other network namespaces";
    check(others, "all in order: ", remark);
    let all = |e: &mut Evidence| {
        e.namespaces = Some(Namespaces { count: 4, all_watched: true, elsewhere_transitions: Some(0) });
    };
    check(all, "all in order: ", "over 1 min in all network namespaces (TW-010: in the daemon's own)");
    // What was not seen is not in order.
    let lost = |e: &mut Evidence| e.lost = Some(LostDetail { records: 676, table_full: 0 });
    check(lost, "nothing found: ", "; 676 records were lost in this window: counts from events are lower bounds");
    let unfollowed = |e: &mut Evidence| e.lost = Some(LostDetail { records: 0, table_full: 1 });
    check(
        unfollowed,
        "nothing found: ",
        "; 1 connection was not followed to the end: a larger --max-connections is needed",
    );
}

#[test]
fn lost_records_are_told_with_findings_too() {
    let mut evidence = fixture::a_bad_night();
    evidence.lost = Some(LostDetail { records: 1, table_full: 20 });
    let night = diagnose(&evidence);
    let line = "1 record was lost in this window: counts from events are lower bounds";
    for extent in [Extent::Summary, Extent::Details, Extent::Finding("TW-003"), Extent::Finding("TW-001")] {
        let page = text(&night, extent, 80);
        assert!(page.lines().any(|said| said.starts_with(line)), "{page}");
    }
    let facts: serde_json::Value = serde_json::from_str(&json(&night).unwrap()).unwrap();
    assert_eq!((&facts["facts"]["lost_records"], &facts["facts"]["table_full_connections"]), (&1.into(), &20.into()));
}

#[test]
fn one_finding_can_be_asked_for() {
    let night = diagnose(&fixture::a_bad_night());
    let check = |diagnosis: &Diagnosis, id: &str, starts: &str| {
        let page = text(diagnosis, Extent::Finding(id), 80);
        assert!(page.starts_with(starts), "{page}");
    };
    check(&night, "CW-001", "CW-001 warning: worker.service does not close: 812 sockets");
    check(&night, "TW-007", "TW-007: nothing found over the last 1 min\n");
    check(&changed(|e| e.failures = None), "HS-001", "could not check:\n  HS-001   failed connects were not watched\n");
}

#[test]
fn the_summary_fits_on_one_screen_whatever_is_wrong() {
    let check = |number: usize, length: usize, columns: usize| {
        let long = Finding {
            title: "x".repeat(length),
            whose: vec!["y ".repeat(length); 5],
            why: "w ".repeat(length),
            fixes: vec!["z".repeat(length); 5],
            ..fixture::finding(Severity::Warning)
        };
        let unchecked = RULES[number..].iter().map(|(id, _)| Unchecked { id, why: "v".repeat(length) }).collect();
        let facts = Facts { lost_records: Some(9), ..Facts::default() };
        let diagnosis = Diagnosis { findings: vec![long; number], unchecked, facts };
        let page = text(&diagnosis, Extent::Summary, columns);
        let lines: Vec<&str> = page.lines().collect();
        assert!(lines.len() <= LINES, "{number} findings take {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= columns), "{page}");
        let titles = lines.iter().filter(|line| line.starts_with("warning")).count();
        let left = number - titles;
        assert_eq!(left > 0, lines.iter().any(|line| line.starts_with(&format!("and {left} more: "))), "{page}");
        assert!(page.contains("--details"), "{page}");
    };
    for number in 1..=RULES.len() {
        // The longest name of a unit makes a title of some 160.
        for length in [20, 88, 160] {
            [40, 80, 100].into_iter().for_each(|columns| check(number, length, columns));
        }
    }
}

#[test]
fn nothing_is_cut_from_a_title() {
    let knee = changed(|e| {
        let trend = Some(Trend { delta: 3000, seconds: 5.0 });
        e.tuples = Some(vec![TupleUse { opens_per_second: Some(600.0), trend, ..fixture::tuple(14_200) }]);
    });
    for columns in [0, 40, 60, 80, 200] {
        let page = text(&knee, Extent::Summary, columns);
        let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&knee.findings[0].title), "{page}");
    }
}

#[test]
fn json_names_are_stable() {
    let value: serde_json::Value = serde_json::from_str(&json(&diagnose(&fixture::a_bad_night())).unwrap()).unwrap();
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&value), "exit_status facts findings status unchecked version");
    let finding = &value["findings"][0];
    assert_eq!(names(finding), "fixes id measured not_helpful severity subjects threshold title verify whose why");
    assert_eq!(names(&finding["measured"][0]), "name source unit value");
    assert_eq!(names(&finding["threshold"]), "formula unit value");
    assert_eq!(names(&finding["verify"]), "promql ss");
    assert_eq!((&value["status"], &value["exit_status"]), (&"critical".into(), &1.into()));
    assert_eq!(finding["id"], "TW-003");
}

#[test]
fn amounts_carry_their_unit() {
    let check = |value: Number, unit, text: &str| assert_eq!(amount(value, unit), text);
    check(Number::Count(28_232), "ports", "28,232 ports");
    check(Number::Count(1), "sockets", "1 socket");
    check(Number::Count(15), "s", "15 s");
    check(Number::Count(1), "s", "1 s");
    check(Number::Count(1), "1", "1");
    check(Number::Real(0.25), "1", "25 %");
    check(Number::Real(612.0), "1/s", "612/s");
    check(Number::Real(125.0), "s", "2 min 5 s");
}
