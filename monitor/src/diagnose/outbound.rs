//! Outbound TIME_WAIT: no connection pool (TW-008), and tcp_tw_reuse that does nothing (TW-009).

use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{TIME_WAIT_SECONDS, at_least, knee_connects_per_second, share};
use super::harmless::{NOTICEABLE_SHARE, maker_line, makers};
use super::outlook::is_reused;
use super::text::{percent, unit_name};
use super::tuples::{CENSUS, KNEE_SHARE, NO_POOL};
use super::{Evidence, Maker, subjects};
use crate::lifecycle::Role;

/// TW-008: half-way to the knee of one source and one destination.
const NO_POOL_SHARE: f64 = 0.25;
/// TW-008: "to one endpoint" means at least this share of all outbound TIME_WAIT.
const MAJORITY: f64 = 0.5;
const NOT_COUNTED: &str = "TIME_WAIT sockets were not counted";

/// TW-008: one unit opens and closes connections to one endpoint all the time.
pub fn no_pool(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let time_wait = e.time_wait.as_ref().or_missing(NOT_COUNTED)?;
    let from = at_least(NO_POOL_SHARE, ports).max(1);
    let outbound = time_wait.of_role(Role::Client);
    let mut over: Vec<&Maker> = (time_wait.makers.iter())
        .filter(|maker| {
            maker.role == Role::Client
                && maker.endpoint.is_some()
                && maker.sockets >= from
                && share(maker.sockets, outbound) >= MAJORITY
        })
        .collect();
    over.sort_by_key(|maker| (std::cmp::Reverse(maker.sockets), maker.endpoint));
    let Some((first, endpoint)) = over.first().and_then(|maker| Some((*maker, maker.endpoint?))) else {
        return Ok(None);
    };
    let mut tuples = e.tuples.iter().flatten().filter(|tuple| tuple.destination == endpoint);
    // Then it costs handshakes, no ports.
    let reused = tuples.any(|tuple| is_reused(e, tuple));
    let towards = e.tuples.iter().flatten().filter(|tuple| tuple.destination == endpoint);
    let opened = towards.filter_map(|tuple| tuple.opens_per_second).reduce(|sum, rate| sum + rate);
    // Where openings were watched they count; the sockets tell the rate only after a minute of it.
    let (rate, source) = match opened {
        Some(rate) => (rate, "tracked transitions, last seconds"),
        None => (first.sockets as f64 / TIME_WAIT_SECONDS, "computed: TIME_WAIT sockets / 60 s"),
    };
    Ok(Some(Finding {
        id: "TW-008",
        severity: if reused { Severity::Info } else { Severity::Warning },
        title: format!(
            "{} {} to {endpoint}",
            unit_name(&first.unit),
            match rate {
                0.5.. => format!("opens {rate:.0} new connections per second"),
                _ => "opened many short connections".into(),
            }
        ),
        whose: worst(&over, |maker| maker_line(maker, "TIME_WAIT")),
        subjects: subjects(over.iter().copied()),
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
                name: "TIME_WAIT to this endpoint",
                value: first.sockets.into(),
                unit: "sockets",
                source: CENSUS,
            },
            Measured {
                name: "share of all outbound TIME_WAIT",
                value: share(first.sockets, outbound).into(),
                unit: "1",
                source: CENSUS,
            },
            Measured { name: "new connections", value: rate.into(), unit: "1/s", source },
        ],
        threshold: Threshold {
            value: from.into(),
            unit: "sockets",
            formula: format!(
                "{} of P to one endpoint and {} of outbound TIME_WAIT; connect() slows down from P / 120 = {:.0}/s on",
                percent(NO_POOL_SHARE),
                percent(MAJORITY),
                knee_connects_per_second(ports)
            ),
        },
        fixes: vec![
            format!("give {} a connection pool", unit_name(&first.unit)),
            "or keep-alive: 10 requests a connection make a tenth of the connections".into(),
            "net.ipv4.tcp_tw_reuse=1, if TCP timestamps are on at both ends".into(),
        ],
        not_helpful: vec![
            "tcp_fin_timeout: does not shorten TIME_WAIT".into(),
            "SO_LINGER with zero: resets instead of closing, data can be lost".into(),
        ],
        verify: Verify {
            promql: "topk(5, synfin_time_wait_sockets{role=\"client\"})".into(),
            ss: format!("ss -Htan state time-wait dst {endpoint} | wc -l"),
        },
    }))
}

