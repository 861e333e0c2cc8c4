//! Outbound TIME_WAIT for want of a connection pool: TW-008.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{TIME_WAIT_SECONDS, at_least, knee_connects_per_second, share};
use super::outlook::{is_reused, pool};
use super::port_advice::reuse;
use super::text::{count, duration, inside, percent, thousands, unit_name};
use super::tuples::{CENSUS, NO_CENSUS, NO_POOL, NOW, POOL, RECENT, busiest_first, whose};
use super::{Evidence, Maker, TimeWait, TupleUse};
use crate::lifecycle::Role;

/// Half-way to the knee of one source and one destination.
const NO_POOL_SHARE: f64 = 0.25;
/// "One unit, one endpoint" means at least this share of all outbound TIME_WAIT.
const MAJORITY: f64 = 0.5;
const UNKNOWN: &str = "unknown";

/// Who makes most of the outbound TIME_WAIT and enough of it, if it is who connects here: makers are not told apart by source and
/// namespace.
fn maker_of_most<'a>(time_wait: &'a TimeWait, tuple: &TupleUse, from: u64) -> Option<&'a Maker> {
    let outbound = time_wait.of_role(Role::Client);
    time_wait.makers.iter().find(|maker| {
        maker.role == Role::Client
            && maker.endpoint == Some(tuple.destination)
            && (maker.unit == tuple.unit || [&maker.unit, &tuple.unit].iter().any(|unit| *unit == UNKNOWN))
            && maker.sockets >= from
            && share(maker.sockets, outbound) >= MAJORITY
    })
}

/// New connections per second, over so many seconds, and where that is from.
fn rate(tuple: &TupleUse) -> (f64, f64, &'static str) {
    match (tuple.opens_per_second, tuple.trend) {
        (Some(rate), Some(trend)) => (rate, trend.seconds, RECENT),
        // The sockets tell the rate only after a minute of it.
        (None, _) | (_, None) => {
            (tuple.time_wait as f64 / TIME_WAIT_SECONDS, TIME_WAIT_SECONDS, "computed: TIME_WAIT sockets / 60 s")
        }
    }
}

