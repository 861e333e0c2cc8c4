//! What the daemon remembers of itself, so that a diagnosis sees change and not only a moment: samples at an interval, for a
//! while, and between them the connects that failed. Pure: time is an argument, every part is bounded.

mod connects;
mod moment;

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::Observer;
use crate::diagnose::Evidence;
use crate::event::{CgroupId, Endpoint};
use crate::lifecycle::Outcome;

pub use connects::Connects;
pub use moment::{Moment, Sample, Totals};

/// Between two samples.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Half an hour of samples.
pub const SAMPLES: usize = 180;

/// Samples, oldest first, and the connects since each.
#[derive(Debug)]
pub struct History {
    /// Each with the connects that ended between the sample before it and itself.
    samples: VecDeque<(Sample, Connects)>,
    limit: usize,
    /// Since the last sample.
    current: Connects,
}

impl History {
    /// Remembers at most `limit` samples.
    pub fn new(limit: usize) -> Self {
        Self { samples: VecDeque::new(), limit: limit.max(1), current: Connects::default() }
    }

    /// Seconds of the newest sample, on the clock of the moments.
    pub fn sampled_at(&self) -> Option<f64> {
        self.samples.back().map(|(sample, _)| sample.at_seconds)
    }

    pub fn push(&mut self, moment: &Moment) {
        if self.samples.len() == self.limit {
            self.samples.pop_front();
        }
        self.samples.push_back((Sample::of(moment), std::mem::take(&mut self.current)));
    }

    /// Index of the sample to compare with: the newest that is at least `window` old, else the oldest.
    fn base(&self, now_seconds: f64, window: Duration) -> Option<usize> {
        let from = now_seconds - window.as_secs_f64();
        let young = self.samples.partition_point(|(sample, _)| sample.at_seconds <= from);
        (!self.samples.is_empty()).then(|| young.saturating_sub(1))
    }

    /// What `moment` shows and how it came about over the last `window`, or since the first sample if that is shorter.
    /// `None` before there is a sample. `open_to` counts the connections that are open towards destinations, `name_unit`
    /// gives the unit of a cgroup.
    pub fn evidence(
        &self,
        window: Duration,
        moment: Moment,
        open_to: impl FnOnce(&[Endpoint]) -> Vec<u64>,
        name_unit: impl FnMut(CgroupId) -> String,
    ) -> Option<Evidence> {
        let base = self.base(moment.at_seconds, window)?;
        let mut connects = Connects::default();
        for (_, ended) in self.samples.range(base + 1..) {
            connects.add(ended);
        }
        connects.add(&self.current);
        let (oldest, base) = (&self.samples.front()?.0, &self.samples.get(base)?.0);
        let mut evidence = moment.compared_with(base, oldest);
        connects.fill(&mut evidence, open_to, name_unit);
        Some(evidence)
    }
}

impl Observer for History {
    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Finished(end) => self.current.finished(end),
            Outcome::Failed(end) => self.current.failed(end),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
