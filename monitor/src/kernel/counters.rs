//! The totals that the kernel side keeps, summed over its CPUs.

use aya::maps::{MapData, MapError, PerCpuArray};
use synfin_ebpf::abi::Counters;
use synfin_ebpf::abi::counters::writer;

/// Reads the per-CPU totals: one system call a reading and writer.
pub struct CounterReader(PerCpuArray<MapData, Counters>);

impl CounterReader {
    pub(super) fn new(map: PerCpuArray<MapData, Counters>) -> Self {
        Self(map)
    }

    /// The sum over all CPUs as of now. Counters of different CPUs are read one after the other, not at one instant.
    pub fn read(&self) -> Result<Counters, MapError> {
        let mut sum = Counters::ZERO;
        for writer in 0..writer::COUNT {
            for cpu in self.0.get(&writer, 0)?.iter() {
                add(&mut sum, cpu);
            }
        }
        Ok(sum)
    }
}

fn add(sum: &mut Counters, cpu: &Counters) {
    let Counters { transitions, records, ring_full, other_protocol, other_netns, odd_state, wakeups } = cpu;
    for (sum, value) in sum.transitions.iter_mut().zip(transitions) {
        *sum += value;
    }
    sum.records += records;
    sum.ring_full += ring_full;
    sum.other_protocol += other_protocol;
    sum.other_netns += other_netns;
    sum.odd_state += odd_state;
    sum.wakeups += wakeups;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_summed() {
        let mut one = Counters { records: 1, ring_full: 2, other_protocol: 3, ..Counters::ZERO };
        (one.other_netns, one.odd_state, one.wakeups, one.transitions[18]) = (4, 5, 6, 7);
        let mut sum = one;
        add(&mut sum, &one);
        let mut twice = Counters { records: 2, ring_full: 4, other_protocol: 6, ..Counters::ZERO };
        (twice.other_netns, twice.odd_state, twice.wakeups, twice.transitions[18]) = (8, 10, 12, 14);
        assert_eq!(sum, twice);
    }
}
