//! Sockets that our own application does not close: CW-001.

use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::harmless::maker_line;
use super::text::{count, duration, unit_name};
use super::{CloseWait, Evidence, Maker};

/// A socket that waits this long for close() is stuck: the seconds TIME_WAIT itself lasts.
const STUCK_SECONDS: f64 = 60.0;

/// A short look cannot have seen a socket grow older than the look itself; a daemon that has watched for longer has.
fn stuck_seconds(unit: &CloseWait) -> f64 {
    STUCK_SECONDS.min(unit.trend.map_or(STUCK_SECONDS, |trend| trend.seconds))
}

/// CW-001: CLOSE_WAIT that only grows is a leak (warning); one that is merely old is worth a look (info).
pub fn leak(e: &Evidence) -> Verdict {
    let units = e.close_wait.as_ref().or_missing("CLOSE_WAIT sockets were not counted")?;
    let held: Vec<&CloseWait> = units.iter().filter(|unit| unit.sockets > 0).collect();
    if held.is_empty() {
        return Ok(None);
    }
    e.window_seconds.or_missing("CLOSE_WAIT sockets exist, but growth was not watched")?;
    let stuck = |unit: &CloseWait| unit.oldest_seconds.is_some_and(|age| age >= stuck_seconds(unit));
    let grows = |unit: &CloseWait| unit.trend.is_some_and(|trend| trend.delta > 0);
    let old = |unit: &CloseWait| unit.oldest_seconds.is_some_and(|age| age >= STUCK_SECONDS);
    let mut over: Vec<&CloseWait> = held.iter().copied().filter(|unit| stuck(unit) && grows(unit)).collect();
    let severity = if over.is_empty() { Severity::Info } else { Severity::Warning };
    if over.is_empty() {
        over = held.iter().copied().filter(|unit| old(unit)).collect();
    }
    over.sort_by(|a, b| (b.sockets, &a.unit).cmp(&(a.sockets, &b.unit)));
    let Some(first) = over.first() else {
        return match held.iter().find(|unit| unit.oldest_seconds.is_none()) {
            Some(unit) => {
                Err(Missing(format!("the age of CLOSE_WAIT sockets of {} is not known", unit_name(&unit.unit))))
            }
            None => Ok(None),
        };
    };
    let age = first.oldest_seconds.unwrap_or(0.0);
    let mut measured = vec![
        Measured { name: "CLOSE_WAIT sockets", value: first.sockets.into(), unit: "sockets", source: "census" },
        Measured { name: "age of the oldest, at least", value: age.into(), unit: "s", source: "tracked transitions" },
    ];
    measured.extend(first.trend.map(|trend| Measured {
        name: "growth",
        value: trend.per_second().into(),
        unit: "1/s",
        source: "census, over the window",
    }));
    Ok(Some(Finding {
        id: "CW-001",
        severity,
        title: format!(
            "{} does not close: {} in CLOSE_WAIT, the oldest for {}",
            unit_name(&first.unit),
            count(first.sockets, "socket"),
            duration(age)
        ),
        whose: {
            let mut lines = worst(&over, |unit| {
            format!(
                "{}: {} in CLOSE_WAIT{}",
                unit_name(&unit.unit),
                count(unit.sockets, "socket"),
                unit.trend.map_or(String::new(), |trend| format!(", {:+} in {}", trend.delta, duration(trend.seconds)))
            )
        });
            let named = |maker: &&Maker| over.iter().any(|unit| unit.unit == maker.unit);
            lines.extend(worst(&e.close_wait_makers.iter().filter(named).collect::<Vec<_>>(), |maker| {
                maker_line(maker, "CLOSE_WAIT")
            }));
            lines
        },
        subjects: vec![],
        why: "The peer has closed; the application has not called close(). The kernel waits for it for ever: each socket \
              holds a file descriptor until the limit is reached."
            .into(),
        measured,
        threshold: Threshold {
            value: (if severity == Severity::Info { STUCK_SECONDS } else { stuck_seconds(first) }).into(),
            unit: "s",
            formula: "age of the oldest, min(60 s, time watched), and more of them than before; older than 60 s without growth \
                      is told as info"
                .into(),
        },
        fixes: vec![
            format!("find the missing close() in {}: error paths, abandoned pool entries", unit_name(&first.unit)),
            "a restart of it frees the sockets for now; it does not mend the leak".into(),
        ],
        not_helpful: vec!["any sysctl: no kernel timer ends CLOSE_WAIT".into()],
        verify: Verify {
            promql: "synfin_tcp_unit_sockets{state=\"close_wait\"} > 0 and on (unit, instance) time() - \
                     synfin_close_wait_oldest_timestamp_seconds > 60"
                .into(),
            ss: "ss -tanp state close-wait".into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule};
    use super::*;
    use crate::diagnose::Trend;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn a_leak_is_old_and_grows() {
        let check = |name, window: Option<f64>, sockets, oldest_seconds, delta: Option<i64>, expected| {
            let trend = delta.map(|delta| Trend { delta, seconds: window.unwrap_or(60.0) });
            let unit = CloseWait { unit: "api.service".into(), sockets, oldest_seconds, trend };
            check_rule(
                leak,
                name,
                |e| {
                    e.window_seconds = window;
                    e.close_wait = Some(vec![unit]);
                },
                expected,
            );
        };
        let (warning, info) = (Fires(Severity::Warning), Fires(Severity::Info));
        check("none", Some(300.0), 0, None, Some(0), Silent);
        check("old and growing", Some(300.0), 5, Some(60.0), Some(1), warning);
        check("young and growing", Some(300.0), 5, Some(59.0), Some(1), Silent);
        check("old and level", Some(300.0), 5, Some(60.0), Some(0), info);
        check("old and falling", Some(300.0), 5, Some(60.0), Some(-1), info);
        check("old, growth not known", Some(300.0), 5, Some(60.0), None, info);
        check("a short look: as old as the look, growing", Some(10.0), 5, Some(10.0), Some(1), warning);
        check("a short look: younger than the look", Some(10.0), 5, Some(9.0), Some(1), Silent);
        check("a short look, level", Some(10.0), 5, Some(10.0), Some(0), Silent);
        let watched_longer = Some(vec![CloseWait {
            unit: "api.service".into(),
            sockets: 5,
            oldest_seconds: Some(12.0),
            trend: Some(Trend { delta: 3, seconds: 1800.0 }),
        }]);
        let short_question = |e: &mut Evidence| (e.window_seconds, e.close_wait) = (Some(10.0), watched_longer);
        check_rule(leak, "a short question to a daemon that has watched for long", short_question, Silent);
        check("age not known", Some(300.0), 5, None, Some(1), Unchecked);
        check("one moment only", None, 5, Some(60.0), None, Unchecked);
        check_rule(leak, "not counted", |e| e.close_wait = None, Unchecked);
    }
}
