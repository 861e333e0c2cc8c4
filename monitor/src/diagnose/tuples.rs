//! Ephemeral ports towards one destination: past the knee (TW-002), exhausted (TW-003).

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, seconds_to_exhaustion, share, steady_time_wait, tuples_needed};
use super::text::{count, duration, in_namespace, percent, thousands, unit_name};
use super::{Evidence, TupleUse};
use crate::event::Endpoint;
use crate::lifecycle::ConnectFailure;

/// From here on a tuple is watched: connect() slows down at half of P, with a margin for what one census misses.
pub const KNEE_SHARE: f64 = 0.4;
/// From here on failures are a matter of seconds.
const EXHAUSTED_SHARE: f64 = 0.9;

pub const CENSUS: &str = "census of the kernel's socket tables";
pub const EVENTS: &str = "tracked transitions";
pub const POOL: &str = "ip_local_port_range less ip_local_reserved_ports";
pub const NO_CENSUS: &str = "ports in use per destination are not known: no census of the socket tables";
pub const NO_POOL: &str = "the ephemeral range is not known: ip_local_port_range could not be read";

const OTHER_FIX_RANGE: &str = "widen net.ipv4.ip_local_port_range, after listing the ports your services listen on in \
                               net.ipv4.ip_local_reserved_ports";

/// TW-002: connect() searches a whole parity of ports in vain before it tries the other.
pub fn past_the_knee(e: &Evidence) -> Verdict {
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let tuples = e.tuples.as_ref().or_missing(NO_CENSUS)?;
    let over = busiest_first(tuples, |tuple| {
        let ports = pool(tuple, ports);
        (at_least(KNEE_SHARE, ports).max(1)..at_least(EXHAUSTED_SHARE, ports).max(1)).contains(&tuple.used)
    });
    let Some(first) = over.first() else { return Ok(None) };
    let all = ports;
    let ports = pool(first, all);
    Ok(Some(Finding {
        id: "TW-002",
        severity: Severity::Warning,
        title: format!(
            "connect() to {} is slow or soon will be: {} of ports taken{}",
            first.destination,
            percent(share(first.used, ports)),
            match outlook(first, ports) {
                Outlook::Exhausted(seconds) => format!(", all in {}", duration(seconds)),
                Outlook::Settles(_) | Outlook::NotGrowing | Outlook::Unknown => String::new(),
            }
        ),
        whose: worst(&over, |tuple| whose(tuple, pool(tuple, all))),
        why: format!(
            "The kernel tries all ports of one parity before the other. Past half of the range, {} ports, each connect() \
             scans thousands of taken ports: in practice half the range is the limit.",
            thousands(ports / 2)
        ),
        measured: measured(first, ports),
        threshold: Threshold {
            value: at_least(KNEE_SHARE, ports).max(1).into(),
            unit: "ports",
            formula: format!("{} of P; the knee is at P / 2, P = high - low + 1 - reserved", percent(KNEE_SHARE)),
        },
        fixes: fixes(first, ports),
        not_helpful: not_helpful(),
        verify: verify(first.destination, KNEE_SHARE),
    }))
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
    let last = |tuple: &TupleUse| at_least(EXHAUSTED_SHARE, pool(tuple, ports)).max(1);
    let over = busiest_first(tuples, |tuple| pool(tuple, ports) > 0 && tuple.used >= last(tuple));
    let Some(destination) = no_port.first().map(|f| f.destination).or(over.first().map(|tuple| tuple.destination))
    else {
        e.failures.as_ref().or_missing("failed connects were not watched; no destination is near its last port now")?;
        return Ok(None);
    };
    let busiest = over
        .first()
        .copied()
        .or_else(|| busiest_first(tuples, |tuple| tuple.destination == destination).first().copied());
    let mut whose_lines = worst(&no_port, |failed| {
        format!("{} -> {}: {} failed", unit_name(&failed.unit), failed.destination, count(failed.count, "connect"))
    });
    whose_lines.extend(worst(&over, |tuple| whose(tuple, pool(tuple, ports))));
    let from = busiest.map_or_else(|| at_least(EXHAUSTED_SHARE, ports).max(1), last);
    let ports = busiest.map_or(ports, |tuple| pool(tuple, ports));
    let mut numbers = vec![];
    if e.failures.is_some() {
        numbers.push(Measured {
            name: "connects without a local port",
            value: failed.into(),
            unit: "connects",
            source: EVENTS,
        });
    }
    numbers.extend(busiest.map(|tuple| measured(tuple, ports)).unwrap_or_default());
    Ok(Some(Finding {
        id: "TW-003",
        severity: Severity::Critical,
        title: match failed {
            0 => format!("the last local ports towards {destination} are being used"),
            failed => format!("no local port left: {} failed, first to {destination}", count(failed, "connect")),
        },
        whose: whose_lines,
        why: "Every port of the ephemeral range is taken, most by connections this side closed less than 60 s ago. \
              connect() fails with EADDRNOTAVAIL, which the kernel counts nowhere."
            .into(),
        measured: numbers,
        threshold: Threshold {
            value: from.into(),
            unit: "ports",
            formula: format!(
                "{} of P, or any connect() that found no port; P = high - low + 1 - reserved",
                percent(EXHAUSTED_SHARE)
            ),
        },
        fixes: {
            let lasting = busiest.map_or_else(general_fixes, |tuple| fixes(tuple, ports));
            match first_aid(e) {
                Some(aid) => {
                    let others = lasting.into_iter().filter(|fix| !fix.contains("tcp_tw_reuse"));
                    [aid].into_iter().chain(others).collect()
                }
                None => lasting,
            }
        },
        not_helpful: not_helpful(),
        verify: verify(destination, EXHAUSTED_SHARE),
    }))
}

