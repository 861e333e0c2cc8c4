//! What the kernel side counted before it tried the ring, summed over all CPUs.

use synfin_ebpf::abi::Counters;
use synfin_ebpf::abi::counters::ROW;

use super::PerState;
use crate::event::TcpState;

/// By `from.index()`, then `to.index()`.
pub type Transitions = PerState<PerState<u64>>;

/// The kernel's own totals: exact whatever happens to the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    pub transitions: Transitions,
    /// Records submitted to the ring.
    pub records: u64,
    pub ring_full: u64,
    pub other_protocol: u64,
    pub other_netns: u64,
    /// State numbers outside the table; in no transition.
    pub odd_state: u64,
    /// Wake-ups of the reader.
    pub wakeups: u64,
}

impl KernelCounters {
    /// Adds up one copy a CPU.
    pub fn sum<'a>(cpus: impl IntoIterator<Item = &'a Counters>) -> Self {
        let mut sum = Self::default();
        for cpu in cpus {
            for from in TcpState::ALL {
                for to in TcpState::ALL {
                    sum.transitions[from.index()][to.index()] += cpu.transitions[from as usize * ROW + to as usize];
                }
            }
            sum.records += cpu.records;
            sum.ring_full += cpu.ring_full;
            sum.other_protocol += cpu.other_protocol;
            sum.other_netns += cpu.other_netns;
            sum.odd_state += cpu.odd_state;
            sum.wakeups += cpu.wakeups;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_add_up() {
        let mut cpu = Counters { records: 3, ring_full: 1, wakeups: 2, ..Counters::ZERO };
        cpu.transitions[TcpState::Close as usize * ROW + TcpState::SynSent as usize] = 5;
        let mut expected = KernelCounters { records: 6, ring_full: 2, wakeups: 4, ..KernelCounters::default() };
        expected.transitions[TcpState::Close.index()][TcpState::SynSent.index()] = 10;
        assert_eq!(KernelCounters::sum([&cpu, &cpu]), expected);
    }
}
