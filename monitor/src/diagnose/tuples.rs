//! Ephemeral ports towards one destination: past the knee (TW-002), exhausted (TW-003).

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, knee_ports, share, tuples_needed};
use super::outlook::{Outlook, is_reused, outlook, pool};
use super::text::{count, duration, in_namespace, inside, percent, thousands, unit_name};
use super::{Evidence, FailedConnects, NamespaceName, TupleUse, subjects};
use crate::event::Endpoint;
use crate::lifecycle::ConnectFailure;

/// From here on a tuple is watched: connect() slows down at half of P, with a margin for what one census misses.
pub const KNEE_SHARE: f64 = 0.4;
/// From here on failures are a matter of seconds.
const EXHAUSTED_SHARE: f64 = 0.9;

pub const CENSUS: &str = "census of the kernel's socket tables";
pub const EVENTS: &str = "tracked transitions";
const RECENT: &str = "tracked transitions, last seconds";
const NOW: &str = "census, and tracked transitions since";
pub const POOL: &str = "ip_local_port_range less ip_local_reserved_ports";
pub const NO_CENSUS: &str = "ports in use per destination are not known: no census of the socket tables";
pub const NO_POOL: &str = "the ephemeral range is not known: ip_local_port_range could not be read";

const TIME_TO_EXHAUSTION: &str = "time to exhaustion";

const OTHER_FIX_RANGE: &str = "widen net.ipv4.ip_local_port_range, after listing the ports your services listen on in \
                               net.ipv4.ip_local_reserved_ports";

