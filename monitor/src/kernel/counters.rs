//! The totals that the kernel side keeps, summed over its CPUs.

use std::sync::Arc;

use synfin_ebpf::abi::Counters;

use super::cpus::Cpus;

/// Reads the totals out of mapped memory: no system call.
pub struct CounterReader(Arc<Cpus>);

impl CounterReader {
    pub(super) fn new(cpus: Arc<Cpus>) -> Self {
        Self(cpus)
    }

    /// The sum over all CPUs as of now. Counters of different CPUs are read one after the other, not at one instant.
    pub fn read(&self) -> Counters {
        self.0.counters()
    }
}

/// Events that no program handled, by conservation: each firing of the tracepoint is a run of the first program or a run
/// of it that the kernel skipped, and each handled one is in exactly one counter.
///
/// Readings of several CPUs are not of one instant, and a program under way has counted its run and not yet its event: the
/// difference may be too large for a moment, so it counts only once two readings agree on it. It never goes back. The first
/// reading, right after attaching, is the zero: the programs are attached one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    zero: Option<i64>,
    last: i64,
    total: i64,
}

impl Missed {
    /// `skipped` must have been read before `counters`.
    pub fn update(&mut self, skipped: u64, counters: &Counters) -> u64 {
        let handled = counters.transitions.iter().sum::<u64>()
            + counters.other_protocol
            + counters.other_netns
            + counters.odd_state;
        let difference = (counters.runs + skipped) as i64 - handled as i64;
        let now = difference - *self.zero.get_or_insert(difference);
        self.total = self.total.max(now.min(self.last));
        self.last = now;
        u64::try_from(self.total).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_once_two_readings_agree() {
        let mut missed = Missed::default();
        let mut check = |skipped, runs, handled, expected| {
            let counters = Counters { runs, other_netns: handled, ..Counters::ZERO };
            assert_eq!(missed.update(skipped, &counters), expected, "{runs} runs, {handled} handled");
        };
        check(0, 10, 10, 0);
        check(0, 15, 12, 0);
        check(0, 16, 16, 0);
        check(0, 20, 20, 0);
        check(2, 20, 21, 0);
        check(2, 30, 31, 1);
        check(0, 30, 31, 1);
        check(5, 40, 40, 1);
        check(5, 41, 41, 5);
    }
}
