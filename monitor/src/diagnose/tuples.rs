//! Ephemeral ports towards one destination: past the knee (TW-002), and how a tuple is told.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, knee_ports, share};
use super::outlook::{Outlook, is_reused, outlook, pool};
use super::port_advice::{fixes, is_churn, not_helpful};
use super::text::{count, duration, in_namespace, inside, percent, thousands, unit_name};
use super::{Evidence, NamespaceName, TupleUse};
use crate::event::Endpoint;

/// From here on a tuple is watched: connect() slows down at half of P, with a margin for what one census misses.
pub const KNEE_SHARE: f64 = 0.4;
/// From here on failures are a matter of seconds.
pub const EXHAUSTED_SHARE: f64 = 0.9;

pub const CENSUS: &str = "census of the kernel's socket tables";
pub const EVENTS: &str = "tracked transitions";
pub const RECENT: &str = "tracked transitions, last seconds";
pub const NOW: &str = "census, and tracked transitions since";
pub const POOL: &str = "ip_local_port_range less ip_local_reserved_ports";
pub const NO_CENSUS: &str = "ports in use per destination are not known: no census of the socket tables";
pub const NO_POOL: &str = "the ephemeral range is not known: ip_local_port_range could not be read";

pub const TIME_TO_EXHAUSTION: &str = "time to exhaustion";

/// TW-002: connect() searches half of the range in vain before it tries the other.
pub fn past_the_knee(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let tuples = e.tuples.as_ref().or_missing(NO_CENSUS)?;
    let is_over = |tuple: &TupleUse| tuple.used >= at_least(KNEE_SHARE, pool(tuple, ports)).max(1);
    let over = busiest_first(tuples, |tuple| is_over(tuple) && !is_exhausted(e, tuple, ports) && !is_reused(e, tuple));
    let Some(first) = over.first() else { return Ok(reused(e, &busiest_first(tuples, is_over), ports)) };
    let p = pool(first, ports);
    Ok(Some(Finding {
        id: "TW-002",
        severity: Severity::Warning,
        title: format!(
            "connects to {} are slow or soon will be: {} of local ports taken{}",
            first.destination,
            percent(share(first.used, p)),
            match outlook(first, p) {
                Outlook::Exhausted(seconds) => format!(", all in {}", duration(seconds)),
                Outlook::Settles(_) | Outlook::NotGrowing | Outlook::Unknown => String::new(),
            }
        ),
        whose: worst(&over, |tuple| whose(tuple, ports)),
        why: format!(
            "connect() looks for a free local port in one half of the range first (all even or all odd numbers), then in the \
             other. Past half of it, {} ports, each connect() tries thousands of taken ports in vain: half the range is the \
             limit in practice. {}",
            thousands(knee_ports(p)),
            held_by(first)
        ),
        measured: measured(first, p),
        threshold: Threshold {
            value: at_least(KNEE_SHARE, p).max(1).into(),
            unit: "ports",
            formula: format!("{} of P; it hurts from P / 2 on; P = high - low + 1 - reserved", percent(KNEE_SHARE)),
        },
        fixes: fixes(first, p),
        not_helpful: not_helpful(),
        verify: verify(first.destination, first.namespace.as_ref(), KNEE_SHARE, p),
    }))
}

/// The same numbers where `tcp_tw_reuse` takes the harm away.
fn reused(e: &Evidence, over: &[&TupleUse], ports: u64) -> Option<Finding> {
    let over: Vec<&TupleUse> = over.iter().copied().filter(|tuple| is_reused(e, tuple)).collect();
    let first = over.first()?;
    let p = pool(first, ports);
    let mut numbers = measured(first, p);
    numbers.extend(e.counters.tw_recycled.map(|value| Measured {
        name: "ports taken over from TIME_WAIT",
        value: value.into(),
        unit: "ports",
        source: "TWRecycled over the window",
    }));
    Some(Finding {
        id: "TW-002",
        severity: Severity::Info,
        title: format!(
            "{} of local ports to {} taken, and reused: no harm",
            percent(share(first.used, p)),
            first.destination
        ),
        whose: worst(&over, |tuple| whose(tuple, ports)),
        why: "Most of these ports are in TIME_WAIT, and tcp_tw_reuse is at work: connect() takes over each of them a second \
              after its close, so none is missing and none is searched for."
            .into(),
        measured: numbers,
        threshold: Threshold {
            value: at_least(KNEE_SHARE, p).max(1).into(),
            unit: "ports",
            formula: format!("{} of P; no harm while TWRecycled grows and no connect() fails", percent(KNEE_SHARE)),
        },
        fixes: vec!["nothing; keep-alive or a connection pool would save the handshakes".into()],
        not_helpful: not_helpful(),
        verify: verify(first.destination, first.namespace.as_ref(), KNEE_SHARE, p),
    })
}