/// TW-002: connect() searches half of the range in vain before it tries the other.
pub fn past_the_knee(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let tuples = e.tuples.as_ref().or_missing(NO_CENSUS)?;
    let is_over = |tuple: &TupleUse| tuple.used >= at_least(KNEE_SHARE, pool(tuple, ports)).max(1);
    let over = busiest_first(tuples, |tuple| is_over(tuple) && !is_exhausted(tuple, ports) && !is_reused(e, tuple));
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
        subjects: subjects(over.iter().copied()),
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
        subjects: subjects(over.iter().copied()),
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

fn is_exhausted(tuple: &TupleUse, ports: u64) -> bool {
    tuple.used >= at_least(EXHAUSTED_SHARE, pool(tuple, ports)).max(1)
}

/// TW-003: no local port left, or nearly.
pub fn exhausted(e: &Evidence) -> Verdict {
    let no_port: Vec<_> = (e.failures.iter().flatten())
        .filter(|failed| failed.reason == ConnectFailure::NoLocalPort && failed.count > 0)
        .collect();
    let failed: u64 = no_port.iter().map(|failed| failed.count).sum();
    let empty = vec![];
    let tuples = match &e.tuples {
        Some(tuples) => tuples,
        None if failed > 0 => &empty,
        None => return None.or_missing(NO_CENSUS),
    };
    let ports = match e.ports_available {
        Some(ports) => ports,
        None if failed > 0 => 0,
        None => return None.or_missing(NO_POOL),
    };
    let over =
        busiest_first(tuples, |tuple| pool(tuple, ports) > 0 && is_exhausted(tuple, ports) && !is_reused(e, tuple));
    let failed_most = no_port.first().map(|failed| (failed.destination, failed.namespace.as_ref()));
    let Some((destination, namespace)) =
        failed_most.or(over.first().map(|tuple| (tuple.destination, tuple.namespace.as_ref())))
    else {
        e.failures.as_ref().or_missing("failed connects were not watched; no destination is near its last port now")?;
        return Ok(None);
    };
    let towards = |tuple: &TupleUse| tuple.destination == destination && tuple.namespace.as_ref() == namespace;
    let busiest = busiest_first(tuples, towards).first().copied();
    let p = busiest.map_or(ports, |tuple| pool(tuple, ports));
    let mut whose_lines = worst(&no_port, |failed| failed_line(failed));
    whose_lines.extend(worst(&over, |tuple| whose(tuple, ports)));
    let mut numbers = vec![];
    if e.failures.is_some() {
        numbers.push(Measured {
            name: "connects without a local port",
            value: failed.into(),
            unit: "connects",
            source: EVENTS,
        });
    }
    let of_busiest = busiest.map(|tuple| measured(tuple, p)).unwrap_or_default();
    // What has come need not be foretold.
    numbers.extend(of_busiest.into_iter().filter(|number| failed == 0 || number.name != TIME_TO_EXHAUSTION));
    Ok(Some(Finding {
        id: "TW-003",
        severity: Severity::Critical,
        title: match (failed, no_port.len()) {
            (0, _) => format!("the last local ports towards {destination} are being used"),
            (failed, 1) => format!("no local port left: {} to {destination} failed", count(failed, "connect")),
            (failed, _) => format!("no local port left: {} failed, most to {destination}", count(failed, "connect")),
        },
        whose: whose_lines,
        subjects: [subjects(no_port.iter().copied()), subjects(over.iter().copied())].concat(),
        why: format!(
            "Each connection to one destination needs a local port of its own, and all of the range are taken or nearly. \
             {}When none is left, connect() fails with EADDRNOTAVAIL (\"Cannot assign requested address\"), which the kernel \
             counts nowhere.",
            busiest.map_or(String::new(), |tuple| held_by(tuple) + " ")
        ),
        measured: numbers,
        threshold: Threshold {
            value: at_least(EXHAUSTED_SHARE, p).max(1).into(),
            unit: "ports",
            formula: format!(
                "{} of P, or any connect() that found no port; P = high - low + 1 - reserved",
                percent(EXHAUSTED_SHARE)
            ),
        },
        fixes: {
            let lasting = busiest.map_or_else(general_fixes, |tuple| fixes(tuple, p));
            match first_aid(e).filter(|_| busiest.is_none_or(is_churn)) {
                Some(aid) => {
                    let others = lasting.into_iter().filter(|fix| !fix.contains("tcp_tw_reuse"));
                    [aid].into_iter().chain(others).collect()
                }
                None => lasting,
            }
        },
        not_helpful: not_helpful(),
        verify: verify(destination, namespace, EXHAUSTED_SHARE, p),
    }))
}

fn busiest_first(tuples: &[TupleUse], keep: impl Fn(&TupleUse) -> bool) -> Vec<&TupleUse> {
    let mut kept: Vec<_> = tuples.iter().filter(|tuple| keep(tuple)).collect();
    kept.sort_by_key(|tuple| (std::cmp::Reverse(tuple.used), tuple.destination, tuple.source));
    kept
}

fn whose(tuple: &TupleUse, ports: u64) -> String {
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

fn failed_line(failed: &FailedConnects) -> String {
    format!(
        "{} (client) -> {}: {} failed{}",
        unit_name(&failed.unit),
        failed.destination,
        count(failed.count, "connect"),
        in_namespace(failed.namespace.as_ref())
    )
}

/// Closed connections hold most of the ports, not open ones.
fn is_churn(tuple: &TupleUse) -> bool {
    tuple.time_wait >= tuple.used.div_ceil(2)
}

fn held_by(tuple: &TupleUse) -> String {
    if is_churn(tuple) {
        "Most are held by connections that this side closed less than 60 s ago (TIME_WAIT).".into()
    } else {
        "Most are held by connections that are open, not by TIME_WAIT.".into()
    }
}

fn measured(tuple: &TupleUse, ports: u64) -> Vec<Measured> {
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

fn general_fixes() -> Vec<String> {
    vec![
        "keep connections open: HTTP keep-alive, or a connection pool".into(),
        "more addresses: each (source, destination, port) has its own P ports".into(),
        OTHER_FIX_RANGE.into(),
        "net.ipv4.tcp_tw_reuse=1, with TCP timestamps on at both ends: connect() may take over a port after 1 s".into(),
        "set IP_LOCAL_PORT_RANGE in the application (Linux 6.8 and later): then connect() tries all ports in one go"
            .into(),
    ]
}

/// What frees ports within a second, before anything is built anew: where it is not in force yet and can be.
fn first_aid(e: &Evidence) -> Option<String> {
    match (e.sysctls.tcp_tw_reuse, e.sysctls.tcp_timestamps) {
        (Some(0 | 2), Some(1..)) => Some(
            "at once: sysctl -w net.ipv4.tcp_tw_reuse=1; connect() then takes over ports after 1 s, if the other end \
             uses TCP timestamps too"
                .into(),
        ),
        _ => None,
    }
}

fn fixes(tuple: &TupleUse, ports: u64) -> Vec<String> {
    let mut fixes = general_fixes();
    let known = tuple.unit != "unknown";
    let unit = if known { format!(" in {}", unit_name(&tuple.unit)) } else { String::new() };
    if is_churn(tuple) {
        fixes[0] = format!("keep connections open{unit}: HTTP keep-alive, or a connection pool");
    } else {
        fixes[0] = format!("bound the number of open connections{unit}: a pool of fixed size, and close idle ones");
        fixes.retain(|fix| !fix.contains("tcp_tw_reuse"));
    }
    if let (Some(rate), Some(needed)) =
        (tuple.opens_per_second, tuple.opens_per_second.and_then(|rate| tuples_needed(rate, ports)))
        && needed > 1
    {
        fixes[1] = format!(
            "more destination or source addresses: {rate:.0} connects/s need {needed} (source, destination, port) \
             combinations = ceil(rate x 60 / (P / 2))"
        );
    }
    fixes
}

pub fn not_helpful() -> Vec<String> {
    vec![
        "tcp_fin_timeout: does not shorten TIME_WAIT, which is fixed at 60 s".into(),
        "tcp_tw_recycle: gone since Linux 4.12; it broke clients behind NAT".into(),
        "tcp_max_tw_buckets: lowering it breaks TCP, raising it gives no ports".into(),
    ]
}

/// `limit`: share of P. That of another namespace may be in `other`, so its limit is given as a number of `ports`.
fn verify(destination: Endpoint, namespace: Option<&NamespaceName>, limit: f64, ports: u64) -> Verify {
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
