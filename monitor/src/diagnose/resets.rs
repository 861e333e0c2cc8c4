//! Resets where a close was expected: RS-001.

use super::finding::{Finding, Measured, OrMissing, Severity, Threshold, Verdict, Verify, worst};
use super::formulas::share;
use super::handshake::contact_line;
use super::text::{percent, thousands};
use super::{Evidence, subjects};
use crate::lifecycle::Close;

/// Above this, resets are a habit of some program, not a rare accident.
const RESET_SHARE: f64 = 0.05;
/// Fewer happen to anybody.
const RESETS: u64 = 3;

/// RS-001: connections end in resets.
pub fn instead_of_closes(e: &Evidence) -> Verdict {
    let closes = e.closes.or_missing("the ends of connections were not watched")?;
    let all: u64 = closes.iter().sum();
    let resets = closes[Close::Reset.index()];
    if resets < RESETS || share(resets, all) < RESET_SHARE {
        return Ok(None);
    }
    let mut measured = vec![
        Measured {
            name: "connections reset",
            value: resets.into(),
            unit: "connections",
            source: "tracked transitions",
        },
        Measured { name: "connections ended", value: all.into(), unit: "connections", source: "tracked transitions" },
    ];
    let mut add = |name, value: Option<u64>, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit: "connections", source }));
    };
    add("closed here with unread data", e.counters.abort_on_close, "TCPAbortOnClose over the window");
    add("closed here with SO_LINGER 0, or data came late", e.counters.abort_on_data, "TCPAbortOnData over the window");
    let by_us = [e.counters.abort_on_close, e.counters.abort_on_data];
    Ok(Some(Finding {
        id: "RS-001",
        severity: Severity::Info,
        title: format!("{} of connections ended in a reset, not in a close", percent(share(resets, all))),
        whose: {
            let mut lines = worst(&e.resets, |contact| contact_line(contact, "reset"));
            lines.push(match by_us {
            [Some(0), Some(0)] => "by the peers: nothing was aborted on this side".into(),
            [Some(unread), Some(linger)] => {
                format!("by this side: {} of {}", thousands((unread + linger).min(resets)), thousands(resets))
            }
            [None, _] | [_, None] => format!("{} connections, reset by either side", thousands(resets)),
            });
            lines
        },
        subjects: subjects(&e.resets),
        why: "A reset throws away what is not yet delivered. It comes from SO_LINGER with a time of zero, from close() with unread data, \
              or from a program that died. It leaves no TIME_WAIT, which is why some programs do it."
            .into(),
        measured,
        threshold: Threshold {
            value: RESET_SHARE.into(),
            unit: "1",
            formula: format!("at least {} of the connections that ended, and at least {RESETS}", percent(RESET_SHARE)),
        },
        fixes: vec![
            "read until end of file before close()".into(),
            "take SO_LINGER with a time of zero out of the application".into(),
            "look for crashes and health checks that hang up".into(),
        ],
        not_helpful: vec!["SO_LINGER with zero against TIME_WAIT: trades a harmless wait for lost data".into()],
        verify: Verify {
            promql: "sum(rate(synfin_tcp_connections_closed_total{close=\"reset\"}[5m])) / \
                     sum(rate(synfin_tcp_connections_closed_total[5m])) > 0.05"
                .into(),
            ss: "nstat -az TcpExtTCPAbortOnClose TcpExtTCPAbortOnData TcpEstabResets   # ss shows no socket after a reset"
                .into(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Expect, check_rule};
    use super::*;
    use Expect::{Fires, Silent, Unchecked};

    #[test]
    fn a_twentieth_of_resets_is_told() {
        let check = |name, local, reset, expected| {
            check_rule(
                instead_of_closes,
                name,
                |e| {
                    let mut closes = [0; Close::COUNT];
                    (closes[Close::Local.index()], closes[Close::Reset.index()]) = (local, reset);
                    e.closes = Some(closes);
                },
                expected,
            );
        };
        check("a twentieth", 95, 5, Fires(Severity::Info));
        check("just below", 96, 5, Silent);
        check("nothing ended", 0, 0, Silent);
        check("two of two", 0, 2, Silent);
        check("three of three", 0, 3, Fires(Severity::Info));
        check_rule(instead_of_closes, "not watched", |e| e.closes = None, Unchecked);
    }
}
