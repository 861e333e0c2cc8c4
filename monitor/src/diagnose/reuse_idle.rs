//! tcp_tw_reuse that does nothing: TW-009.

use super::Evidence;
use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify};
use super::formulas::{at_least, share};
use super::harmless::{NOTICEABLE_SHARE, makers};
use super::text::percent;
use super::tuples::{CENSUS, KNEE_SHARE, NO_POOL};
use crate::lifecycle::Role;

/// TIME_WAIT is taken for inbound when at least this share of it is.
const MAJORITY: f64 = 0.5;

/// TW-009: tcp_tw_reuse is on and reuses nothing.
pub fn reuse_idle(e: &Evidence) -> Verdict {
    let reuse = e.sysctls.tcp_tw_reuse.or_missing("tcp_tw_reuse could not be read")?;
    if reuse != 1 {
        return Ok(None);
    }
    let recycled = e.counters.tw_recycled.or_missing("TWRecycled was not watched")?;
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let time_wait = e.time_wait.as_ref().or_missing("TIME_WAIT sockets were not counted")?;
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
