//! Small sockets of TIME_WAIT made and ended, as the kernel side counted them by cause, summed over its CPUs.

use aya::maps::{MapData, MapError, PerCpuArray};
use synfin_ebpf::abi::{CpuEnds, Ends};

/// Reads the per-CPU counts: one system call a reading.
pub struct EndsReader(PerCpuArray<MapData, CpuEnds>);

impl EndsReader {
    pub(super) fn new(map: PerCpuArray<MapData, CpuEnds>) -> Self {
        Self(map)
    }

    /// The sum over all CPUs as of now. CPUs are read one after the other, not at one instant.
    pub fn read(&self) -> Result<Ends, MapError> {
        let mut sum = Ends::default();
        for cpu in self.0.get(&0, 0)?.iter() {
            add(&mut sum, &cpu.ends);
        }
        Ok(sum)
    }
}

fn add(sum: &mut Ends, cpu: &Ends) {
    let Ends { made, turned, refused, left } = cpu;
    let sums = sum.made.iter_mut().chain(sum.left.as_flattened_mut());
    for (sum, value) in sums.zip(made.iter().chain(left.as_flattened())) {
        *sum += value;
    }
    sum.turned += turned;
    sum.refused += refused;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_summed() {
        let mut one = Ends { made: [1, 2], turned: 3, refused: 4, ..Ends::default() };
        for (place, count) in one.left.as_flattened_mut().iter_mut().enumerate() {
            *count = 5 + place as u64;
        }
        let mut sum = one;
        add(&mut sum, &one);
        let mut twice = Ends { made: [2, 4], turned: 6, refused: 8, ..Ends::default() };
        for (place, count) in twice.left.as_flattened_mut().iter_mut().enumerate() {
            *count = 2 * (5 + place as u64);
        }
        assert_eq!(sum, twice);
    }
}
