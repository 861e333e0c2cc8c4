//! What the daemon remembers of its counters, so that a diagnosis sees change and not only a moment. Pure and bounded.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::Moment;
use crate::event::KernelTime;

/// Between two moments.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// For so long every moment is kept; from then on one a minute.
const FINE: Duration = Duration::from_mins(5);
const COARSE_INTERVAL: Duration = Duration::from_mins(1);
/// Nothing older is kept.
const LONGEST: Duration = Duration::from_mins(30);

/// Moments, oldest first: some 55 of them after half an hour.
#[derive(Debug, Default)]
pub struct History {
    moments: VecDeque<Moment>,
}

impl History {
    /// Whether the next moment is to be taken at `now`.
    pub fn is_due(&self, now: KernelTime) -> bool {
        self.moments.back().is_none_or(|last| age(last, now) >= INTERVAL)
    }

    /// Adds a moment later than all before it, and forgets what is old.
    pub fn push(&mut self, moment: Moment) {
        let now = moment.at;
        self.moments.push_back(moment);
        while self.moments.get(1).is_some_and(|second| age(second, now) >= LONGEST) {
            self.moments.pop_front();
        }
        // The youngest of those that are no longer recent: all before it have been thinned out.
        let coarse = self.moments.partition_point(|moment| age(moment, now) > FINE);
        if coarse >= 3
            && self.moments[coarse - 2].at.since(self.moments[coarse - 3].at) < Some(nanoseconds(COARSE_INTERVAL))
        {
            self.moments.remove(coarse - 2);
        }
    }

    /// The moment to compare with: the newest that is at least `window` old, else the oldest.
    pub fn base(&self, now: KernelTime, window: Duration) -> Option<&Moment> {
        let after = self.moments.partition_point(|moment| age(moment, now) >= window);
        self.moments.get(after.saturating_sub(1))
    }

    pub fn oldest(&self) -> Option<&Moment> {
        self.moments.front()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn age(moment: &Moment, now: KernelTime) -> Duration {
    Duration::from_nanos(now.since(moment.at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointDetail;
    use crate::core::{Core, CoreOptions};

    fn at(seconds: u64) -> KernelTime {
        KernelTime(seconds * 1_000_000_000)
    }

    fn moment(seconds: u64) -> Moment {
        let endpoints = EndpointDetail::Full;
        let options = CoreOptions {
            max_connections: 1,
            units: 1,
            top: 1,
            endpoints,
            owners: 1,
            synack_probe: false,
            namespaces: None,
        };
        Core::new(&options).moment(at(seconds))
    }

    /// A moment every ten seconds from 0 to `seconds`.
    fn history(seconds: u64) -> History {
        let mut history = History::default();
        (0..=seconds / 10).for_each(|n| history.push(moment(10 * n)));
        history
    }

    #[test]
    fn one_is_due_at_once_and_then_at_an_interval() {
        assert!(History::default().is_due(at(0)));
        assert!(!history(20).is_due(at(29)));
        assert!(history(20).is_due(at(30)));
    }

    #[test]
    fn a_window_begins_at_the_newest_moment_that_is_old_enough() {
        let history = history(40);
        let check = |window, base| {
            let found = history.base(at(45), Duration::from_secs(window)).map(|moment| moment.at);
            assert_eq!(found, Some(at(base)), "{window} s");
        };
        check(1, 40);
        check(5, 40);
        check(6, 30);
        check(40, 0);
        check(3600, 0);
        assert!(History::default().base(at(45), Duration::from_secs(1)).is_none());
    }

    #[test]
    fn the_last_minutes_are_fine_and_half_an_hour_is_kept() {
        let history = history(7200);
        let ages: Vec<u64> = history.moments.iter().map(|moment| 7200 - moment.at.0 / 1_000_000_000).collect();
        assert!((1800..1900).contains(&ages[0]), "{ages:?}");
        assert!(ages.len() < 70, "{} moments", ages.len());
        for pair in ages.windows(2) {
            let most = if pair[0] <= 300 { 10 } else { 70 };
            assert!(pair[0] - pair[1] <= most, "{ages:?}");
        }
        assert_eq!(ages.iter().filter(|age| **age <= 300).count(), 31);
    }
}
