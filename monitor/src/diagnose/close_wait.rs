//! Sockets that our own application does not close: CW-001.

use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::at_least;
use super::harmless::maker_line;
use super::text::{count, duration, percent, unit_name};
use super::{CloseWait, Evidence, Maker, Trend, subjects};

/// A socket that waits this long for close() is stuck: the seconds TIME_WAIT itself lasts.
const STUCK_SECONDS: f64 = 60.0;
/// A socket that has waited this long is not closed late, it is forgotten: half an hour, as far back as a daemon remembers.
const FORGOTTEN_SECONDS: f64 = 1800.0;
/// So many sockets of one unit that hold a forgotten one are a leak, though they grow no more: the limit of open files may have stopped them.
const MANY: u64 = 100;
/// Of P; where that is fewer than [`MANY`].
const MANY_SHARE: f64 = 0.01;

/// What the sockets of one unit are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Young.
    Passing,
    /// There for as long as was looked, which is no minute; how much longer cannot be known.
    WholeLook,
    /// Level, and old.
    Old,
    /// Level, very old, and many.
    Forgotten,
    /// Old, and more of them than before.
    Growing,
}

/// `None` when the age is not known. `many`: sockets.
fn kind(unit: &CloseWait, many: u64) -> Option<Kind> {
    let age = unit.oldest_seconds?;
    let grows = unit.trend.is_some_and(|trend| trend.delta > 0);
    Some(match (age >= stuck_seconds(unit), grows) {
        (true, true) => Kind::Growing,
        (true, false) if age >= FORGOTTEN_SECONDS && unit.sockets >= many => Kind::Forgotten,
        (true, false) if age >= STUCK_SECONDS => Kind::Old,
        (true, false) => Kind::WholeLook,
        (false, true | false) => Kind::Passing,
    })
}

/// A short look cannot have seen a socket grow older than the look itself; a daemon that has watched for longer has.
fn stuck_seconds(unit: &CloseWait) -> f64 {
    STUCK_SECONDS.min(unit.trend.map_or(STUCK_SECONDS, |trend| trend.seconds))
}

