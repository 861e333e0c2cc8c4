//! TIME_WAIT that is high and harmless: TW-001.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{TIME_WAIT_SECONDS, at_least};
use super::outlook::{Outlook, is_reused, outlook, pool};
use super::text::{count, duration, percent, thousands, unit_name};
use super::tuples::{CENSUS, NO_CENSUS, NO_POOL, POOL};
use super::{Evidence, Maker, bound_early, buckets, exhausted, inbound, no_pool, tuples};
use crate::lifecycle::Role;

/// From here on people ask whether the TIME_WAIT sockets matter: a tenth of P, or of the bucket limit if that is lower.
pub const NOTICEABLE_SHARE: f64 = 0.1;
/// A TIME_WAIT socket that is there now will be gone by then, so a pace says nothing beyond it.
const SOON_SECONDS: f64 = TIME_WAIT_SECONDS;

/// The largest makers of TIME_WAIT with one of `roles`, a line each.
pub fn makers(e: &Evidence, roles: &[Role]) -> Vec<String> {
    let all = e.time_wait.iter().flat_map(|time_wait| &time_wait.makers);
    let mut makers: Vec<&Maker> = all.filter(|maker| roles.contains(&maker.role)).collect();
    // All others together may be the most.
    makers.sort_by_key(|maker| std::cmp::Reverse(maker.sockets));
    worst(&makers, |maker| maker_line(maker, "TIME_WAIT"))
}

/// `api.service (client) -> 10.0.0.9:5432: 300 in TIME_WAIT`.
pub fn maker_line(maker: &Maker, state: &str) -> String {
    let (unit, role, sockets) = (unit_name(&maker.unit), maker.role.label(), thousands(maker.sockets));
    match (maker.endpoint, maker.role) {
        (Some(endpoint), Role::Client) => format!("{unit} (client) -> {endpoint}: {sockets} in {state}"),
        (Some(endpoint), Role::Server | Role::Unknown) => {
            format!("{unit} ({role}) on {endpoint}: {sockets} in {state}")
        }
        (None, Role::Client | Role::Server) => format!("others ({role}): {sockets} in {state}"),
        (None, Role::Unknown) => format!("not attributed: {sockets} in {state}"),
    }
}

