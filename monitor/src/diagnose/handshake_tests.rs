//! Both sides of each threshold of HS-001, HS-002 and HS-003.

use super::super::fixture::{Expect, check_rule, endpoint, no_port};
use super::*;
use Expect::{Fires, Silent, Unchecked};

const WARNING: Expect = Fires(Severity::Warning);

#[test]
fn any_connect_that_times_out_is_told_and_three_are_a_warning() {
    let timed_out = |count, port| FailedConnects {
        reason: ConnectFailure::Timeout,
        destination: endpoint(port),
        opened: Some(8000),
        ..no_port(count)
    };
    let check = |name, failures: &[FailedConnects], expected| {
        let failures = failures.to_vec();
        check_rule(timeouts, name, |e| e.failures = Some(failures), expected);
    };
    let info = Fires(Severity::Info);
    check("one beside many good ones", &[timed_out(1, 80)], info);
    check("two", &[timed_out(2, 80)], info);
    check("three", &[timed_out(3, 80)], WARNING);
    check("one to each of two", &[timed_out(1, 80), timed_out(1, 81)], info);
    check("three over all destinations", &[timed_out(1, 80), timed_out(1, 81), timed_out(1, 82)], WARNING);
    check("none", &[timed_out(0, 80)], Silent);
    check("refused is an answer", &[FailedConnects { reason: ConnectFailure::Refused, ..no_port(5) }], Silent);
    check_rule(timeouts, "not watched", |e| e.failures = None, Unchecked);
}

#[test]
fn a_silent_host_is_not_blamed_on_a_stale_socket() {
    let check = |count, opened, title: &str, stale: bool| {
        let mut evidence = super::super::fixture::in_order();
        evidence.failures = Some(vec![FailedConnects { reason: ConnectFailure::Timeout, opened, ..no_port(count) }]);
        let finding = timeouts(&evidence).unwrap().unwrap();
        assert_eq!(finding.title, title);
        assert_eq!(finding.why.contains("half-closed"), stale, "{}", finding.why);
        assert_eq!(finding.verify.ss.contains("close-wait"), stale, "{}", finding.verify.ss);
    };
    check(3, Some(0), "nothing answers at 10.0.0.9:5432: 3 connects timed out", false);
    check(1, Some(0), "1 connect to 10.0.0.9:5432 timed out, none succeeded", false);
    check(3, Some(1), "3 connects to 10.0.0.9:5432 timed out", true);
    check(3, None, "3 connects to 10.0.0.9:5432 timed out", true);
}

#[test]
fn a_hundredth_of_slow_handshakes_is_felt() {
    let check = |name, measured, steps, expected| {
        check_rule(
            slow_tail,
            name,
            |e| e.handshakes = Some(vec![HandshakeTail { role: Role::Server, measured, steps }]),
            expected,
        );
    };
    check("a hundredth at 1 s", 1000, [10, 0, 0], WARNING);
    check("a hundredth over all steps", 1000, [4, 3, 3], WARNING);
    check("less than a hundredth", 1000, [9, 0, 0], Silent);
    check("none", 0, [0, 0, 0], Silent);
    check("three of three", 3, [1, 1, 1], WARNING);
    check("two of two", 2, [1, 1, 0], Fires(Severity::Info));
    check_rule(slow_tail, "not watched", |e| e.handshakes = None, Unchecked);
}

#[test]
fn steps_are_read_from_histograms() {
    const BOUNDS: [u64; 4] = [SECOND_NS / 1000, SECOND_NS, 3 * SECOND_NS, 7 * SECOND_NS];
    let before = {
        let mut histogram = Histogram::new(&BOUNDS);
        histogram.observe(2 * SECOND_NS);
        histogram
    };
    let mut after = before.clone();
    for milliseconds in [1, 1000, 1001, 3001, 3002, 7001, 15_001] {
        after.observe(milliseconds * 1_000_000);
    }
    let expected = HandshakeTail { role: Role::Client, measured: 7, steps: [1, 2, 2] };
    assert_eq!(HandshakeTail::since(Role::Client, &before, &after), Some(expected));
    assert_eq!(HandshakeTail::since(Role::Client, &after, &before), None);
    let coarse = Histogram::new(&[SECOND_NS]);
    assert_eq!(HandshakeTail::since(Role::Client, &coarse, &coarse), None);
}

#[test]
fn an_accept_queue_is_near_its_bound_at_80_percent() {
    let check = |name, backlog, limit, overflows, expected| {
        check_rule(
            accept_queue_full,
            name,
            |e| {
                let listener = Listener {
                    local: endpoint(80),
                    unit: "web.service".into(),
                    backlog,
                    limit,
                    half_open: 0,
                    namespace: None,
                };
                e.listeners = Some(vec![listener]);
                e.counters.listen_overflows = overflows;
            },
            expected,
        );
    };
    check("just below 80 % of 129", 103, 128, Some(0), Silent);
    check("80 %", 104, 128, Some(0), WARNING);
    check("idle with a bound of 0", 0, 0, Some(0), Silent);
    check("one in a queue bound by 0", 1, 0, Some(0), WARNING);
    check("one in a queue bound by 1: another fits", 1, 1, Some(0), Silent);
    check("two in a queue bound by 1", 2, 1, Some(0), WARNING);
    check("an overflow with a queue that is empty again", 0, 128, Some(1), WARNING);
    check("overflows not watched, queue full", 128, 128, None, WARNING);
    check("overflows not watched, queue empty", 0, 128, None, Unchecked);
    check_rule(accept_queue_full, "not looked at", |e| e.listeners = None, Unchecked);
}

#[test]
fn fullness_is_of_the_places_and_refusals_are_packets() {
    let mut evidence = super::super::fixture::in_order();
    evidence.counters.listen_overflows = Some(147);
    let title = |evidence: &Evidence| accept_queue_full(evidence).unwrap().unwrap().title;
    assert_eq!(title(&evidence), "an accept queue overflowed: 147 packets refused, room again now");
    let listener = &mut evidence.listeners.as_mut().unwrap()[0];
    (listener.backlog, listener.limit) = (4, 4);
    assert_eq!(title(&evidence), "accept queue of 10.0.0.9:8080 is 80 % full: 4 of 5");
    evidence.listeners.as_mut().unwrap()[0].backlog = 5;
    let finding = accept_queue_full(&evidence).unwrap().unwrap();
    assert_eq!(finding.title, "accept queue of 10.0.0.9:8080 is 100 % full: 5 of 5");
    let packets = finding.measured.iter().filter(|number| number.source.starts_with("Listen"));
    assert!(packets.map(|number| number.unit).eq(["packets"; 2]), "{finding:?}");
}
