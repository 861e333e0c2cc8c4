//! Everything measured at one moment, the little of it that is kept as a sample, and the comparison of two.

use std::net::IpAddr;

use crate::aggregate::{Histogram, PerRole, Snapshot};
use crate::diagnose::{Counters, Evidence, HandshakeTail, Level, Trend};
use crate::event::Endpoint;
use crate::lifecycle::{Close, Role};

/// One look: levels in the evidence, totals beside it.
#[derive(Clone, Debug)]
pub struct Moment {
    /// On a clock that only goes forward.
    pub at_seconds: f64,
    /// All that needs no comparison.
    pub now: Evidence,
    pub totals: Totals,
}

/// Counters since they began, of which only differences matter.
#[derive(Clone, Debug)]
pub struct Totals {
    pub counters: Counters,
    pub closes: [u64; Close::COUNT],
    pub handshake: PerRole<Histogram>,
    /// State changes outside the watched namespace.
    pub elsewhere: u64,
}

impl Totals {
    /// `counters` are the kernel's own, as they stand.
    pub fn of(snapshot: &Snapshot, counters: Counters) -> Self {
        let closes = Close::ALL.map(|close| snapshot.closed.iter().map(|closed| closed[close.index()]).sum());
        Self { counters, closes, handshake: snapshot.handshake.clone(), elsewhere: snapshot.other_netns_transitions }
    }
}

/// What is kept of a moment: about 2 KB.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at_seconds: f64,
    totals: Totals,
    fin_wait2: Option<u64>,
    orphans: Option<u64>,
    close_wait: Option<Vec<(String, u64)>>,
    tuples: Option<Vec<(IpAddr, Endpoint, u64)>>,
}

impl Sample {
    pub fn of(moment: &Moment) -> Self {
        let now = &moment.now;
        Self {
            at_seconds: moment.at_seconds,
            totals: moment.totals.clone(),
            fin_wait2: now.fin_wait2.map(|level| level.now),
            orphans: now.orphans.map(|level| level.now),
            close_wait: now
                .close_wait
                .as_ref()
                .map(|units| units.iter().map(|unit| (unit.unit.clone(), unit.sockets)).collect()),
            tuples: now
                .tuples
                .as_ref()
                .map(|tuples| tuples.iter().map(|tuple| (tuple.source, tuple.destination, tuple.used)).collect()),
        }
    }
}

impl Moment {
    /// The evidence with its deltas since `base`. CLOSE_WAIT is compared with `oldest`: leaks are slow.
    pub fn compared_with(self, base: &Sample, oldest: &Sample) -> Evidence {
        let Self { at_seconds, now: mut evidence, totals } = self;
        let window = at_seconds - base.at_seconds;
        let trend =
            |from: &Sample, before: u64, after: u64| Trend::of(&[(from.at_seconds, before), (at_seconds, after)]);
        let level = |level: &mut Option<Level>, before: Option<u64>| {
            if let (Some(level), Some(before)) = (level, before) {
                level.trend = trend(base, before, level.now);
            }
        };
        evidence.window_seconds = (window > 0.0).then_some(window);
        level(&mut evidence.fin_wait2, base.fin_wait2);
        level(&mut evidence.orphans, base.orphans);
        // Who is not in the older list had none, or fewer than all that are in it.
        if let Some(before) = &oldest.close_wait {
            for unit in evidence.close_wait.iter_mut().flatten() {
                let sockets = before.iter().find(|(name, _)| *name == unit.unit).map_or(0, |(_, sockets)| *sockets);
                unit.trend = trend(oldest, sockets, unit.sockets);
            }
        }
        if let Some(before) = &base.tuples {
            for tuple in evidence.tuples.iter_mut().flatten() {
                let same =
                    |(source, to, _): &&(IpAddr, Endpoint, u64)| (*source, *to) == (tuple.source, tuple.destination);
                let used = before.iter().find(same).map_or(0, |(_, _, used)| *used);
                tuple.trend = trend(base, used, tuple.used);
            }
        }
        evidence.counters = difference(&base.totals.counters, &totals.counters);
        let closes =
            Close::ALL.map(|close| totals.closes[close.index()].checked_sub(base.totals.closes[close.index()]));
        evidence.closes = closes.iter().all(Option::is_some).then(|| closes.map(Option::unwrap_or_default));
        evidence.handshakes = [Role::Client, Role::Server]
            .into_iter()
            .map(|role| {
                HandshakeTail::since(role, &base.totals.handshake[role.index()], &totals.handshake[role.index()])
            })
            .collect();
        if let Some(namespaces) = &mut evidence.namespaces {
            namespaces.elsewhere_transitions = totals.elsewhere.checked_sub(base.totals.elsewhere);
        }
        evidence
    }
}

/// `None` where either was not measured.
fn difference(before: &Counters, after: &Counters) -> Counters {
    let less = |after: Option<u64>, before: Option<u64>| after?.checked_sub(before?);
    Counters {
        time_wait_overflow: less(after.time_wait_overflow, before.time_wait_overflow),
        tw_recycled: less(after.tw_recycled, before.tw_recycled),
        listen_overflows: less(after.listen_overflows, before.listen_overflows),
        listen_drops: less(after.listen_drops, before.listen_drops),
        abort_on_close: less(after.abort_on_close, before.abort_on_close),
        abort_on_data: less(after.abort_on_data, before.abort_on_data),
    }
}