/// TW-003: nearly all ports are taken, and connect() does not take them over.
pub fn is_exhausted(e: &Evidence, tuple: &TupleUse, ports: u64) -> bool {
    tuple.used >= at_least(EXHAUSTED_SHARE, pool(tuple, ports)).max(1) && !is_reused(e, tuple)
}

pub fn busiest_first(tuples: &[TupleUse], keep: impl Fn(&TupleUse) -> bool) -> Vec<&TupleUse> {
    let mut kept: Vec<_> = tuples.iter().filter(|tuple| keep(tuple)).collect();
    kept.sort_by_key(|tuple| (std::cmp::Reverse(tuple.used), tuple.destination, tuple.source));
    kept
}

pub fn whose(tuple: &TupleUse, ports: u64) -> String {
    format!(
        "{} (client) {} -> {}: {} ({}), {} in TIME_WAIT{}",
        unit_name(&tuple.unit),
        tuple.source,
        tuple.destination,
        count(tuple.used, "port"),
        percent(share(tuple.used, pool(tuple, ports))),
        thousands(tuple.time_wait),
        in_namespace(tuple.namespace.as_ref())
    )
}

pub fn held_by(tuple: &TupleUse) -> String {
    if is_churn(tuple) {
        "Most are held by connections that this side closed less than 60 s ago (TIME_WAIT).".into()
    } else {
        "Most are held by connections that are open, not by TIME_WAIT.".into()
    }
}

pub fn measured(tuple: &TupleUse, ports: u64) -> Vec<Measured> {
    let mut numbers = vec![
        Measured { name: "ports in use", value: tuple.used.into(), unit: "ports", source: NOW },
        Measured { name: "of them in TIME_WAIT", value: tuple.time_wait.into(), unit: "ports", source: NOW },
        Measured { name: "local ports to choose from (P)", value: ports.into(), unit: "ports", source: POOL },
    ];
    if let Some(rate) = tuple.opens_per_second {
        numbers.push(Measured { name: "new connections", value: rate.into(), unit: "1/s", source: RECENT });
    }
    // There is nothing left to foretell once the last one is taken.
    numbers.extend(match outlook(tuple, ports) {
        Outlook::Exhausted(seconds) if tuple.used < ports => Some(Measured {
            name: TIME_TO_EXHAUSTION,
            value: seconds.into(),
            unit: "s",
            source: "computed: (P - used) / growth per second",
        }),
        Outlook::Settles(at) => Some(Measured {
            name: "settles at",
            value: at.into(),
            unit: "ports",
            source: "computed: other states + new connections per second x 60",
        }),
        Outlook::Unknown | Outlook::NotGrowing | Outlook::Exhausted(_) => None,
    });
    numbers
}

/// `limit`: share of P. That of another namespace may be in `other`, so its limit is given as a number of `ports`.
pub fn verify(destination: Endpoint, namespace: Option<&NamespaceName>, limit: f64, ports: u64) -> Verify {
    Verify {
        promql: match namespace {
            None => {
                format!(
                    "synfin_ephemeral_ports_used / on(instance) group_left synfin_ephemeral_ports_available >= {limit}"
                )
            }
            Some(_) => {
                format!("synfin_ephemeral_ports_used{{destination=\"{destination}\"}} >= {}", at_least(limit, ports))
            }
        },
        ss: inside(namespace, &format!("ss -Htan dst {destination} | wc -l")),
    }
}

#[cfg(test)]
#[path = "tuples_tests.rs"]
mod tests;
