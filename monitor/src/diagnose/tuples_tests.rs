//! Both sides of each threshold of TW-002 and TW-003, and the outlook.

use super::super::fixture::{Expect, check_rule, no_port, tuple};
use super::*;
use crate::diagnose::{FailedConnects, Number, Trend};
use Expect::{Fires, Silent, Unchecked};

#[test]
fn connect_slows_down_from_40_percent_on() {
    let check = |name, used, expected| {
        check_rule(past_the_knee, name, |e| e.tuples = Some(vec![tuple(100), tuple(used)]), expected);
    };
    check("idle", 0, Silent);
    check("just below 40 %", 11_292, Silent);
    check("40 %", 11_293, Fires(Severity::Warning));
    check("just below 90 %", 25_408, Fires(Severity::Warning));
    check("90 % is left to TW-003", 25_409, Silent);
    check_rule(
        past_the_knee,
        "the range decides, not the count",
        |e| {
            e.ports_available = Some(100);
            e.tuples = Some(vec![tuple(40)]);
        },
        Fires(Severity::Warning),
    );
    let elsewhere = |used| TupleUse { namespace: Some("blue".into()), ports_available: Some(100), ..tuple(used) };
    let namespace = |name, used, expected| {
        check_rule(past_the_knee, name, |e| e.tuples = Some(vec![tuple(300), elsewhere(used)]), expected);
    };
    namespace("the range of its namespace decides", 40, Fires(Severity::Warning));
    namespace("just below 40 % there", 39, Silent);
    namespace("90 % there", 90, Silent);
    check_rule(past_the_knee, "no census", |e| e.tuples = None, Unchecked);
    check_rule(past_the_knee, "no range", |e| e.ports_available = None, Unchecked);
}

#[test]
fn ports_are_exhausted_at_90_percent_or_when_a_connect_says_so() {
    let check = |name, used, failures, expected| {
        check_rule(
            exhausted,
            name,
            |e| {
                e.tuples = Some(vec![tuple(used)]);
                e.failures = failures;
            },
            expected,
        );
    };
    let refused = FailedConnects { reason: ConnectFailure::Refused, ..no_port(9) };
    check("just below 90 %", 25_408, Some(vec![]), Silent);
    check("90 %", 25_409, Some(vec![]), Fires(Severity::Critical));
    check_rule(
        exhausted,
        "90 % of the range of its namespace",
        |e| e.tuples = Some(vec![tuple(300), TupleUse { ports_available: Some(100), ..tuple(90) }]),
        Fires(Severity::Critical),
    );
    check("90 % and failures not watched", 25_409, None, Fires(Severity::Critical));
    check("below 90 % and failures not watched", 100, None, Unchecked);
    check("one connect without port", 100, Some(vec![no_port(1)]), Fires(Severity::Critical));
    check("no connect without port", 100, Some(vec![no_port(0)]), Silent);
    check("refused connects are another matter", 100, Some(vec![refused]), Silent);
    check_rule(exhausted, "no census", |e| e.tuples = None, Unchecked);
    check_rule(
        exhausted,
        "a failure tells without a census",
        |e| {
            e.tuples = None;
            e.ports_available = None;
            e.failures = Some(vec![no_port(3)]);
        },
        Fires(Severity::Critical),
    );
}

#[test]
fn the_outlook_tells_exhaustion_from_a_level_that_settles() {
    let check = |name, used, time_wait, opens, growth: Option<i64>, expected| {
        let trend = growth.map(|delta| Trend { delta, seconds: 10.0 });
        let tuple = TupleUse { time_wait, opens_per_second: opens, trend, ..tuple(used) };
        assert_eq!(outlook(&tuple, 28_232), expected, "{name}");
    };
    check("no history", 12_000, 12_000, Some(600.0), None, Outlook::Unknown);
    check("level", 12_000, 12_000, Some(200.0), Some(0), Outlook::NotGrowing);
    check("falls", 12_000, 12_000, Some(200.0), Some(-5), Outlook::NotGrowing);
    check("600/s fill the range", 14_232, 14_232, Some(600.0), Some(6000), Outlook::Exhausted(14_000.0 / 600.0));
    check("300/s settle at 18,000", 12_000, 12_000, Some(300.0), Some(3000), Outlook::Settles(18_000));
    check("470/s settle just below P", 12_000, 12_000, Some(470.0), Some(4700), Outlook::Settles(28_200));
    check("471/s do not", 14_232, 14_232, Some(471.0), Some(4710), Outlook::Exhausted(14_000.0 / 471.0));
    check("connections that stay open do not settle", 14_232, 100, Some(300.0), Some(3000), {
        Outlook::Exhausted(14_000.0 / 300.0)
    });
    check("rate not known", 14_232, 14_232, None, Some(1000), Outlook::Exhausted(140.0));
}

#[test]
fn a_fix_counts_the_tuples_that_the_rate_needs() {
    let busy = TupleUse { opens_per_second: Some(600.0), ..tuple(20_000) };
    let needed = |fixes: &[String]| fixes.iter().any(|fix| fix.contains("600 connects/s need 3 "));
    assert!(needed(&fixes(&busy, 28_232)));
    assert!(!needed(&fixes(&TupleUse { opens_per_second: Some(200.0), ..busy }, 28_232)));
}

#[test]
fn the_busiest_tuple_gives_the_numbers() {
    let mut evidence = super::super::fixture::in_order();
    evidence.tuples = Some(vec![tuple(12_000), tuple(13_000), tuple(11_500)]);
    let finding = past_the_knee(&evidence).unwrap().unwrap();
    assert_eq!(finding.measured[0].value, Number::Count(13_000));
    assert_eq!(finding.whose.len(), 3);
}