/// TW-009: tcp_tw_reuse is on and reuses nothing.
pub fn reuse_idle(e: &Evidence) -> Verdict {
    let reuse = e.sysctls.tcp_tw_reuse.or_missing("tcp_tw_reuse could not be read")?;
    if reuse != 1 {
        return Ok(None);
    }
    let recycled = e.counters.tw_recycled.or_missing("TWRecycled was not watched")?;
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let time_wait = e.time_wait.as_ref().or_missing(NOT_COUNTED)?;
    if recycled > 0 || time_wait.total < at_least(NOTICEABLE_SHARE, ports) {
        return Ok(None);
    }
    if e.by_namespace.is_some() {
        return Err(Missing::new(
            "tcp_tw_reuse is that of the daemon's own namespace, TIME_WAIT was counted in all of them",
        ));
    }
    let inbound = time_wait.of_role(Role::Server);
    let pressed = e.tuples.as_ref().map(|tuples| tuples.iter().any(|tuple| tuple.used >= at_least(KNEE_SHARE, ports)));
    // With free ports at hand connect() takes those: then a flat counter is normal.
    let (title, why) = if e.sysctls.tcp_timestamps == Some(0) {
        (
            "tcp_tw_reuse=1 does nothing: TCP timestamps are off",
            "Only timestamps let the kernel tell a late packet from a new one, so without them it never reuses a port.",
        )
    } else if share(inbound, time_wait.total) >= MAJORITY {
        (
            "tcp_tw_reuse=1 does nothing for inbound connections",
            "Most TIME_WAIT sockets belong to accepted connections. tcp_tw_reuse is for connect() only; inbound TIME_WAIT \
             takes no port.",
        )
    } else if pressed == Some(true) {
        (
            "tcp_tw_reuse=1 does nothing: do the peers use TCP timestamps?",
            "Ports are short, timestamps are on here, and still none was reused: the other ends do not send timestamps.",
        )
    } else if pressed.is_none() || e.sysctls.tcp_timestamps.is_none() {
        return Err(Missing::new("TWRecycled is flat, but ports in use or tcp_timestamps are not known"));
    } else {
        return Ok(None);
    };
    let limit = at_least(NOTICEABLE_SHARE, ports);
    let mut measured = vec![
        Measured { name: "ports reused", value: recycled.into(), unit: "ports", source: "TWRecycled over the window" },
        Measured { name: "TIME_WAIT sockets", value: time_wait.total.into(), unit: "sockets", source: CENSUS },
        Measured { name: "of them inbound", value: inbound.into(), unit: "sockets", source: CENSUS },
    ];
    measured.extend(e.sysctls.tcp_timestamps.map(|value| Measured {
        name: "tcp_timestamps",
        value: value.into(),
        unit: "1",
        source: "sysctl",
    }));
    Ok(Some(Finding {
        id: "TW-009",
        severity: Severity::Info,
        title: title.into(),
        whose: makers(
            e,
            if inbound > 0 && share(inbound, time_wait.total) >= MAJORITY { &[Role::Server] } else { &[Role::Client] },
        ),
        subjects: subjects(&time_wait.makers),
        why: why.into(),
        measured,
        threshold: Threshold {
            value: limit.into(),
            unit: "sockets",
            formula: format!(
                "tcp_tw_reuse = 1, TWRecycled unchanged, TIME_WAIT at least {} of P",
                percent(NOTICEABLE_SHARE)
            ),
        },
        fixes: vec![if e.sysctls.tcp_timestamps == Some(0) || pressed == Some(true) {
            "net.ipv4.tcp_timestamps=1 at both ends".into()
        } else {
            "nothing; keep-alive, if there should be fewer of them".to_owned()
        }],
        not_helpful: vec!["tcp_tw_recycle: gone since Linux 4.12".into()],
        verify: Verify {
            promql: "sum by (role) (synfin_time_wait_sockets)".into(),
            ss: "nstat -az TcpExtTWRecycled; sysctl net.ipv4.tcp_timestamps net.ipv4.tcp_tw_reuse".into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule, maker, tuple};
    use super::*;
    use crate::diagnose::TimeWait;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn a_pool_is_missing_when_one_endpoint_takes_most_and_a_quarter_of_p() {
        let check = |name, makers: Vec<Maker>, expected| {
            let total = makers.iter().map(|maker| maker.sockets).sum();
            check_rule(no_pool, name, |e| e.time_wait = Some(TimeWait { total, makers }), expected);
        };
        let (client, server) = (|n| maker(Role::Client, Some(1), n), |n| maker(Role::Server, Some(2), n));
        check("just below a quarter", vec![client(7057)], Silent);
        check("a quarter", vec![client(7058)], Fires(Severity::Warning));
        check("inbound is no matter", vec![client(7058), server(90_000)], Fires(Severity::Warning));
        check("inbound alone", vec![server(90_000)], Silent);
        check("half of the outbound", vec![client(7058), maker(Role::Client, None, 7058)], Fires(Severity::Warning));
        check("less than half", vec![client(7058), maker(Role::Client, None, 7059)], Silent);
        check("the folded rest is no endpoint", vec![maker(Role::Client, None, 20_000)], Silent);
        check_rule(no_pool, "not counted", |e| e.time_wait = None, Unchecked);
    }

    #[test]
    fn reuse_that_reuses_nothing_is_explained() {
        let many = |e: &mut Evidence, role| {
            e.sysctls.tcp_tw_reuse = Some(1);
            e.counters.tw_recycled = Some(0);
            e.time_wait = Some(TimeWait { total: 2824, makers: vec![maker(role, None, 2824)] });
        };
        let check = |name, role, change: fn(&mut Evidence), expected| {
            check_rule(reuse_idle, name, |e| (many(e, role), change(e)).1, expected);
        };
        let info = Fires(Severity::Info);
        check("timestamps off", Role::Client, |e| e.sysctls.tcp_timestamps = Some(0), info);
        check("inbound", Role::Server, |_| {}, info);
        check("outbound with ports to spare", Role::Client, |_| {}, Silent);
        check("outbound and pressed", Role::Client, |e| e.tuples = Some(vec![tuple(11_293)]), info);
        check("something was reused", Role::Server, |e| e.counters.tw_recycled = Some(1), Silent);
        check("loopback only is the default", Role::Server, |e| e.sysctls.tcp_tw_reuse = Some(2), Silent);
        check("few sockets", Role::Server, |e| e.time_wait.as_mut().unwrap().total = 2823, Silent);
        check("counter not watched", Role::Server, |e| e.counters.tw_recycled = None, Unchecked);
        check("ports not counted", Role::Client, |e| e.tuples = None, Unchecked);
    }
}