/// TW-001: many TIME_WAIT sockets and no harm in sight.
pub fn harmless(e: &Evidence) -> Verdict {
    let time_wait = e.time_wait.as_ref().or_missing("TIME_WAIT sockets were not counted")?.total;
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let max = e.sysctls.tcp_max_tw_buckets.or_missing("tcp_max_tw_buckets could not be read")?;
    let noticeable = at_least(NOTICEABLE_SHARE, ports.min(max));
    if time_wait < noticeable {
        return Ok(None);
    }
    let busiest = e.tuples.as_ref().or_missing(NO_CENSUS)?.iter().map(|tuple| tuple.used).max().unwrap_or(0);
    for rule in [
        exhausted::exhausted,
        tuples::past_the_knee,
        bound_early::bound_early,
        buckets::overflow,
        inbound::server_closes_first,
        inbound::one_client_near_its_range,
        no_pool::no_pool,
    ] {
        // A rule that cannot tell does not forbid this one, but what this one asserts must have been measured: below.
        if matches!(rule(e), Ok(Some(_))) {
            return Ok(None);
        }
    }
    // True as long as nothing grows without end.
    let soonest = e.tuples.iter().flatten().filter(|tuple| !is_reused(e, tuple)).filter_map(|tuple| {
        let p = pool(tuple, ports);
        let growing = tuple.used >= at_least(NOTICEABLE_SHARE, p);
        match outlook(tuple, p) {
            Outlook::Exhausted(seconds) if growing && seconds < SOON_SECONDS => Some((seconds, tuple)),
            Outlook::Exhausted(_) | Outlook::Settles(_) | Outlook::NotGrowing | Outlook::Unknown => None,
        }
    });
    let soonest = soonest.min_by(|a, b| a.0.total_cmp(&b.0));
    e.counters.time_wait_overflow.or_missing("TCPTimeWaitOverflow was not watched")?;
    e.failures.as_ref().or_missing("failed connects were not watched")?;
    Ok(Some(Finding {
        id: "TW-001",
        severity: Severity::Info,
        title: match soonest {
            None => format!("{} in TIME_WAIT: harmless, nothing to do", count(time_wait, "socket")),
            Some((seconds, tuple)) => {
                let (sockets, left) = (thousands(time_wait), duration(seconds));
                format!("{sockets} in TIME_WAIT, no harm yet: ports to {} last {left} at this pace", tuple.destination)
            }
        },
        whose: makers(e, Role::ALL.as_slice()),
        why: format!(
            "Each closed connection waits {TIME_WAIT_SECONDS} s on the side that closed first, so that a late packet cannot \
             disturb a new one. It costs 256 bytes of memory and no CPU. No destination is short of local ports, the table is \
             not half full, and no connect() failed for lack of a port."
        ),
        measured: vec![
            Measured { name: "TIME_WAIT sockets", value: time_wait.into(), unit: "sockets", source: CENSUS },
            Measured {
                name: "ports in use towards the busiest destination",
                value: busiest.into(),
                unit: "ports",
                source: CENSUS,
            },
            Measured { name: "ephemeral ports", value: ports.into(), unit: "ports", source: POOL },
            Measured { name: "tcp_max_tw_buckets", value: max.into(), unit: "sockets", source: "sysctl" },
        ],
        threshold: Threshold {
            value: noticeable.into(),
            unit: "sockets",
            formula: format!(
                "noticed at {} of min(P, tcp_max_tw_buckets); harmless below {} of P for each destination and {} of the \
                 buckets",
                percent(NOTICEABLE_SHARE),
                percent(tuples::KNEE_SHARE),
                percent(buckets::HALF_SHARE)
            ),
        },
        fixes: vec![match soonest {
            None => "nothing".into(),
            Some(_) => "look again in a few seconds; if it goes on: keep-alive or a connection pool".into(),
        }],
        not_helpful: vec![
            "tcp_fin_timeout: does not shorten TIME_WAIT".into(),
            "lowering tcp_max_tw_buckets: makes the kernel break TCP".into(),
        ],
        verify: Verify {
            promql: "sum(synfin_time_wait_sockets)".into(),
            ss: "ss -Htan state time-wait | wc -l".into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, maker};
    use super::*;
    use crate::diagnose::TimeWait;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn the_largest_population_comes_first_whoever_made_it() {
        let check = |rows: &[(Role, Option<u16>, u64)], expected: &[&str]| {
            let makers = rows.iter().map(|&(role, port, sockets)| maker(role, port, sockets)).collect();
            let time_wait = Some(TimeWait { total: 0, makers });
            let evidence = Evidence { time_wait, ..super::super::fixture::in_order() };
            assert_eq!(super::makers(&evidence, Role::ALL.as_slice()), expected);
        };
        let (small, others) = ((Role::Client, Some(443), 20), "others (client): 9,000 in TIME_WAIT");
        let named = "api.service (client) -> 10.0.0.9:443: 20 in TIME_WAIT";
        check(&[small, (Role::Client, None, 9000)], &[others, named]);
        check(&[small, (Role::Client, None, 19)], &[named, "others (client): 19 in TIME_WAIT"]);
        let rows: Vec<_> = (1..=5).map(|port| (Role::Server, Some(port), 10)).collect();
        let unknown = (Role::Unknown, None, 8000);
        let said = [&rows[..], &[unknown]].concat();
        let lines = [1, 2, 3].map(|port| format!("api.service (server) on 10.0.0.9:{port}: 10 in TIME_WAIT"));
        check(&said, &["not attributed: 8,000 in TIME_WAIT", &lines[0], &lines[1], &lines[2], "and 2 more"]);
    }

    #[test]
    fn it_does_not_say_nothing_to_do_while_ports_run_out() {
        let mut evidence = super::super::fixture::in_order();
        evidence.time_wait.as_mut().unwrap().total = 5000;
        let tuple = &mut evidence.tuples.as_mut().unwrap()[0];
        (tuple.used, tuple.opens_per_second) = (5000, Some(900.0));
        tuple.trend = Some(super::super::Trend { delta: 900, seconds: 1.0 });
        let title = harmless(&evidence).unwrap().unwrap().title;
        assert_eq!(title, "5,000 in TIME_WAIT, no harm yet: ports to 10.0.0.9:5432 last 26 s at this pace");
    }

    #[test]
    fn many_sockets_are_harmless_only_while_nothing_else_is_wrong() {
        let many = |e: &mut Evidence| e.time_wait.as_mut().unwrap().total = 2824;
        let check = |name, change: fn(&mut Evidence), expected| {
            check_rule(harmless, name, |e| (many(e), change(e)).1, expected);
        };
        check_rule(harmless, "just below a tenth of P", |e| e.time_wait.as_mut().unwrap().total = 2823, Silent);
        check("a tenth of P", |_| {}, Fires(Severity::Info));
        check("a low bucket limit lowers the notice", |e| e.time_wait.as_mut().unwrap().total = 2823, Silent);
        check("a tuple just below the knee", |e| e.tuples.as_mut().unwrap()[0].used = 11_292, Fires(Severity::Info));
        let soon = |e: &mut Evidence| {
            let tuple = &mut e.tuples.as_mut().unwrap()[0];
            tuple.used = 5000;
            (tuple.opens_per_second, tuple.trend) =
                (Some(900.0), Some(super::super::Trend { delta: 900, seconds: 1.0 }));
        };
        check("a tuple that grows to the end", soon, Fires(Severity::Info));
        check("a tuple at the knee", |e| e.tuples.as_mut().unwrap()[0].used = 11_293, Silent);
        check("buckets half full", |e| e.sysctls.tcp_max_tw_buckets = Some(2 * 2824), Silent);
        check("an overflow", |e| e.counters.time_wait_overflow = Some(1), Silent);
        check("a connect without port", |e| e.failures = Some(vec![super::super::fixture::no_port(1)]), Silent);
        check("ports not counted", |e| e.tuples = None, Unchecked);
        check("overflows not watched", |e| e.counters.time_wait_overflow = None, Unchecked);
        check("failures not watched", |e| e.failures = None, Unchecked);
    }
}
