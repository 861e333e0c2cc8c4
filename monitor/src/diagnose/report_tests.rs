//! What people and machines get to see: golden pages, and the size of the summary.
//!
//! `SYNFIN_BLESS=1 cargo test -p synfin --lib diagnose` writes the pages anew; read the difference before committing it.

use std::path::Path;

use super::super::{Counters, Evidence, TimeWait, Trend, TupleUse, diagnose, fixture};
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
    check("in_order", &text(&changed(|_| {})));
    check("harmless", &text(&harmless));
    check("knee", &text(&knee));
    check("bad_night", &text(&night));
    check("unwatched", &text(&unwatched));
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
    assert_eq!(text(&changed(|_| {})).lines().count(), 1);
}

#[test]
fn the_summary_fits_on_one_screen_whatever_is_wrong() {
    let check = |number: usize| {
        let long = Finding {
            title: "x".repeat(300),
            whose: vec!["y".repeat(300)],
            fixes: vec!["z".repeat(300)],
            ..fixture::finding(Severity::Warning)
        };
        let lines = summary(&vec![long; number]);
        assert!(lines.len() <= SCREEN, "{number} findings take {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 100));
    };
    (2..=RULES.len()).for_each(check);
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
