//! The cap on TIME_WAIT sockets: TW-005.

use super::finding::{Finding, Measured, Missing, OrMissing, Severity, Threshold, Verdict, Verify};
use super::formulas::{at_least, overflows_buckets, share, steady_time_wait};
use super::harmless::makers;
use super::text::{count, inside, percent, printable, thousands};
use super::{Evidence, NamespaceName};
use crate::lifecycle::Role;

/// Below this the table is no subject.
pub const HALF_SHARE: f64 = 0.5;
/// From here on the next burst overflows.
const NEAR_SHARE: f64 = 0.9;
/// A table is made so many times as large as it need be.
const RESERVE: f64 = 2.0;

/// The table of one network namespace.
#[derive(Clone, Copy)]
struct Table<'a> {
    /// `None` where one is watched.
    namespace: Option<&'a NamespaceName>,
    /// The daemon lives in it.
    own: bool,
    overflowed: Option<u64>,
    /// The kernel counts both kinds of small sockets against the limit.
    small: Option<u64>,
    max: Option<u64>,
    /// Of the limit, where it is known.
    default: Option<u64>,
    entered_per_second: Option<f64>,
}

/// Each namespace has a table and a limit of its own.
fn tables(e: &Evidence) -> Vec<Table<'_>> {
    let Some(namespaces) = &e.by_namespace else {
        return vec![Table {
            namespace: None,
            own: true,
            overflowed: e.counters.time_wait_overflow,
            small: e.time_wait.as_ref().map(|time_wait| time_wait.total + e.small_fin_wait2.unwrap_or(0)),
            max: e.sysctls.tcp_max_tw_buckets,
            default: e.sysctls.tcp_max_tw_buckets_default,
            entered_per_second: e.time_wait_entered_per_second,
        }];
    };
    let table = namespaces.iter().map(|each| Table {
        namespace: Some(&each.namespace),
        own: each.own,
        overflowed: each.time_wait_overflow,
        small: Some(each.small),
        max: each.tcp_max_tw_buckets,
        // Namespaces share the hash table that the default is made of.
        default: e.sysctls.tcp_max_tw_buckets_default,
        entered_per_second: None,
    });
    table.collect()
}

impl Table<'_> {
    /// It overflowed, and there is room again: less than half is taken.
    fn is_over(&self) -> bool {
        match (self.overflowed, self.small, self.max) {
            (Some(1..), Some(small), Some(max)) => small < at_least(HALF_SHARE, max),
            (Some(0) | None, _, _) | (_, None, _) | (_, _, None) => false,
        }
    }

    /// Somebody set the limit below the kernel's default.
    fn is_lowered(&self) -> bool {
        matches!((self.max, self.default), (Some(max), Some(default)) if max < default)
    }

    /// What the sockets and their rate ask for, with a reserve.
    fn needed(&self) -> u64 {
        let entered = self.entered_per_second.map_or(0.0, steady_time_wait);
        let most = entered.max(self.small.unwrap_or(0) as f64);
        (RESERVE * most).ceil() as u64
    }

    /// The first limit to try: a lowered one is restored, as TW-010 says. `None`: nothing is known but that 0 is too few.
    fn target(&self) -> Option<u64> {
        let twice = self.max.unwrap_or(0).saturating_mul(2);
        let target = match self.default {
            Some(default) if self.is_lowered() => default,
            default => twice.max(self.needed()).max(default.unwrap_or(0)),
        };
        (target > 0).then_some(target)
    }

    fn fixes(&self) -> Vec<String> {
        let elsewhere = self.namespace.filter(|_| !self.own);
        let set = |limit| inside(elsewhere, &format!("sysctl -w net.ipv4.tcp_max_tw_buckets={limit}"));
        let mut fixes = vec![match (self.target(), self.is_lowered()) {
            (Some(target), true) => format!("restore the default: {} (256 bytes a socket)", set(target)),
            (Some(target), false) => format!("raise it: {} (256 bytes a socket)", set(target)),
            (None, _) => {
                "raise net.ipv4.tcp_max_tw_buckets: twice the connections closed in 60 s (256 bytes a socket)".into()
            }
        }];
        let more =
            Some(self.needed()).filter(|needed| self.is_lowered() && self.target().is_some_and(|it| it < *needed));
        fixes.extend(
            more.map(|needed| format!("that is less than twice what closes in 60 s; if it fills too: {}", set(needed))),
        );
        fixes.push("then make fewer short connections: keep-alive, connection pools".into());
        fixes
    }
}

/// `None`: nothing to say.
fn severity(table: &Table<'_>) -> Result<Option<Severity>, Missing> {
    Ok(Some(match (table.overflowed, table.small, table.max) {
        (Some(1..), _, _) if table.is_over() => Severity::Warning,
        (Some(1..), _, _) => Severity::Critical,
        (_, Some(small), Some(max)) if small >= at_least(NEAR_SHARE, max) => Severity::Warning,
        (_, Some(small), Some(max)) if small >= at_least(HALF_SHARE, max) => match table.entered_per_second {
            Some(rate) if overflows_buckets(rate, max) => Severity::Warning,
            Some(_) | None => Severity::Info,
        },
        (Some(0), Some(_), Some(_)) => return Ok(None),
        (None, _, _) => return None.or_missing("TCPTimeWaitOverflow was not watched"),
        (Some(0), None, _) => return None.or_missing("TIME_WAIT sockets were not counted"),
        (Some(0), Some(_), None) => return None.or_missing("tcp_max_tw_buckets could not be read"),
    }))
}

