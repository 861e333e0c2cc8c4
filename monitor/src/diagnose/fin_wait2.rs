//! Peers that do not close after us: FW-001.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::{at_least, share};
use super::harmless::maker_line;
use super::text::{count, percent, thousands};
use super::tuples::{CENSUS, NO_POOL};
use super::{Evidence, Level, subjects};

/// FIN_WAIT2 is noticed at this share of P: below it no limit is near.
const FLOOR_SHARE: f64 = 0.01;
/// FIN_WAIT2 / TIME_WAIT is mean time in FIN_WAIT2 / 60 s: at a tenth peers take 6 s on average to close.
const OF_TIME_WAIT: f64 = 0.1;
/// Orphans are noticed at this share of tcp_max_orphans when they grow, and at half in any case.
const ORPHANS_SHARE: f64 = 0.1;
const ORPHANS_HALF: f64 = 0.5;

/// FW-001: FIN_WAIT2 or orphans grow.
pub fn peers_do_not_close(e: &Evidence) -> Verdict {
    let fin_wait2 = e.fin_wait2.or_missing("FIN_WAIT2 sockets were not counted")?;
    let time_wait = e.time_wait.as_ref().or_missing("TIME_WAIT sockets were not counted")?.total;
    let ports = e.ports_available.or_missing(NO_POOL)?;
    let grows = |level: Level| level.trend.is_some_and(|trend| trend.delta > 0);
    let floor = at_least(FLOOR_SHARE, ports).max(1);
    let many = fin_wait2.now >= floor && fin_wait2.now >= at_least(OF_TIME_WAIT, time_wait);
    let orphans_over = match (e.orphans, e.sysctls.tcp_max_orphans) {
        (Some(orphans), Some(max)) => {
            orphans.now >= at_least(ORPHANS_HALF, max).max(1)
                || (grows(orphans) && orphans.now >= at_least(ORPHANS_SHARE, max).max(1))
        }
        (None, _) | (_, None) => false,
    };
    if !(orphans_over || many && grows(fin_wait2)) {
        if many && fin_wait2.trend.is_none() {
            return None.or_missing("FIN_WAIT2 is high, but its growth was not watched");
        }
        e.orphans.or_missing("orphans were not counted")?;
        // The limit is the host's and is shown in its own namespace only: in a container FIN_WAIT2 alone decides.
        return Ok(None);
    }
    let mut measured = vec![];
    let mut add = |name, value: Option<u64>, unit, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit, source }));
    };
    add("FIN_WAIT2 sockets", Some(fin_wait2.now), "sockets", CENSUS);
    add("of them closed by the application", e.small_fin_wait2, "sockets", CENSUS);
    add("TIME_WAIT sockets", Some(time_wait), "sockets", CENSUS);
    add(
        "orphans (closed, still in the kernel)",
        e.orphans.map(|orphans| orphans.now),
        "sockets",
        "orphan in sockstat, all namespaces",
    );
    add("tcp_max_orphans", e.sysctls.tcp_max_orphans, "sockets", "sysctl");
    add("tcp_fin_timeout", e.sysctls.tcp_fin_timeout, "s", "sysctl");
    measured.extend(fin_wait2.trend.map(|trend| Measured {
        name: "growth of FIN_WAIT2",
        value: trend.per_second().into(),
        unit: "1/s",
        source: CENSUS,
    }));
    Ok(Some(Finding {
        id: "FW-001",
        severity: Severity::Warning,
        title: match (many, e.orphans) {
            (false, Some(orphans)) => {
                format!("{} without an owner pile up: peers do not finish closing", count(orphans.now, "closed socket"))
            }
            (true, _) | (_, None) => format!("{} in FIN_WAIT2: peers do not close", count(fin_wait2.now, "socket")),
        },
        whose: {
            let mut lines = worst(&e.fin_wait2_makers, |maker| maker_line(maker, "FIN_WAIT2"));
            let (waiting, all) = (fin_wait2.now, fin_wait2.now + time_wait);
            lines.push(format!(
                "{} of {} closed connections still wait for the peer's close ({})",
                thousands(waiting),
                thousands(all),
                percent(share(waiting, all))
            ));
            lines
        },
        subjects: subjects(&e.fin_wait2_makers),
        why: "This side has closed and the peer has acknowledged it, but does not close itself: over there the sockets sit in \
              CLOSE_WAIT. When ours expire and the peer's stay, later connects on the same ports time out (HS-001)."
            .into(),
        measured,
        threshold: Threshold {
            value: floor.into(),
            unit: "sockets",
            formula: format!(
                "FIN_WAIT2 grows, at least {} of P and {} of TIME_WAIT; or orphans at {} of tcp_max_orphans, {} when growing",
                percent(FLOOR_SHARE),
                percent(OF_TIME_WAIT),
                percent(ORPHANS_HALF),
                percent(ORPHANS_SHARE)
            ),
        },
        fixes: vec![
            "fix the peer: it must call close() when it reads end of file".into(),
            "set an application timeout on idle and half-closed connections".into(),
            "sysctl -w net.ipv4.tcp_fin_timeout=30: here it is the right knob, it ends FIN_WAIT2 of closed sockets sooner".into(),
        ],
        not_helpful: vec!["tcp_tw_reuse: it is for TIME_WAIT, not for FIN_WAIT2".into()],
        verify: Verify {
            promql:
                "synfin_tcp_sockets{state=\"fin_wait2\"} and deriv(synfin_tcp_sockets{state=\"fin_wait2\"}[5m]) > 0"
                    .into(),
            ss: "ss -Htano state fin-wait-2 | wc -l; grep orphan /proc/net/sockstat".into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule};
    use super::*;
    use crate::diagnose::Trend;
    use Expect::{Fires, Silent, Unchecked};

    fn level(now: u64, delta: i64) -> Level {
        Level { now, trend: Some(Trend { delta, seconds: 60.0 }) }
    }

    #[test]
    fn fin_wait2_matters_when_it_grows_and_lasts() {
        let check = |name, fin_wait2, time_wait, expected| {
            check_rule(
                peers_do_not_close,
                name,
                |e| {
                    e.fin_wait2 = Some(fin_wait2);
                    e.time_wait.as_mut().unwrap().total = time_wait;
                },
                expected,
            );
        };
        let warning = Fires(Severity::Warning);
        check("a hundredth of P, growing", level(283, 1), 100, warning);
        check("just below", level(282, 1), 100, Silent);
        check("level", level(283, 0), 100, Silent);
        check("a tenth of TIME_WAIT", level(1000, 1), 10_000, warning);
        check("less than a tenth", level(999, 1), 10_000, Silent);
        check("growth not watched", Level { now: 283, trend: None }, 100, Unchecked);
        check_rule(peers_do_not_close, "not counted", |e| e.fin_wait2 = None, Unchecked);
    }

    #[test]
    fn orphans_matter_at_a_tenth_when_growing_and_at_half_always() {
        let check = |name, orphans, expected| {
            check_rule(
                peers_do_not_close,
                name,
                |e| {
                    e.sysctls.tcp_max_orphans = Some(1000);
                    e.orphans = Some(orphans);
                },
                expected,
            );
        };
        check("a tenth, growing", level(100, 1), Fires(Severity::Warning));
        check("a tenth, level", level(100, 0), Silent);
        check("just below a tenth", level(99, 1), Silent);
        check("half, falling", level(500, -1), Fires(Severity::Warning));
        check("just below half, falling", level(499, -1), Silent);
        check_rule(peers_do_not_close, "not counted", |e| e.orphans = None, Unchecked);
        check_rule(
            peers_do_not_close,
            "a container is not shown the limit",
            |e| e.sysctls.tcp_max_orphans = None,
            Silent,
        );
    }
}
