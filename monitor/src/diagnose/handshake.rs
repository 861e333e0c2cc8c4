//! Handshakes that time out (HS-001), repeat (HS-002) or find the accept queue full (HS-003).

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, share};
use super::text::{count, in_namespace, inside, percent, printable, thousands, unit_name};
use super::{Contact, Evidence, FailedConnects, HandshakeTail, Listener};
use crate::aggregate::Histogram;
use crate::lifecycle::{ConnectFailure, Role};

/// HS-002: more handshakes than this with a repeated packet are felt by users.
const TAIL_SHARE: f64 = 0.01;
/// HS-001, HS-002: fewer than this are a lost packet or two; nobody need look at once.
const FEW: u64 = 3;
/// HS-003: from here on a short stall of the application overflows the queue.
const BACKLOG_SHARE: f64 = 0.8;
/// HS-003: a refused packet makes its client wait a second; fewer than this share of the accepted connections is a rare accident.
const OVERFLOW_SHARE: f64 = 0.001;
const EVENTS: &str = "tracked transitions";
const SECOND_NS: u64 = 1_000_000_000;

impl HandshakeTail {
    /// Counts of a handshake histogram since `before`, by the steps of 1, 3 and 7 s.
    /// `None` when the histogram has no bound at one of them, or when `before` is not an earlier state of it.
    pub fn since(role: Role, before: &Histogram, after: &Histogram) -> Option<Self> {
        let over = |histogram: &Histogram, seconds: u64| {
            let at = histogram.bounds_ns().iter().position(|&bound| bound == seconds * SECOND_NS)?;
            Some(histogram.count() - histogram.cumulative().nth(at)?)
        };
        let delta = |seconds| over(after, seconds)?.checked_sub(over(before, seconds)?);
        let (one, three, seven) = (delta(1)?, delta(3)?, delta(7)?);
        let steps = [one.checked_sub(three)?, three.checked_sub(seven)?, seven];
        Some(Self { role, measured: after.count().checked_sub(before.count())?, steps })
    }
}

/// HS-001: connects time out towards a destination.
pub fn timeouts(e: &Evidence) -> Verdict {
    let failures = e.failures.as_ref().or_missing("failed connects were not watched")?;
    let mut over: Vec<&FailedConnects> =
        failures.iter().filter(|failed| failed.reason == ConnectFailure::Timeout && failed.count > 0).collect();
    over.sort_by_key(|failed| (std::cmp::Reverse(failed.count), failed.destination));
    let Some(first) = over.first() else { return Ok(None) };
    let mut measured =
        vec![Measured { name: "connects timed out", value: first.count.into(), unit: "connects", source: EVENTS }];
    let mut add = |name, value: Option<u64>, unit, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit, source }));
    };
    add("SYNs sent again before they gave up", e.syns_again, "SYNs", EVENTS);
    add("connects that succeeded to the same destination", first.opened, "connects", EVENTS);
    add("packets dropped by listeners on this host", e.counters.listen_drops, "packets", "ListenDrops over the window");
    let silent = first.opened == Some(0);
    let all: u64 = over.iter().map(|failed| failed.count).sum();
    Ok(Some(Finding {
        id: "HS-001",
        severity: if all < FEW { Severity::Info } else { Severity::Warning },
        title: {
            let tries = count(first.count, "connect");
            match (silent, first.count) {
                (true, FEW..) => format!("nothing answers at {}: {tries} timed out", first.destination),
                (true, _) => format!("{tries} to {} timed out, none succeeded", first.destination),
                (false, _) => format!("{tries} to {} timed out", first.destination),
            }
        },
        whose: worst(&over, |failed| {
            let opened = failed.opened.map_or(String::new(), |opened| format!(", {} succeeded", thousands(opened)));
            format!(
                "{} (client) -> {}: {} timed out{opened}{}",
                unit_name(&failed.unit),
                failed.destination,
                count(failed.count, "connect"),
                in_namespace(failed.namespace.as_ref())
            )
        }),
        why: if silent {
            "No connect to it succeeded meanwhile: the host is down, or a packet filter drops the SYNs (the first packets of a \
             connect)."
                .into()
        } else {
            "SYNs (the first packets of a connect) were repeated without an answer. When others succeed, the peer may hold an \
             old half-closed socket on the same ports: its application never closed, ours is long gone, and the port was used \
             again."
                .into()
        },
        measured,
        threshold: Threshold {
            value: 1_u64.into(),
            unit: "connects",
            formula: format!(
                "any connect() that gave up after all SYN retransmissions; fewer than {FEW} are told as info"
            ),
        },
        fixes: if silent {
            vec![
                format!("check that {} is up and reachable: ping, traceroute, its own console", first.destination),
                "look for a packet filter or security group in between that drops without an answer".into(),
            ]
        } else {
            vec![
                "on the peer: look for sockets in CLOSE_WAIT and fix the missing close() of their application".into(),
                "check the path for packet loss and filters".into(),
            ]
        },
        not_helpful: {
            let retries = "net.ipv4.tcp_syn_retries: only moves the moment of giving up";
            let timeout = (!silent).then_some("tcp_fin_timeout here: the stale socket is on the peer");
            [retries].into_iter().chain(timeout).map(String::from).collect()
        },
        verify: Verify {
            promql: "rate(synfin_tcp_connect_failures_total{reason=\"timeout\"}[5m]) > 0".into(),
            ss: {
                let here = format!("ss -tano state syn-sent dst {}", first.destination);
                let there = if silent { "" } else { "   # on the peer: ss -tanp state close-wait" };
                inside(first.namespace.as_ref(), &(here + there))
            },
        },
    }))
}