/// TW-005: a bucket table overflows (critical), did so and has room again, is nearly full or will be at this rate (warning), or is
/// half full (info).
pub fn overflow(e: &Evidence) -> Verdict {
    let mut worst: Option<(Severity, Table<'_>)> = None;
    let mut missing = None;
    for table in tables(e) {
        match severity(&table) {
            Ok(Some(severity)) if worst.is_none_or(|(worst, _)| severity > worst) => worst = Some((severity, table)),
            Ok(Some(_) | None) => {}
            Err(why) => missing = Some(why),
        }
    }
    let (severity, table) = match (worst, missing) {
        (Some(worst), _) => worst,
        (None, Some(why)) => return Err(why),
        (None, None) => return Ok(None),
    };
    let Table { namespace, own, overflowed, small, max, default, entered_per_second } = table;
    let elsewhere = namespace.filter(|_| !own);
    let mut measured = vec![];
    let mut add = |name, value: Option<u64>, unit, source| {
        measured.extend(value.map(|value| Measured { name, value: value.into(), unit, source }));
    };
    add("TIME_WAIT sockets destroyed at once", overflowed, "sockets", "TCPTimeWaitOverflow over the window");
    add("TIME_WAIT and small FIN_WAIT2 sockets", small, "sockets", "census of the kernel's socket tables");
    add("tcp_max_tw_buckets", max, "sockets", "sysctl");
    add("its default on this host", default, "sockets", "tcp_ehash_entries / 2");
    measured.extend(entered_per_second.map(|rate| Measured {
        name: "connections that entered TIME_WAIT",
        value: rate.into(),
        unit: "1/s",
        source: "tracked transitions",
    }));
    let cut_short = count(overflowed.unwrap_or(0), "TIME_WAIT socket");
    Ok(Some(Finding {
        id: "TW-005",
        severity,
        title: match (severity, small, max) {
            (Severity::Critical, _, _) => {
                format!("TIME_WAIT table full: the kernel dropped {cut_short} before their time")
            }
            (_, Some(small), Some(max)) if table.is_over() => {
                format!("TIME_WAIT table was full: {cut_short} dropped; now {} full", percent(share(small, max)))
            }
            (Severity::Warning | Severity::Info, Some(_), Some(0)) => "TIME_WAIT table without a place: its limit is 0".into(),
            (Severity::Warning | Severity::Info, Some(small), Some(max)) => {
                format!("TIME_WAIT table {} full: {} of {}", percent(share(small, max)), thousands(small), thousands(max))
            }
            (Severity::Warning | Severity::Info, _, _) => "the TIME_WAIT table is filling up".into(),
        },
        whose: {
            let place = namespace
                .map_or_else(|| "this network namespace".into(), |it| format!("network namespace {}", printable(&it.name)));
            // Makers are not told apart by namespace.
            let alone = e.by_namespace.as_ref().is_none_or(|namespaces| namespaces.len() == 1);
            let mut lines = if alone { makers(e, Role::ALL.as_slice()) } else { vec![] };
            lines.push(if table.is_lowered() {
                format!("all units of {place}; somebody set the limit below the kernel's default")
            } else {
                format!("all units of {place} share the limit")
            });
            lines
        },
        why: "Above tcp_max_tw_buckets the kernel ends a closed connection at once instead of letting it wait 60 s, and logs \
              it at most once: a late packet can then disturb a new connection on the same ports."
            .into(),
        measured,
        threshold: Threshold {
            value: max.map_or(0, |max| at_least(HALF_SHARE, max)).into(),
            unit: "sockets",
            formula: format!(
                "info at {} of tcp_max_tw_buckets, warning at {} or when entries per second x 60 exceed it, critical at the \
                 first overflow until less than {} are taken",
                percent(HALF_SHARE),
                percent(NEAR_SHARE),
                percent(HALF_SHARE)
            ),
        },
        fixes: table.fixes(),
        not_helpful: vec![
            "lowering tcp_max_tw_buckets: that is the fault itself".into(),
            "tcp_fin_timeout: does not shorten TIME_WAIT".into(),
        ],
        verify: Verify {
            promql: "rate(synfin_time_wait_overflows_total[5m]) > 0 or sum without (role, endpoint, unit) \
                     (synfin_time_wait_sockets) / synfin_time_wait_limit_sockets > 0.5"
                .into(),
            ss: format!(
                "{}; {}",
                inside(elsewhere, "nstat -az TcpExtTCPTimeWaitOverflow"),
                inside(elsewhere, "ss -Htan state time-wait | wc -l")
            ),
        },
    }))
}

#[cfg(test)]
#[path = "buckets_tests.rs"]
mod tests;
