//! Where the ports towards one destination are heading, and whether connect() can take those in TIME_WAIT again.

use std::net::{IpAddr, Ipv6Addr};

use super::formulas::{seconds_to_exhaustion, steady_time_wait};
use super::{Evidence, TupleUse};
use crate::lifecycle::ConnectFailure;

/// Reuse works when at least one in so many of the connections opened meanwhile took over a port.
const REUSED_ONE_IN: u64 = 10;
/// Where connect() takes over ports, fewer than this share of the connections opened take a further one.
const GROWTH_SHARE: f64 = 0.5;

/// Where a tuple is heading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outlook {
    Unknown,
    NotGrowing,
    /// It grows now, but once expiries begin it stays at this many ports.
    Settles(u64),
    /// Seconds until the last port is taken.
    Exhausted(f64),
}

/// `ports`: P of the tuple.
pub fn outlook(tuple: &TupleUse, ports: u64) -> Outlook {
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

/// P where the tuple lives: each network namespace has its own range.
pub fn pool(tuple: &TupleUse, ports: u64) -> u64 {
    tuple.ports_available.unwrap_or(ports)
}

/// Whether `tcp_tw_reuse` is seen to work for this tuple: then its TIME_WAIT sockets take no port from anybody.
///
/// The counter is of all that is watched, so the tuple itself must bear it out: it grows by less than what is opened.
pub fn is_reused(e: &Evidence, tuple: &TupleUse) -> bool {
    let in_scope = match e.sysctls.tcp_tw_reuse {
        Some(1) => true,
        // Loopback only (net/ipv4/tcp_ipv4.c, tcp_twsk_unique).
        Some(2) => is_loopback(tuple.source) || is_loopback(Ipv6Addr::from(tuple.destination.addr).to_canonical()),
        Some(_) | None => false,
    };
    let recycled = e.counters.tw_recycled.unwrap_or(0);
    let opened = tuple.opened.unwrap_or(u64::MAX);
    let bears_out = match (tuple.trend, tuple.opens_per_second) {
        (Some(trend), Some(rate)) => trend.delta <= 0 || trend.per_second() < GROWTH_SHARE * rate,
        (None, _) | (_, None) => false,
    };
    let failed = (e.failures.iter().flatten()).any(|failed| {
        failed.reason == ConnectFailure::NoLocalPort
            && failed.destination == tuple.destination
            && failed.namespace == tuple.namespace
    });
    // The sysctls are those of the daemon's own namespace.
    let here = tuple.namespace.is_none();
    in_scope
        && here
        && e.sysctls.tcp_timestamps != Some(0)
        && recycled > 0
        && recycled >= opened / REUSED_ONE_IN
        && bears_out
        && !failed
}

pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{elsewhere, in_order, no_port, tuple};
    use super::*;
    use crate::diagnose::Trend;
    use crate::event::{Endpoint, mapped};

    #[test]
    fn exhaustion_is_told_from_a_level_that_settles() {
        let check = |name, used, time_wait, opens, growth: Option<i64>, expected| {
            let trend = growth.map(|delta| Trend { delta, seconds: 10.0 });
            let tuple = TupleUse { time_wait, opens_per_second: opens, trend, ..tuple(used) };
            assert_eq!(outlook(&tuple, 28_232), expected, "{name}");
        };
        check("no history", 12_000, 12_000, Some(600.0), None, Outlook::Unknown);
        check("level", 12_000, 12_000, Some(200.0), Some(0), Outlook::NotGrowing);
        check("falls", 12_000, 12_000, Some(200.0), Some(-5), Outlook::NotGrowing);
        check("600/s fill the range", 14_232, 14_232, Some(600.0), Some(6000), Outlook::Exhausted(14_000.0 / 600.0));
        check("300/s settle at 18,000", 12_000, 12_000, Some(300.0), Some(3000), Outlook::Settles(18_000));
        check("470/s settle just below P", 12_000, 12_000, Some(470.0), Some(4700), Outlook::Settles(28_200));
        check("471/s do not", 14_232, 14_232, Some(471.0), Some(4710), Outlook::Exhausted(14_000.0 / 471.0));
        check("connections that stay open do not settle", 14_232, 100, Some(300.0), Some(3000), {
            Outlook::Exhausted(14_000.0 / 300.0)
        });
        check("rate not known", 14_232, 14_232, None, Some(1000), Outlook::Exhausted(140.0));
    }

    #[test]
    fn reuse_must_be_seen_to_work_for_the_tuple() {
        let check = |name, change: fn(&mut Evidence, &mut TupleUse), expected| {
            let (mut evidence, mut tuple) = (in_order(), tuple(14_200));
            evidence.sysctls.tcp_tw_reuse = Some(1);
            evidence.counters.tw_recycled = Some(3000);
            (tuple.opened, tuple.opens_per_second) = (Some(20_000), Some(900.0));
            tuple.trend = Some(Trend { delta: 400, seconds: 5.0 });
            change(&mut evidence, &mut tuple);
            assert_eq!(is_reused(&evidence, &tuple), expected, "{name}");
        };
        let loopback = Endpoint { addr: mapped(std::net::Ipv4Addr::LOCALHOST), port: 80 };
        check("on, and ports are taken over", |_, _| {}, true);
        check("off", |e, _| e.sysctls.tcp_tw_reuse = Some(0), false);
        check("loopback only, and it is not", |e, _| e.sysctls.tcp_tw_reuse = Some(2), false);
        check("timestamps off", |e, _| e.sysctls.tcp_timestamps = Some(0), false);
        check("nothing taken over", |e, _| e.counters.tw_recycled = Some(0), false);
        check("too little taken over", |e, _| e.counters.tw_recycled = Some(1999), false);
        check("as many as are opened are new", |_, t| t.trend = Some(Trend { delta: 4500, seconds: 5.0 }), false);
        check("drains after the load", |_, t| t.trend = Some(Trend { delta: -9, seconds: 5.0 }), true);
        check("growth not known", |_, t| t.trend = None, false);
        check("another namespace's sysctl", |_, t| t.namespace = Some(elsewhere("blue", 7)), false);
        check("a connect failed", |e, _| e.failures = Some(vec![no_port(1)]), false);
        let there = |e: &mut Evidence, _: &mut TupleUse| {
            let namespace = Some(elsewhere("blue", 7));
            e.failures = Some(vec![super::super::FailedConnects { namespace, ..no_port(1) }]);
        };
        check("one in another namespace", there, true);
        assert!(is_reused(
            &Evidence {
                sysctls: super::super::Sysctls { tcp_tw_reuse: Some(2), ..in_order().sysctls },
                counters: super::super::Counters { tw_recycled: Some(9), ..in_order().counters },
                ..in_order()
            },
            &TupleUse { destination: loopback, opened: Some(90), ..tuple(14_200) }
        ));
    }
}
