//! Both sides of each threshold of TW-002.

use super::super::fixture::{Expect, check_rule, elsewhere, tuple};
use super::*;
use crate::diagnose::exhausted::exhausted;
use crate::diagnose::{Number, Rule};
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
    let there = |used| TupleUse { namespace: Some(elsewhere("blue", 7)), ports_available: Some(100), ..tuple(used) };
    let namespace = |name, used, expected| {
        check_rule(past_the_knee, name, |e| e.tuples = Some(vec![tuple(300), there(used)]), expected);
    };
    namespace("the range of its namespace decides", 40, Fires(Severity::Warning));
    namespace("just below 40 % there", 39, Silent);
    namespace("90 % there", 90, Silent);
    check_rule(past_the_knee, "no census", |e| e.tuples = None, Unchecked);
    check_rule(past_the_knee, "no range", |e| e.ports_available = None, Unchecked);
}

#[test]
fn ports_that_are_seen_to_be_reused_are_no_alarm() {
    let check = |name, rule: Rule, used, change: fn(&mut Evidence), expected| {
        let set = |e: &mut Evidence| {
            (e.sysctls.tcp_tw_reuse, e.counters.tw_recycled) = (Some(1), Some(9000));
            e.tuples = Some(vec![TupleUse { opened: Some(20_000), ..tuple(used) }]);
            change(e);
        };
        check_rule(rule, name, set, expected);
    };
    check("half, reused", past_the_knee, 14_200, |_| {}, Fires(Severity::Info));
    check("nearly all, reused", past_the_knee, 27_000, |_| {}, Fires(Severity::Info));
    check("nearly all, reused", exhausted, 27_000, |_| {}, Silent);
    check("little, reused", past_the_knee, 100, |_| {}, Silent);
    let flat = |e: &mut Evidence| e.counters.tw_recycled = Some(0);
    check("half, on without effect", past_the_knee, 14_200, flat, Fires(Severity::Warning));
    check("nearly all, on without effect", exhausted, 27_000, flat, Fires(Severity::Critical));
}

#[test]
fn each_namespace_is_judged_by_its_own_range() {
    let narrow =
        TupleUse { ports_available: Some(1000), namespace: Some(elsewhere("blue", 4_026_532_001)), ..tuple(450) };
    let wide = TupleUse {
        ports_available: Some(64_512),
        namespace: Some(elsewhere("a.service", 4_026_532_002)),
        ..tuple(20_000)
    };
    let mut evidence = super::super::fixture::in_order();
    evidence.tuples = Some(vec![wide, narrow]);
    let finding = past_the_knee(&evidence).unwrap().unwrap();
    assert_eq!(finding.whose.len(), 1, "{finding:?}");
    assert!(finding.whose[0].contains("450 ports (45 %)") && finding.whose[0].contains("in network namespace blue"));
    assert!(finding.verify.ss.starts_with("ip netns exec blue ss "), "{}", finding.verify.ss);
    evidence.tuples = Some(vec![TupleUse { ports_available: Some(1000), ..tuple(950) }]);
    assert_eq!(past_the_knee(&evidence), Ok(None));
    assert_eq!(exhausted(&evidence).unwrap().unwrap().threshold.value, Number::Count(900));
}

#[test]
fn the_busiest_tuple_gives_the_numbers() {
    let mut evidence = super::super::fixture::in_order();
    evidence.tuples = Some(vec![tuple(12_000), tuple(13_000), tuple(11_500)]);
    let finding = past_the_knee(&evidence).unwrap().unwrap();
    assert_eq!(finding.measured[0].value, Number::Count(13_000));
    assert_eq!(finding.whose.len(), 3);
}
