//! Ephemeral ports towards one destination used up, or nearly, or for a while that is over: TW-003.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, share};
use super::outlook::pool;
use super::port_advice::{first_aid, fixes, general_fixes, is_churn, not_helpful};
use super::text::{count, duration, in_namespace, inside, percent, thousands, unit_name};
use super::tuples::{
    EVENTS, EXHAUSTED_SHARE, KNEE_SHARE, NO_CENSUS, NO_POOL, NOW, POOL, TIME_TO_EXHAUSTION, busiest_first, held_by,
    is_exhausted, measured, verify, whose,
};
use super::{Evidence, FailedConnects, NamespaceName, TupleUse};
use crate::event::Endpoint;
use crate::lifecycle::ConnectFailure;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// connect() found no port, and all are taken still, or nearly, or nobody knows.
    Failing,
    /// connect() found no port; some came back, but they are still short.
    Easing,
    /// The last ones are being used.
    Near,
    /// connect() found no port, and by now there is room.
    Over,
}

/// Ports in use now where a connect found none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InUse {
    used: u64,
    /// Not among the busiest that were listed, so it may be less than `used`.
    at_most: bool,
    ports: u64,
}

impl InUse {
    /// `None`: not known.
    fn of(e: &Evidence, failed: &FailedConnects) -> Option<Self> {
        let tuples = e.tuples.as_ref()?;
        let namespace = failed.namespace.as_ref();
        if let Some(tuple) = busiest(tuples, failed.destination, namespace) {
            let ports = tuple.ports_available.or(e.ports_available)?;
            return Some(Self { used: tuple.used, at_most: false, ports });
        }
        let ports = match namespace {
            None => e.ports_available?,
            Some(name) => e.by_namespace.iter().flatten().find(|each| each.namespace == *name)?.ports_available?,
        };
        let least = tuples.iter().map(|tuple| tuple.used).min().unwrap_or(0);
        Some(Self { used: least, at_most: true, ports })
    }

    /// Below the knee: connect() finds a port at once.
    fn has_room(self) -> bool {
        self.used < at_least(KNEE_SHARE, self.ports)
    }
}

fn has_room(e: &Evidence, failed: &FailedConnects) -> bool {
    InUse::of(e, failed).is_some_and(InUse::has_room)
}

fn busiest<'a>(
    tuples: &'a [TupleUse],
    destination: Endpoint,
    namespace: Option<&NamespaceName>,
) -> Option<&'a TupleUse> {
    let towards = |tuple: &TupleUse| tuple.destination == destination && tuple.namespace.as_ref() == namespace;
    busiest_first(tuples, towards).first().copied()
}

/// TW-003: no local port left, or nearly (critical); or none for a while, and room again (warning).
pub fn exhausted(e: &Evidence) -> Verdict {
    let mut no_port: Vec<&FailedConnects> = (e.failures.iter().flatten())
        .filter(|failed| failed.reason == ConnectFailure::NoLocalPort && failed.count > 0)
        .collect();
    if no_port.is_empty() {
        e.tuples.as_ref().or_missing(NO_CENSUS)?;
        e.ports_available.or_missing(NO_POOL)?;
    }
    // Where ports are still short first.
    no_port.sort_by_key(|failed| (has_room(e, failed), std::cmp::Reverse(failed.count)));
    let (tuples, ports) = (e.tuples.as_deref().unwrap_or(&[]), e.ports_available.unwrap_or(0));
    let nearly = busiest_first(tuples, |tuple| pool(tuple, ports) > 0 && is_exhausted(e, tuple, ports));
    let told = |failed: &FailedConnects| (failed.destination, failed.namespace.clone());
    let (stage, (destination, namespace)) = match (no_port.first(), nearly.first()) {
        (Some(failed), _) if !has_room(e, failed) => {
            let is_full = |now: InUse| now.used >= at_least(EXHAUSTED_SHARE, now.ports);
            let full = InUse::of(e, failed).is_none_or(is_full);
            (if full { Stage::Failing } else { Stage::Easing }, told(failed))
        }
        (_, Some(tuple)) => (Stage::Near, (tuple.destination, tuple.namespace.clone())),
        (Some(failed), None) => (Stage::Over, told(failed)),
        (None, None) => {
            e.failures
                .as_ref()
                .or_missing("failed connects were not watched; no destination is near its last port now")?;
            return Ok(None);
        }
    };
    let namespace = namespace.as_ref();
    let busiest = busiest(tuples, destination, namespace);
    let first = no_port.first().copied();
    let p = busiest.map(|tuple| pool(tuple, ports)).or_else(|| Some(InUse::of(e, first?)?.ports)).unwrap_or(ports);
    Ok(Some(Finding {
        id: "TW-003",
        severity: match stage {
            Stage::Failing | Stage::Easing | Stage::Near => Severity::Critical,
            Stage::Over => Severity::Warning,
        },
        title: title(e, stage, destination, &no_port),
        whose: {
            let mut lines = worst(&no_port, |failed| failed_line(e, failed));
            lines.extend(worst(&nearly, |tuple| whose(tuple, ports)));
            lines
        },
        why: why(stage, busiest),
        measured: {
            let failed = e.failures.is_some().then(|| Measured {
                name: "connects without a local port",
                value: no_port.iter().map(|failed| failed.count).sum::<u64>().into(),
                unit: "connects",
                source: EVENTS,
            });
            let now = match busiest {
                Some(tuple) => measured(tuple, p),
                None => first.and_then(|failed| InUse::of(e, failed)).map_or(vec![], at_most),
            };
            // What has come need not be foretold.
            let now = now.into_iter().filter(|number| stage != Stage::Failing || number.name != TIME_TO_EXHAUSTION);
            failed.into_iter().chain(now).collect()
        },
        threshold: Threshold {
            value: at_least(EXHAUSTED_SHARE, p).max(1).into(),
            unit: "ports",
            formula: format!(
                "{} of P, or any connect() that found no port: a warning once less than {} are in use again; P = high - low + \
                 1 - reserved",
                percent(EXHAUSTED_SHARE),
                percent(KNEE_SHARE)
            ),
        },
        fixes: match (stage, busiest) {
            (Stage::Over, _) | (Stage::Failing | Stage::Easing | Stage::Near, None) => {
                let lasting = general_fixes(first.map_or("unknown", |failed| &failed.unit), namespace);
                if stage == Stage::Over { lasting } else { with_first_aid(e, namespace, lasting) }
            }
            (Stage::Failing | Stage::Easing | Stage::Near, Some(tuple)) if is_churn(tuple) => {
                with_first_aid(e, namespace, fixes(tuple, p))
            }
            (Stage::Failing | Stage::Easing | Stage::Near, Some(tuple)) => fixes(tuple, p),
        },
        not_helpful: not_helpful(),
        verify: match stage {
            Stage::Failing | Stage::Near => verify(destination, namespace, EXHAUSTED_SHARE, p),
            Stage::Easing | Stage::Over => Verify {
                promql: "increase(synfin_tcp_connect_failures_total{reason=\"no_local_port\"}[5m]) > 0".into(),
                ss: inside(namespace, &format!("ss -Htan dst {destination} | wc -l")),
            },
        },
    }))
}