/// TW-008: one unit opens and closes connections to one endpoint all the time, and takes many of the ports that one address has.
pub fn no_pool(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let time_wait = e.time_wait.as_ref().or_missing("TIME_WAIT sockets were not counted")?;
    let tuples = e.tuples.as_ref().or_missing(NO_CENSUS)?;
    let from = |tuple: &TupleUse| at_least(NO_POOL_SHARE, pool(tuple, ports)).max(1);
    let maker = |tuple: &TupleUse| maker_of_most(time_wait, tuple, from(tuple));
    let over = busiest_first(tuples, |tuple| tuple.time_wait >= from(tuple) && maker(tuple).is_some());
    let Some((first, maker)) = over.first().and_then(|tuple| Some((*tuple, maker(tuple)?))) else {
        return Ok(None);
    };
    let (endpoint, namespace) = (first.destination, first.namespace.as_ref());
    let unit = unit_name(if first.unit == UNKNOWN { &maker.unit } else { &first.unit });
    let p = pool(first, ports);
    // Then it costs handshakes, no ports.
    let reused = is_reused(e, first);
    let (rate, seconds, source) = rate(first);
    Ok(Some(Finding {
        id: "TW-008",
        severity: if reused { Severity::Info } else { Severity::Warning },
        title: match rate {
            0.5.. => {
                let opened = count(rate.round() as u64, "connection");
                format!("{unit} opened {opened} a second to {endpoint} over the last {}", duration(seconds))
            }
            _ => format!("{unit} opened many short connections to {endpoint}"),
        },
        whose: worst(&over, |tuple| whose(tuple, ports)),
        why: format!(
            "One unit makes most of the outbound TIME_WAIT, all to one endpoint: it connects and closes for each request \
             instead of keeping connections in a pool. {}",
            if reused {
                "tcp_tw_reuse is at work, so ports are not short: it costs a handshake each time and nothing more."
            } else {
                "Each one takes a local port for 60 s and costs a handshake."
            }
        ),
        measured: vec![
            Measured {
                name: "TIME_WAIT from one address to this endpoint",
                value: first.time_wait.into(),
                unit: "sockets",
                source: NOW,
            },
            Measured { name: "local ports to choose from (P)", value: p.into(), unit: "ports", source: POOL },
            Measured {
                name: "share of all outbound TIME_WAIT",
                value: share(maker.sockets, time_wait.of_role(Role::Client)).into(),
                unit: "1",
                source: CENSUS,
            },
            Measured { name: "new connections", value: rate.into(), unit: "1/s", source },
        ],
        threshold: Threshold {
            value: from(first).into(),
            unit: "sockets",
            formula: format!(
                "{} of P of one address to one endpoint, and {} of outbound TIME_WAIT to it; connect() slows down from P / 120 = \
                 {}/s on",
                percent(NO_POOL_SHARE),
                percent(MAJORITY),
                thousands(knee_connects_per_second(p) as u64)
            ),
        },
        fixes: vec![
            format!("give {unit} a connection pool"),
            "or keep-alive: 10 requests a connection make a tenth of the connections".into(),
            reuse(namespace),
        ],
        not_helpful: vec![
            "tcp_fin_timeout: does not shorten TIME_WAIT".into(),
            "SO_LINGER with zero: resets instead of closing, data can be lost".into(),
        ],
        verify: Verify {
            promql: "topk(5, synfin_time_wait_sockets{role=\"client\"})".into(),
            ss: inside(namespace, &format!("ss -Htan state time-wait dst {endpoint} | wc -l")),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, elsewhere, in_order, maker, tuple};
    use super::*;
    use crate::diagnose::Trend;
    use Expect::{Fires, Silent, Unchecked};

    const PORT: Option<u16> = Some(5432);
    const WARNING: Expect = Fires(Severity::Warning);

    fn set(e: &mut Evidence, makers: Vec<Maker>, tuples: Vec<TupleUse>) {
        let total = makers.iter().map(|maker| maker.sockets).sum();
        (e.time_wait, e.tuples) = (Some(TimeWait { total, makers }), Some(tuples));
    }

    #[test]
    fn a_pool_is_missing_when_one_endpoint_takes_most_and_a_quarter_of_p() {
        let check = |name, makers: Vec<Maker>, tuples: Vec<TupleUse>, expected| {
            check_rule(no_pool, name, |e| set(e, makers, tuples), expected);
        };
        let (client, server) = (|n| maker(Role::Client, PORT, n), |n| maker(Role::Server, Some(2), n));
        let others = |n| maker(Role::Client, None, n);
        let there = |used, ports| TupleUse {
            namespace: Some(elsewhere("blue", 7)),
            ports_available: Some(ports),
            ..tuple(used)
        };
        check("just below a quarter", vec![client(7057)], vec![tuple(7057)], Silent);
        check("a quarter", vec![client(7058)], vec![tuple(7058)], WARNING);
        let open = TupleUse { time_wait: 7057, ..tuple(9000) };
        check("a quarter in use, but not in TIME_WAIT", vec![client(7058)], vec![open], Silent);
        check("two addresses with less each", vec![client(14_000)], vec![tuple(7000), tuple(7000)], Silent);
        check("inbound is no matter", vec![client(7058), server(90_000)], vec![tuple(7058)], WARNING);
        check("inbound alone", vec![server(90_000)], vec![tuple(7058)], Silent);
        check("half of the outbound", vec![client(7058), others(7058)], vec![tuple(7058)], WARNING);
        check("less than half", vec![client(7058), others(7059)], vec![tuple(7058)], Silent);
        check("the folded rest is no endpoint", vec![others(20_000)], vec![tuple(7058)], Silent);
        let other = TupleUse { unit: "cart.service".into(), ..tuple(7058) };
        check("another unit's ports", vec![client(20_000)], vec![other], Silent);
        let nobody = TupleUse { unit: UNKNOWN.into(), ..tuple(7058) };
        check("ports whose owner is not known", vec![client(7058)], vec![nobody], WARNING);
        check("a quarter of the range of its namespace", vec![client(250)], vec![there(250, 1000)], WARNING);
        check("just below a quarter there", vec![client(249)], vec![there(249, 1000)], Silent);
        check("a wider range there", vec![client(7058)], vec![there(7058, 60_000)], Silent);
        check_rule(no_pool, "not counted", |e| e.time_wait = None, Unchecked);
        check_rule(no_pool, "no census", |e| e.tuples = None, Unchecked);
        check_rule(no_pool, "no range", |e| e.ports_available = None, Unchecked);
    }

    #[test]
    fn the_rate_is_told_with_its_window() {
        let check = |opens_per_second, trend: Option<Trend>, title: &str| {
            let mut evidence = in_order();
            let busy = TupleUse { opens_per_second, trend, ..tuple(12_000) };
            set(&mut evidence, vec![maker(Role::Client, PORT, 12_000)], vec![busy]);
            let said = no_pool(&evidence).unwrap().unwrap().title;
            assert_eq!(said, format!("api.service opened {title}"));
        };
        let trend = Some(Trend { delta: 9, seconds: 10.0 });
        check(Some(1552.4), trend, "1,552 connections a second to 10.0.0.9:5432 over the last 10 s");
        check(Some(0.5), trend, "1 connection a second to 10.0.0.9:5432 over the last 10 s");
        check(Some(0.4), trend, "many short connections to 10.0.0.9:5432");
        check(None, None, "200 connections a second to 10.0.0.9:5432 over the last 1 min");
    }

    #[test]
    fn another_namespace_is_named_and_helped_there() {
        let mut evidence = in_order();
        let there = TupleUse { namespace: Some(elsewhere("blue", 7)), ports_available: Some(1000), ..tuple(300) };
        set(&mut evidence, vec![maker(Role::Client, PORT, 300)], vec![there]);
        let finding = no_pool(&evidence).unwrap().unwrap();
        assert!(finding.whose[0].ends_with(", in network namespace blue"), "{:?}", finding.whose);
        assert!(finding.verify.ss.starts_with("ip netns exec blue ss "), "{}", finding.verify.ss);
        assert!(finding.fixes[2].starts_with("ip netns exec blue sysctl -w "), "{:?}", finding.fixes);
        assert_eq!(finding.threshold.value, 250_u64.into());
    }
}
