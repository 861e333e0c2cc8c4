//! The pages of the CPUs ([`CpuPage`]): totals, and how far each lane is written and taken.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use synfin_ebpf::abi::counters::writer;
use synfin_ebpf::abi::cpu::{Lane, Taken};
use synfin_ebpf::abi::{Counters, CpuPage};

use super::mapping::Mapping;

/// The mapped array of [`CpuPage`]s.
#[derive(Debug)]
pub(super) struct Cpus {
    mapping: Mapping,
    count: usize,
}

impl Cpus {
    /// Maps the array, of `count` entries.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        Ok(Self { mapping: Mapping::new(array, count * size_of::<CpuPage>(), true)?, count })
    }

    /// Up to where lane number `lane` (as in [`synfin_ebpf::abi::cpu::first_page`]) is written; what is before can be read.
    pub(super) fn position(&self, lane: usize) -> u64 {
        let within =
            offset_of!(CpuPage, lanes) + (lane % writer::COUNT) * size_of::<Lane>() + offset_of!(Lane, position);
        self.mapping.word(self.page(lane) + within).load(Ordering::Acquire)
    }

    /// Tells the writer of a lane that everything before `position` may be overwritten.
    pub(super) fn set_taken(&self, lane: usize, position: u64) {
        let within = offset_of!(CpuPage, taken) + offset_of!(Taken, 0) + (lane % writer::COUNT) * 8;
        self.mapping.word(self.page(lane) + within).store(position, Ordering::Release);
    }

    fn page(&self, lane: usize) -> usize {
        lane / writer::COUNT * size_of::<CpuPage>()
    }

    /// The sum over all CPUs as of now. Words are read one after the other, not at one instant.
    pub(super) fn counters(&self) -> Counters {
        let mut sum = Counters::ZERO;
        for cpu in 0..self.count {
            for writer in 0..writer::COUNT {
                let start = cpu * size_of::<CpuPage>() + offset_of!(CpuPage, writers) + writer * size_of::<Counters>();
                self.add(start, &mut sum);
            }
        }
        sum
    }

    fn add(&self, start: usize, sum: &mut Counters) {
        let word = |offset: usize| self.mapping.word(start + offset).load(Ordering::Relaxed);
        let Counters { records, ring_full, other_protocol, other_netns, odd_state, wakeups, runs, transitions } = sum;
        // The runs first: a program counts its run before what became of it.
        *runs += word(offset_of!(Counters, runs));
        *records += word(offset_of!(Counters, records));
        *ring_full += word(offset_of!(Counters, ring_full));
        *other_protocol += word(offset_of!(Counters, other_protocol));
        *other_netns += word(offset_of!(Counters, other_netns));
        *odd_state += word(offset_of!(Counters, odd_state));
        *wakeups += word(offset_of!(Counters, wakeups));
        for (place, sum) in transitions.iter_mut().enumerate() {
            *sum += word(offset_of!(Counters, transitions) + place * 8);
        }
    }
}

/// The number of the highest CPU of a list such as `0-3,8`, plus one; `None` when it is none.
pub(super) fn count_of(list: &str) -> Option<u32> {
    let highest = list.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?;
    highest.checked_add(1)
}

/// Entries that an array by CPU number needs for the CPUs in `which` of /sys: `possible` or `online`.
///
/// # Errors
/// Those of reading the list; one of unexpected form.
pub(super) fn number_of(which: &str) -> io::Result<u32> {
    let list = std::fs::read_to_string(format!("/sys/devices/system/cpu/{which}"))?;
    count_of(&list).ok_or_else(|| io::Error::other(format!("`{}` is no list of CPUs", list.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_by_the_highest() {
        let check = |list, count| assert_eq!(count_of(list), count, "{list:?}");
        check("0\n", Some(1));
        check("0-1\n", Some(2));
        check("0-3,8-11\n", Some(12));
        check("0,64", Some(65));
        check("", None);
        check("0-x", None);
    }
}