fn title(e: &Evidence, stage: Stage, destination: Endpoint, no_port: &[&FailedConnects]) -> String {
    let told: Vec<_> = no_port.iter().filter(|failed| has_room(e, failed) == (stage == Stage::Over)).collect();
    let connects = count(told.iter().map(|failed| failed.count).sum(), "connect");
    let among = |connects: String, lasted: &str| match told.len() {
        1 => format!("{connects} to {destination} failed{lasted}"),
        _ => format!("{connects} failed{lasted}, most to {destination}"),
    };
    match stage {
        Stage::Failing => format!("no local port left: {}", among(connects, "")),
        Stage::Easing => format!("no local port was left: {}", among(connects, "")),
        Stage::Near => format!("the last local ports towards {destination} are being used"),
        Stage::Over => {
            let window =
                e.window_seconds.map_or(String::new(), |seconds| format!(" in the last {}", duration(seconds)));
            format!("ports free again: {}", among(connects, &window))
        }
    }
}

fn why(stage: Stage, busiest: Option<&TupleUse>) -> String {
    let held = busiest.map_or(String::new(), |tuple| held_by(tuple) + " ");
    match stage {
        Stage::Failing | Stage::Easing | Stage::Near => format!(
            "Each connection to one destination needs a local port of its own, and all of the range {} taken or nearly. \
             {held}When none is left, connect() fails with EADDRNOTAVAIL (\"Cannot assign requested address\"), which the \
             kernel counts nowhere.",
            if stage == Stage::Easing { "were" } else { "are" }
        ),
        Stage::Over => "Each connection to one destination needs a local port of its own. For a while none was left, and \
                        connect() failed with EADDRNOTAVAIL (\"Cannot assign requested address\"), which the kernel counts \
                        nowhere; now there is room. If connects fail even so, the application has narrowed its range \
                        (IP_LOCAL_PORT_RANGE)."
            .into(),
    }
}

fn failed_line(e: &Evidence, failed: &FailedConnects) -> String {
    let now = InUse::of(e, failed).filter(|now| now.has_room()).map_or(String::new(), |now| {
        let at_most = if now.at_most { "at most " } else { "" };
        format!("; now {at_most}{} of {} ports in use", thousands(now.used), thousands(now.ports))
    });
    format!(
        "{} (client) -> {}: {} failed{}{now}",
        unit_name(&failed.unit),
        failed.destination,
        count(failed.count, "connect"),
        in_namespace(failed.namespace.as_ref())
    )
}

fn at_most(now: InUse) -> Vec<Measured> {
    vec![
        Measured { name: "ports in use, at most", value: now.used.into(), unit: "ports", source: NOW },
        Measured { name: "share of them, at most", value: share(now.used, now.ports).into(), unit: "1", source: NOW },
        Measured { name: "local ports to choose from (P)", value: now.ports.into(), unit: "ports", source: POOL },
    ]
}

fn with_first_aid(e: &Evidence, namespace: Option<&NamespaceName>, lasting: Vec<String>) -> Vec<String> {
    let Some(aid) = first_aid(e, namespace) else { return lasting };
    let others = lasting.into_iter().filter(|fix| !fix.contains("tcp_tw_reuse"));
    [aid].into_iter().chain(others).collect()
}

#[cfg(test)]
#[path = "exhausted_tests.rs"]
mod tests;
