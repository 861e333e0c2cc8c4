//! Both sides of each threshold of TW-003, and of its being over.

use super::super::fixture::{Expect, check_rule, elsewhere, endpoint, in_order, no_port, tuple};
use super::*;
use crate::diagnose::NamespaceUse;
use Expect::{Fires, Silent, Unchecked};

const CRITICAL: Expect = Fires(Severity::Critical);
const WARNING: Expect = Fires(Severity::Warning);

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
    check("90 %", 25_409, Some(vec![]), CRITICAL);
    check_rule(
        exhausted,
        "90 % of the range of its namespace",
        |e| e.tuples = Some(vec![tuple(300), TupleUse { ports_available: Some(100), ..tuple(90) }]),
        CRITICAL,
    );
    check("90 % and failures not watched", 25_409, None, CRITICAL);
    check("below 90 % and failures not watched", 100, None, Unchecked);
    check("one connect without port, ports short", 11_293, Some(vec![no_port(1)]), CRITICAL);
    check("one connect without port, and room again", 11_292, Some(vec![no_port(1)]), WARNING);
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
        CRITICAL,
    );
}

fn said(change: impl FnOnce(&mut Evidence)) -> Finding {
    let mut evidence = in_order();
    change(&mut evidence);
    exhausted(&evidence).unwrap().unwrap()
}

#[test]
fn what_is_over_is_told_as_over() {
    let check = |used, failures: &[FailedConnects], title: &str, at_once: bool| {
        let finding = said(|e| (e.tuples, e.failures) = (Some(vec![tuple(used)]), Some(failures.to_vec())));
        assert_eq!(finding.title, title);
        assert_eq!(finding.fixes[0].starts_with("at once"), at_once, "{:?}", finding.fixes);
        let now = finding.measured.iter().find(|number| number.name == "ports in use");
        assert_eq!(now.map(|number| number.value), Some(used.into()));
    };
    let (one, other) = (no_port(7), FailedConnects { unit: "cart.service".into(), ..no_port(2) });
    let both = [one.clone(), other];
    let only = std::slice::from_ref(&one);
    check(28_232, only, "no local port left: 7 connects to 10.0.0.9:5432 failed", true);
    check(25_409, only, "no local port left: 7 connects to 10.0.0.9:5432 failed", true);
    check(25_408, only, "no local port was left: 7 connects to 10.0.0.9:5432 failed", true);
    check(11_293, only, "no local port was left: 7 connects to 10.0.0.9:5432 failed", true);
    check(11_292, only, "ports free again: 7 connects to 10.0.0.9:5432 failed in the last 1 min", false);
    check(28_232, &both, "no local port left: 9 connects failed, most to 10.0.0.9:5432", true);
    check(35, &both, "ports free again: 9 connects failed in the last 1 min, most to 10.0.0.9:5432", false);
    let finding = said(|e| e.failures = Some(vec![no_port(7)]));
    assert_eq!(
        finding.whose,
        ["api.service (client) -> 10.0.0.9:5432: 7 connects failed; now 300 of 28,232 ports in use"]
    );
    assert!(!finding.why.contains("are taken"), "{}", finding.why);
}

#[test]
fn ports_that_are_short_now_are_told_before_those_that_were() {
    let past = FailedConnects { destination: endpoint(6379), ..no_port(900) };
    let check = |used, failures: &[FailedConnects], severity, title: &str| {
        let finding = said(|e| (e.tuples, e.failures) = (Some(vec![tuple(used), tuple(10)]), Some(failures.to_vec())));
        assert_eq!((finding.severity, finding.title.as_str()), (severity, title));
        assert!(finding.whose.iter().any(|line| line.contains("6379: 900 connects failed; now at most 10 of")));
    };
    let both = [past.clone(), no_port(7)];
    let only = std::slice::from_ref(&past);
    check(28_232, &both, Severity::Critical, "no local port left: 7 connects to 10.0.0.9:5432 failed");
    check(28_232, only, Severity::Critical, "the last local ports towards 10.0.0.9:5432 are being used");
    check(300, only, Severity::Warning, "ports free again: 900 connects to 10.0.0.9:6379 failed in the last 1 min");
}

#[test]
fn a_destination_not_listed_has_at_most_what_the_last_one_has() {
    let blue = elsewhere("blue", 7);
    let range = |ports_available| NamespaceUse { namespace: blue.clone(), ports_available, ..NamespaceUse::default() };
    let check = |name, listed: &[u64], namespace: Option<&NamespaceName>, ports, expected| {
        let tuples = listed.iter().map(|&used| TupleUse { destination: endpoint(80), ..tuple(used) }).collect();
        let failed = FailedConnects { namespace: namespace.cloned(), ..no_port(1) };
        let set = |e: &mut Evidence| {
            (e.tuples, e.failures, e.by_namespace) = (Some(tuples), Some(vec![failed]), Some(vec![range(ports)]));
        };
        check_rule(exhausted, name, set, expected);
    };
    check("none is listed", &[], None, None, WARNING);
    check("the last has few", &[20_000, 11_292], None, None, WARNING);
    check("the last has many", &[20_000, 11_293], None, None, CRITICAL);
    check("by the range of its namespace", &[20_000, 399], Some(&blue), Some(1000), WARNING);
    check("as many as the knee there", &[20_000, 400], Some(&blue), Some(1000), CRITICAL);
    check("a range not known", &[1], Some(&blue), None, CRITICAL);
}

#[test]
fn another_namespace_is_helped_in_that_namespace() {
    let there = |e: &mut Evidence| {
        let namespace = Some(elsewhere("blue", 7));
        e.failures = Some(vec![FailedConnects { namespace: namespace.clone(), ..no_port(7) }]);
        e.tuples = Some(vec![TupleUse { namespace, ports_available: Some(1000), ..tuple(1000) }]);
    };
    let finding = said(there);
    assert!(finding.fixes.iter().all(|fix| !fix.starts_with("at once")), "{:?}", finding.fixes);
    let sets = finding.fixes.iter().filter(|fix| fix.contains("tcp_tw_reuse"));
    assert!(sets.map(|fix| fix.starts_with("ip netns exec blue sysctl -w")).eq([true]), "{:?}", finding.fixes);
    assert!(finding.fixes.iter().any(|fix| fix.contains("ip_local_port_range, in network namespace blue")));
    assert!(finding.verify.ss.starts_with("ip netns exec blue ss "), "{}", finding.verify.ss);
}

#[test]
fn open_connections_are_not_told_as_churn() {
    let finding = said(|e| e.tuples = Some(vec![TupleUse { time_wait: 100, ..tuple(26_000) }]));
    assert!(finding.why.contains("connections that are open"), "{}", finding.why);
    assert!(finding.fixes[0].contains("pool of fixed size"), "{:?}", finding.fixes);
    assert!(!finding.fixes.iter().any(|fix| fix.contains("tcp_tw_reuse")), "{:?}", finding.fixes);
}