fn busiest_first(tuples: &[TupleUse], keep: impl Fn(&TupleUse) -> bool) -> Vec<&TupleUse> {
    let mut kept: Vec<_> = tuples.iter().filter(|tuple| keep(tuple)).collect();
    kept.sort_by_key(|tuple| (std::cmp::Reverse(tuple.used), tuple.source, tuple.destination));
    kept
}

/// P where the tuple lives: each network namespace has its own range.
fn pool(tuple: &TupleUse, ports: u64) -> u64 {
    tuple.ports_available.unwrap_or(ports)
}

fn whose(tuple: &TupleUse, ports: u64) -> String {
    format!(
        "{}{} ({}) {} -> {}: {} ({}), {} in TIME_WAIT",
        in_namespace(tuple.namespace.as_deref()),
        unit_name(&tuple.unit),
        tuple.role.label(),
        tuple.source,
        tuple.destination,
        count(tuple.used, "port"),
        percent(share(tuple.used, ports)),
        thousands(tuple.time_wait)
    )
}

fn measured(tuple: &TupleUse, ports: u64) -> Vec<Measured> {
    let mut numbers = vec![
        Measured { name: "ports in use", value: tuple.used.into(), unit: "ports", source: CENSUS },
        Measured { name: "of them in TIME_WAIT", value: tuple.time_wait.into(), unit: "ports", source: CENSUS },
        Measured { name: "ephemeral ports (P)", value: ports.into(), unit: "ports", source: POOL },
    ];
    if let Some(rate) = tuple.opens_per_second {
        numbers.push(Measured { name: "new connections", value: rate.into(), unit: "1/s", source: EVENTS });
    }
    numbers.extend(match outlook(tuple, ports) {
        Outlook::Unknown | Outlook::NotGrowing => None,
        Outlook::Settles(at) => Some(Measured {
            name: "settles at",
            value: at.into(),
            unit: "ports",
            source: "computed: other states + new connections per second x 60",
        }),
        Outlook::Exhausted(seconds) => Some(Measured {
            name: "time to exhaustion",
            value: seconds.into(),
            unit: "s",
            source: "computed: (P - used) / growth per second",
        }),
    });
    numbers
}

/// Where a tuple is heading.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outlook {
    Unknown,
    NotGrowing,
    /// It grows now, but once expiries begin it stays at this many ports.
    Settles(u64),
    /// Seconds until the last port is taken.
    Exhausted(f64),
}

fn outlook(tuple: &TupleUse, ports: u64) -> Outlook {
    let Some(trend) = tuple.trend else { return Outlook::Unknown };
    // The trend is already opens less expiries.
    let Some(seconds) = seconds_to_exhaustion(ports, tuple.used, trend.per_second(), 0.0) else {
        return Outlook::NotGrowing;
    };
    // TIME_WAIT alone cannot hold more than 60 s of closes; other states can grow without bound.
    let steady = tuple.opens_per_second.map(steady_time_wait).map(|closed| closed.ceil() as u64);
    let others = tuple.used.saturating_sub(tuple.time_wait);
    match steady {
        Some(closed) if closed >= tuple.time_wait && closed + others < ports && tuple.time_wait >= others => {
            Outlook::Settles(closed + others)
        }
        Some(_) | None => Outlook::Exhausted(seconds),
    }
}

fn general_fixes() -> Vec<String> {
    vec![
        "keep connections open: HTTP keep-alive, or a connection pool".into(),
        "more addresses: each (source, destination, port) has its own P ports".into(),
        OTHER_FIX_RANGE.into(),
        "net.ipv4.tcp_tw_reuse=1, with TCP timestamps on at both ends: connect() may take over a port after 1 s".into(),
        "set IP_LOCAL_PORT_RANGE in the application (Linux 6.8 and later): no search by parity".into(),
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
    if tuple.unit != "unknown" {
        fixes[0] =
            format!("keep connections open in {}: HTTP keep-alive, or a connection pool", unit_name(&tuple.unit));
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

fn verify(destination: Endpoint, limit: f64) -> Verify {
    Verify {
        promql: format!(
            "synfin_ephemeral_ports_used / on(instance) group_left synfin_ephemeral_ports_available >= {limit}"
        ),
        ss: format!("ss -Htan dst {destination} | wc -l"),
    }
}

#[cfg(test)]
#[path = "tuples_tests.rs"]
mod tests;