/// HS-002: handshakes that took a retransmission timeout or more.
pub fn slow_tail(e: &Evidence) -> Verdict {
    let handshakes = e.handshakes.as_ref().or_missing("handshake times were not watched")?;
    let slow = |tail: &HandshakeTail| tail.steps.iter().sum::<u64>();
    let mut over: Vec<&HandshakeTail> =
        (handshakes.iter()).filter(|tail| slow(tail) > 0 && share(slow(tail), tail.measured) >= TAIL_SHARE).collect();
    over.sort_by_key(|tail| (std::cmp::Reverse(slow(tail)), tail.role));
    let Some(first) = over.first() else { return Ok(None) };
    let overflows = e.counters.listen_overflows;
    let step =
        |name, value: u64| Measured { name, value: value.into(), unit: "handshakes", source: "handshake histogram" };
    let mut measured = vec![
        step("handshakes", first.measured),
        step("of them 1 to 3 s", first.steps[0]),
        step("of them 3 to 7 s", first.steps[1]),
        step("of them 7 s and more", first.steps[2]),
    ];
    measured.extend(overflows.map(|value| Measured {
        name: "refused by full accept queues here",
        value: value.into(),
        unit: "packets",
        source: "ListenOverflows over the window",
    }));
    let backlog_here = overflows.is_some_and(|overflows| overflows > 0);
    Ok(Some(Finding {
        id: "HS-002",
        severity: if slow(first) < FEW { Severity::Info } else { Severity::Warning },
        title: format!(
            "{} of {} handshakes took a second or more",
            percent(share(slow(first), first.measured)),
            direction(first.role)
        ),
        whose: {
            let slow_ones: Vec<_> =
                e.slow_handshakes.iter().filter(|slow| over.iter().any(|tail| tail.role == slow.role)).collect();
            let mut lines = worst(&slow_ones, |slow| contact_line(slow, "slow handshake"));
            lines.extend(over.iter().map(|tail| {
                let (slow, all) = (thousands(slow(tail)), thousands(tail.measured));
                format!("all {} handshakes: {slow} of {all} slow", direction(tail.role))
            }));
            lines
        },
        why: format!(
            "A lost SYN or SYN-ACK (the first two packets) is sent again after 1 s, then 2, then 4: steps at 1, 3 and 7 s; SYNs \
             each second at first, since Linux 6.5. {}",
            if backlog_here {
                "An accept queue on this host overflowed meanwhile, and a full queue drops them."
            } else {
                "No accept queue overflowed on this host, so look at the path and at the peers' queues."
            }
        ),
        measured,
        threshold: Threshold {
            value: TAIL_SHARE.into(),
            unit: "1",
            formula: format!(
                "at least {} of the measured handshakes took over 1 s; fewer than {FEW} are told as info",
                percent(TAIL_SHARE)
            ),
        },
        fixes: {
            let queue = "where the server's accept queue overflows: accept faster, a larger backlog in listen(), net.core.somaxconn";
            let path =
                "look for loss on the path: ip -s link, packet filters, a full connection tracking table (dmesg)";
            let order = if backlog_here { [queue, path] } else { [path, queue] };
            order.map(String::from).to_vec()
        },
        not_helpful: vec![
            "tcp_syn_retries, tcp_synack_retries: they set how often it is sent again, not how soon".into(),
        ],
        verify: Verify {
            promql: "1 - sum by (role) (rate(synfin_tcp_handshake_seconds_bucket{le=\"1.0\"}[5m])) / sum by (role) \
                     (rate(synfin_tcp_handshake_seconds_count[5m])) > 0.01"
                .into(),
            ss: "ss -tano state syn-sent; ss -tano state syn-recv; nstat -az TcpExtListenOverflows".into(),
        },
    }))
}

/// `web.service (server) on 10.0.0.9:8080: 40 resets`.
pub fn contact_line(contact: &Contact, what: &str) -> String {
    let preposition = if contact.role == Role::Client { "->" } else { "on" };
    let (unit, role) = (unit_name(&contact.unit), contact.role.label());
    format!("{unit} ({role}) {preposition} {}: {}", contact.endpoint, count(contact.count, what))
}

fn direction(role: Role) -> &'static str {
    match role {
        Role::Client => "outgoing",
        Role::Server => "incoming",
        Role::Unknown => "other",
    }
}

