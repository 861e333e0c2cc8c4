//! A walk over the socket tables, taken in: the tracker reconciled, populations audited, makers and ports counted anew.

use super::tally::{Addresses, Tally, seed};
use super::{Core, Observer, audit, view};
use crate::aggregate::{CensusStatus, KernelCounters};
use crate::census;
use crate::event::TcpState;
use crate::input::Walk;
use crate::lifecycle::Outcome;

impl Core {
    pub(super) fn handle_walk(&mut self, walk: &Walk<'_>, observer: &mut impl Observer) {
        let (records, rest) = walk.sockets.as_chunks::<{ census::RECORD }>();
        // Decoded again for each pass: a list of hundreds of thousands of decoded sockets would cost more than that.
        let places = (0u32..).zip(records);
        let tally = Tally::of(places.filter_map(|(place, record)| Some((place, census::decode_record(record)?))));
        let whole = || tally.whole.iter().filter_map(|&place| census::decode_record(records.get(place as usize)?));
        self.undecodable += records.len() as u64 - tally.sockets + u64::from(!rest.is_empty());

        let after = KernelCounters::sum([walk.counters]);
        let before = self.walk_began.take().unwrap_or_else(|| self.began(after));
        let exact = self.probe_missed == self.missed_at_last_walk;
        self.missed_at_last_walk = self.probe_missed;

        let (aggregates, closes, handled) = (&mut self.aggregates, &mut self.closes, &mut self.handled);
        let first = self.walks_done == 0;
        let mut follows_all = tally.has_addresses && !self.tracker.forgets_ends();
        if tally.has_addresses {
            self.tracker.reconcile(walk.began, whole().filter_map(|found| seed(&found)), &mut |outcome| {
                follows_all &= outcome != Outcome::TableFull;
                // What a full table refuses at a later walk was refused at the first or has been evicted: it is counted.
                if first || outcome != Outcome::TableFull {
                    aggregates.apply(&outcome);
                }
                closes.apply(&outcome);
                // A listener's child, whose birth is counted and has no record: its next one will find it known.
                if let Outcome::Moved { from: None, to: Some(TcpState::SynRecv), .. } = outcome {
                    handled.count(TcpState::Listen, TcpState::SynRecv);
                }
                observer.outcome(&outcome);
            });
            self.handled.compare(&self.totals.transitions, self.lost_records());
        } else {
            // A socket older than the daemon could not be told from its own events, and would be two.
            self.tracker.abandon_walk();
        }
        follows_all &= self.aggregates.table_full == before.table_full;
        self.follows_since = follows_all.then(|| self.unfollowed());
        let tracked = follows_all.then(|| self.tracked());
        let moved = (&before.totals.transitions, &after.transitions);
        let audit = self.populations.audit(&tally.full, moved.0, moved.1, exact, tracked.as_ref());
        // Others may have been read since.
        if self.totals.records < after.records {
            self.totals = after;
        }
        match &self.namespaces {
            None => self.handle_host(walk.host),
            Some(namespaces) => self.host = namespaces.sum_up(walk.host),
        }
        let recycled = self.host.tw_recycled.zip(before.recycled).map_or(0, |(now, before)| now.saturating_sub(before));
        self.age(walk.ended);
        let told = self.small_now();
        if let Some(namespaces) = &mut self.namespaces {
            namespaces.take_census(tally.small_by_netns);
        }
        // A socket that the full table let go of still has its end told.
        let lost = self.lost().untold();
        let newly_lost = lost.saturating_sub(std::mem::replace(&mut self.lost_at_last_walk, lost));
        let besides =
            view::Told { recycled: self.host.tw_recycled, lost: newly_lost, fin_timeout: self.host.tcp_fin_timeout };
        let addresses = (!tally.has_addresses).then(|| Addresses::of(&self.tracker));
        let found = records.iter().filter_map(census::decode_record);
        let found = found.map(|found| addresses.as_ref().map_or(found, |addresses| addresses.name(found)));
        self.view = view::take(walk, whole(), found, &self.tracker, &mut self.ledger, &self.ranges, besides);
        if let Some(usage) = &self.view.ports {
            self.growth.take_census(walk.ended, &usage.tuples, &self.contacts);
        }
        let mut drift = audit.drift;
        if !first {
            let moved = self.ledger.moved(walk, recycled);
            let (time_wait, fin_wait2) = audit::small_drift(told, tally.small, moved);
            drift[TcpState::TimeWait.index()] = time_wait;
            drift[TcpState::FinWait2.index()] += fin_wait2;
        }
        self.small = tally.small;
        self.requests = tally.requests;
        self.walks_done += 1;
        self.latest = self.latest.max(walk.ended);
        self.census = CensusStatus {
            at_unix_seconds: Some(walk.unix_seconds),
            duration_seconds: walk.ended.since(walk.began).map_or(0.0, |ns| ns as f64 / 1e9),
            success: true,
            drift,
            resyncs: self.census.resyncs + u64::from(audit.resynced),
            interval_seconds: 0.0,
            apply_seconds: 0.0,
        };
    }
}