/// CW-001: CLOSE_WAIT that only grows is a leak (warning), and so are many that are very old; what is merely old, or was there
/// during the whole of a short look, is worth a look (info).
pub fn leak(e: &Evidence) -> Verdict {
    let units = e.close_wait.as_ref().or_missing("CLOSE_WAIT sockets were not counted")?;
    let held: Vec<&CloseWait> = units.iter().filter(|unit| unit.sockets > 0).collect();
    if held.is_empty() {
        return Ok(None);
    }
    e.window_seconds.or_missing("CLOSE_WAIT sockets exist, but growth was not watched")?;
    let many = e.ports_available.map_or(MANY, |ports| at_least(MANY_SHARE, ports).clamp(1, MANY));
    let of_kind = |wanted: &[Kind]| {
        let held = held.iter().copied();
        held.filter(|unit| kind(unit, many).is_some_and(|kind| wanted.contains(&kind))).collect::<Vec<_>>()
    };
    let mut over = of_kind(&[Kind::Growing, Kind::Forgotten]);
    let severity = if over.is_empty() { Severity::Info } else { Severity::Warning };
    if over.is_empty() {
        over = of_kind(&[Kind::Old, Kind::WholeLook]);
    }
    over.sort_by(|a, b| (b.sockets, &a.unit).cmp(&(a.sockets, &b.unit)));
    let Some((first, first_kind)) = over.first().and_then(|first| Some((*first, kind(first, many)?))) else {
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
    let (unit, sockets) = (unit_name(&first.unit), count(first.sockets, "socket"));
    let makers_of = |unit: &CloseWait| {
        let unit = unit.unit.clone();
        e.close_wait_makers.iter().filter(move |maker| maker.unit == unit)
    };
    Ok(Some(Finding {
        id: "CW-001",
        severity,
        title: match first_kind {
            Kind::WholeLook => {
                format!("{unit}: {sockets} in CLOSE_WAIT, the oldest for the whole look, age unknown")
            }
            Kind::Passing | Kind::Old | Kind::Forgotten | Kind::Growing => {
                format!("{unit} does not close: {sockets} in CLOSE_WAIT, the oldest for {}", duration(age))
            }
        },
        whose: {
            let mut lines = worst(&over, |unit| {
                let growth = |trend: Trend| format!(", {:+} in {}", trend.delta, duration(trend.seconds));
                let sockets = count(unit.sockets, "socket");
                format!("{}: {sockets} in CLOSE_WAIT{}", unit_name(&unit.unit), unit.trend.map_or(String::new(), growth))
            });
            let makers: Vec<&Maker> = over.iter().flat_map(|unit| makers_of(unit)).collect();
            lines.extend(worst(&makers, |maker| maker_line(maker, "CLOSE_WAIT")));
            lines
        },
        // By end where that is known, so that no socket is in two of them.
        subjects: over
            .iter()
            .flat_map(|unit| match makers_of(unit).next() {
                Some(_) => subjects(makers_of(unit)),
                None => subjects([*unit]),
            })
            .collect(),
        why: "The peer has closed; the application has not called close(). The kernel waits for it for ever: each socket \
              holds a file descriptor until the limit is reached."
            .into(),
        measured,
        threshold: Threshold {
            value: match first_kind {
                Kind::Growing | Kind::Passing | Kind::WholeLook => stuck_seconds(first),
                Kind::Old => STUCK_SECONDS,
                Kind::Forgotten => FORGOTTEN_SECONDS,
            }
            .into(),
            unit: "s",
            formula: format!(
                "age of the oldest, min(60 s, time watched), and more of them than before; or 30 min, and at least {many} \
                 sockets = min({MANY}, {} of P); else told as info",
                percent(MANY_SHARE)
            ),
        },
        fixes: vec![
            format!("find the missing close() in {unit}: error paths, abandoned pool entries"),
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
    use super::super::fixture::{Expect, check_rule, in_order};
    use super::*;
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
        check("a short look, level", Some(10.0), 5, Some(10.0), Some(0), info);
        check("a short look, younger and level", Some(10.0), 5, Some(9.0), Some(0), Silent);
        check("for half an hour, many, level", Some(300.0), 100, Some(1800.0), Some(0), warning);
        check("for half an hour, many, falling", Some(300.0), 100, Some(1800.0), Some(-1), warning);
        check("for half an hour, many, growth not known", Some(300.0), 100, Some(1800.0), None, warning);
        check("not as long", Some(300.0), 100, Some(1799.0), Some(0), info);
        check("not as many", Some(300.0), 99, Some(1800.0), Some(0), info);
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

    fn held(unit: &str, sockets: u64, oldest_seconds: f64, trend: Trend) -> CloseWait {
        CloseWait { unit: unit.into(), sockets, oldest_seconds: Some(oldest_seconds), trend: Some(trend) }
    }

    #[test]
    fn many_are_fewer_where_ports_are_few() {
        let check = |ports, sockets, expected| {
            let unit = held("api.service", sockets, 1800.0, Trend { delta: 0, seconds: 300.0 });
            let change = |e: &mut Evidence| (e.ports_available, e.close_wait) = (ports, Some(vec![unit]));
            check_rule(leak, &format!("{sockets} of {ports:?}"), change, Fires(expected));
        };
        check(Some(1000), 10, Severity::Warning);
        check(Some(1000), 9, Severity::Info);
        check(Some(28_232), 100, Severity::Warning);
        check(Some(28_232), 99, Severity::Info);
        check(None, 100, Severity::Warning);
        check(None, 99, Severity::Info);
        check(Some(0), 1, Severity::Warning);
    }

    #[test]
    fn a_short_look_says_that_it_cannot_know_the_age() {
        let unit = held("worker.service", 400, 12.1, Trend { delta: 0, seconds: 12.1 });
        let evidence = Evidence { close_wait: Some(vec![unit]), ..in_order() };
        let finding = leak(&evidence).unwrap().unwrap();
        let title = "worker.service: 400 sockets in CLOSE_WAIT, the oldest for the whole look, age unknown";
        assert_eq!(finding.title, title);
    }

    #[test]
    fn no_socket_is_in_two_subjects() {
        let growing = Trend { delta: 3, seconds: 300.0 };
        let units = vec![held("api.service", 5, 90.0, growing), held("worker.service", 7, 90.0, growing)];
        let evidence = Evidence { close_wait: Some(units), ..in_order() };
        let json = serde_json::to_string(&leak(&evidence).unwrap().unwrap().subjects).unwrap();
        let by_end = r#"{"role":"client","unit":"api.service","endpoint":"10.0.0.9:5432","sockets":1}"#;
        assert_eq!(json, format!(r#"[{{"unit":"worker.service","sockets":7}},{by_end}]"#));
    }
}