/// Places of an accept queue: the kernel refuses only when more than the limit wait (sk_acceptq_is_full of include/net/sock.h).
fn places(listener: &Listener) -> u64 {
    listener.limit.saturating_add(1)
}

/// HS-003: a full accept queue, or one nearly full; a queue that refused few packets and has caught up is told as info.
pub fn accept_queue_full(e: &Evidence) -> Verdict {
    let fill = |listener: &Listener| share(listener.backlog, places(listener));
    let mut over: Vec<&Listener> = (e.listeners.iter().flatten())
        .filter(|listener| listener.backlog >= at_least(BACKLOG_SHARE, places(listener)))
        .collect();
    over.sort_by(|a, b| fill(b).total_cmp(&fill(a)).then(a.local.cmp(&b.local)));
    let overflows = e.counters.listen_overflows;
    let drops = e.counters.listen_drops;
    let accepted =
        e.handshakes.iter().flatten().filter(|tail| tail.role == Role::Server).map(|tail| tail.measured).sum();
    let felt = overflows
        .is_some_and(|overflows| overflows > 0 && (accepted == 0 || share(overflows, accepted) >= OVERFLOW_SHARE));
    if over.is_empty() && overflows.unwrap_or(0) == 0 {
        e.listeners.as_ref().or_missing("accept queues were not looked at")?;
        overflows.or_missing("ListenOverflows was not watched")?;
        return Ok(None);
    }
    let mut measured = vec![];
    let mut add = |name, value: Option<u64>, unit, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit, source }));
    };
    let first = over.first().copied();
    let namespace = first.and_then(|listener| listener.namespace.as_ref());
    add("accept queue", first.map(|listener| listener.backlog), "sockets", "census of the kernel's socket tables");
    add("its places", first.map(places), "sockets", "census of the kernel's socket tables: the bound, and one more");
    add(
        "half-open requests",
        first.map(|listener| listener.half_open),
        "sockets",
        "census of the kernel's socket tables",
    );
    // SYNs and last ACKs; one connection may send several.
    add("refused by full accept queues", overflows, "packets", "ListenOverflows over the window");
    add("dropped by listeners for any reason", drops, "packets", "ListenDrops over the window");
    add("somaxconn", e.sysctls.somaxconn, "sockets", "sysctl");
    let mut whose = worst(&over, |listener| {
        format!(
            "{} (server) on {}: {} of {} places taken, {} half-open{}",
            unit_name(&listener.unit),
            listener.local,
            thousands(listener.backlog),
            thousands(places(listener)),
            thousands(listener.half_open),
            in_namespace(listener.namespace.as_ref())
        )
    });
    let overflowed: Vec<_> = (e.by_namespace.iter().flatten())
        .filter_map(|each| Some((each.namespace.name.as_str(), each.listen_overflows.filter(|&count| count > 0)?)))
        .collect();
    whose.extend(worst(&overflowed, |(namespace, overflows)| {
        format!("network namespace {}: {} refused", printable(namespace), count(*overflows, "packet"))
    }));
    Ok(Some(Finding {
        id: "HS-003",
        severity: if over.is_empty() && !felt { Severity::Info } else { Severity::Warning },
        title: match (first, overflows) {
            (Some(listener), _) => format!(
                "accept queue of {} is {} full: {} of {}",
                listener.local,
                percent(fill(listener).min(1.0)),
                thousands(listener.backlog),
                thousands(places(listener))
            ),
            (None, overflows) => {
                format!("an accept queue overflowed: {} refused, room again now", count(overflows.unwrap_or(0), "packet"))
            }
        },
        whose: if whose.is_empty() {
            vec!["a listener that has caught up since: the kernel's counter does not say which".into()]
        } else {
            whose
        },
        why: "The application does not call accept() as fast as connections arrive. When its queue is full the kernel drops \
              further SYNs and final ACKs, and those clients wait a second or more."
            .into(),
        measured,
        threshold: Threshold {
            value: first.map_or(1, |listener| at_least(BACKLOG_SHARE, places(listener))).into(),
            unit: if first.is_some() { "sockets" } else { "packets" },
            formula: format!(
                "{} of min(backlog of listen(), somaxconn) + 1, or packets refused for {} of the accepted connections",
                percent(BACKLOG_SHARE),
                percent(OVERFLOW_SHARE)
            ),
        },
        fixes: vec![
            "accept faster: more workers or threads, no blocking work between two accept() calls".into(),
            format!(
                "a larger backlog in listen(), and net.core.somaxconn{} at least as large; then restart the service",
                in_namespace(namespace)
            ),
        ],
        not_helpful: vec!["tcp_max_syn_backlog: bounds half-open requests, not this queue".into()],
        verify: Verify {
            promql: "synfin_listener_backlog_sockets / (synfin_listener_backlog_limit_sockets + 1) >= 0.8 or \
                     rate(synfin_listen_overflows_total[5m]) > 0"
                .into(),
            ss: inside(namespace, "ss -ltn   # Recv-Q is the queue, Send-Q its bound; one more fits"),
        },
    }))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
