//! The totals that the kernel side keeps, summed over its CPUs.

use aya::maps::{MapData, MapError, PerCpuArray};
use synfin_ebpf::abi::Counters;

/// Reads the per-CPU totals: one system call a reading.
pub struct CounterReader(PerCpuArray<MapData, Counters>);

impl CounterReader {
    pub(super) fn new(map: PerCpuArray<MapData, Counters>) -> Self {
        Self(map)
    }

    /// The sum over all CPUs as of now. Counters of different CPUs are read one after the other, not at one instant.
    pub fn read(&self) -> Result<Counters, MapError> {
        let mut sum = Counters::ZERO;
        for cpu in self.0.get(&0, 0)?.iter() {
            add(&mut sum, cpu);
        }
        Ok(sum)
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

fn add(sum: &mut Counters, cpu: &Counters) {
    let Counters { transitions, records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs, running: _ } =
        cpu;
    for (sum, value) in sum.transitions.iter_mut().zip(transitions) {
        *sum += value;
    }
    sum.records += records;
    sum.ring_full += ring_full;
    sum.other_protocol += other_protocol;
    sum.other_netns += other_netns;
    sum.odd_state += odd_state;
    sum.wakeups += wakeups;
    sum.runs += runs;
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

    #[test]
    fn every_counter_is_summed() {
        let mut one = Counters { records: 1, ring_full: 2, other_protocol: 3, ..Counters::ZERO };
        (one.other_netns, one.odd_state, one.wakeups, one.transitions[18], one.runs) = (4, 5, 6, 7, 8);
        let mut sum = one;
        add(&mut sum, &one);
        let mut twice = Counters { records: 2, ring_full: 4, other_protocol: 6, ..Counters::ZERO };
        (twice.other_netns, twice.odd_state, twice.wakeups, twice.transitions[18], twice.runs) = (8, 10, 12, 14, 16);
        assert_eq!(sum, twice);
    }
}
