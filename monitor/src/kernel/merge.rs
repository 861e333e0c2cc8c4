//! The lanes ([`synfin_ebpf::abi::cpu`]) merged by time into one stream.
//!
//! The order of one socket's records is exact. The kernel holds the socket's lock while the program runs, so a later record
//! of the same socket takes its time after an earlier one is written. A round takes the time first and then hands out
//! only records that are not younger: whatever it finds of a socket, the earlier ones were there to be found.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use synfin_ebpf::abi::cpu::{PAGE, UNIT};
use synfin_ebpf::abi::record::{End, Open, Start, Step, SynackRetransmit, kind};

use super::cpus::Cpus;
use super::mapping::Mapping;
use crate::event::KernelTime;

/// Reads all lanes.
pub(super) struct Merge {
    cpus: Arc<Cpus>,
    pages: Mapping,
    lanes: Vec<Lane>,
    bytes: usize,
    /// By the time of the oldest record; the number of the lane.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

/// How far one lane is read.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    taken: u64,
    /// What the writer was told last.
    told: u64,
    /// Up to where it was written at the start of the round.
    written: u64,
}

impl Merge {
    /// Maps `count` lanes of `bytes` each.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(cpus: Arc<Cpus>, array: BorrowedFd<'_>, count: usize, bytes: usize) -> io::Result<Self> {
        let pages = Mapping::new(array, count * bytes, false)?;
        Ok(Self { cpus, pages, lanes: vec![Lane::default(); count], bytes, heads: BinaryHeap::new() })
    }

    /// Hands at most `limit` records that are not younger than `until`, oldest first, to `handle`; gives how many.
    pub(super) fn drain(&mut self, limit: usize, until: KernelTime, mut handle: impl FnMut(&[u8])) -> usize {
        self.begin(until);
        let Self { cpus, pages, lanes, bytes, heads } = self;
        let mut taken = 0;
        while taken < limit {
            let Some(mut head) = heads.peek_mut() else { break };
            let Reverse((_, number)) = *head;
            let lane = &mut lanes[number];
            let record = lane.record(number, pages, *bytes);
            handle(record);
            taken += 1;
            lane.taken += record.len().next_multiple_of(UNIT) as u64;
            if lane.taken - lane.told >= PAGE as u64 {
                lane.tell(number, cpus);
            }
            match lane.next_time(number, pages, *bytes) {
                Some(time) if time <= until.0 => *head = Reverse((time, number)),
                _ => {
                    PeekMut::pop(head);
                    lane.tell(number, cpus);
                }
            }
        }
        taken
    }

    /// Notes what there is in each lane.
    fn begin(&mut self, until: KernelTime) {
        self.heads.clear();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.written = self.cpus.position(number);
            if let Some(time) = lane.next_time(number, &self.pages, self.bytes).filter(|&time| time <= until.0) {
                self.heads.push(Reverse((time, number)));
            }
        }
    }

    /// Bytes written and not yet taken.
    pub(super) fn pending_bytes(&self) -> usize {
        let pending = |(number, lane): (usize, &Lane)| self.cpus.position(number).saturating_sub(lane.taken) as usize;
        self.lanes.iter().enumerate().map(pending).sum()
    }

    /// Size of all lanes together, bytes.
    pub(super) fn size(&self) -> usize {
        self.lanes.len() * self.bytes
    }
}

impl Lane {
    /// The time of the next record, if one is written; skips what is empty before it.
    fn next_time(&mut self, number: usize, pages: &Mapping, bytes: usize) -> Option<u64> {
        while self.taken < self.written {
            let header = self.bytes_ahead(UNIT, number, pages, bytes);
            if header[KIND_AT] != kind::NONE {
                return header.first_chunk().copied().map(u64::from_ne_bytes);
            }
            self.taken = (self.taken / PAGE as u64 + 1) * PAGE as u64;
        }
        None
    }

    /// The next record, which [`Self::next_time`] has found.
    fn record<'a>(&self, number: usize, pages: &'a Mapping, bytes: usize) -> &'a [u8] {
        let kind = self.bytes_ahead(UNIT, number, pages, bytes)[KIND_AT];
        self.bytes_ahead(size_of_kind(kind), number, pages, bytes)
    }

    fn bytes_ahead<'a>(&self, length: usize, number: usize, pages: &'a Mapping, bytes: usize) -> &'a [u8] {
        let offset = (self.taken % bytes as u64) as usize;
        // A unit never crosses the end of the lane; a record of nonsense might, and is cut there.
        let length = length.min(bytes - offset);
        // SAFETY: before the written position, which was read before; the writer leaves it alone until it is told.
        unsafe { pages.bytes(number * bytes + offset, length) }
    }

    fn tell(&mut self, number: usize, cpus: &Cpus) {
        if self.told != self.taken {
            self.told = self.taken;
            cpus.set_taken(number, self.taken);
        }
    }
}

/// Place of `Header::kind`.
const KIND_AT: usize = std::mem::offset_of!(synfin_ebpf::abi::Header, kind);

/// Bytes of a record; of one of an unknown kind its header, which then says so.
fn size_of_kind(kind: u8) -> usize {
    match kind {
        kind::START => size_of::<Start>(),
        kind::OPEN => size_of::<Open>(),
        kind::END => size_of::<End>(),
        kind::SYNACK_RETRANSMIT => size_of::<SynackRetransmit>(),
        _ => size_of::<Step>(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    use std::sync::atomic::Ordering;

    use synfin_ebpf::abi::counters::writer;
    use synfin_ebpf::abi::{CpuPage, Header};
    use synfin_ebpf::decide;

    use super::*;

    const LANE: usize = 2 * PAGE;

    /// Two CPUs with lanes of two pages in plain memory, written as the kernel side writes them.
    struct Fixture {
        totals: Mapping,
        pages: Mapping,
        cpus: Arc<Cpus>,
        merge: Merge,
    }

    fn memory(bytes: usize) -> OwnedFd {
        // SAFETY: a name, and a descriptor that is ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"lanes".as_ptr(), libc::MFD_CLOEXEC)) };
        std::fs::File::from(fd.try_clone().unwrap()).set_len(bytes as u64).unwrap();
        fd
    }

    impl Fixture {
        fn new() -> Self {
            let (count, bytes) = (2 * writer::COUNT, 2 * size_of::<CpuPage>());
            let (totals, pages) = (memory(bytes), memory(count * LANE));
            let cpus = Arc::new(Cpus::map(totals.as_fd(), 2).unwrap());
            Self {
                merge: Merge::new(cpus.clone(), pages.as_fd(), count, LANE).unwrap(),
                totals: Mapping::new(totals.as_fd(), bytes, true).unwrap(),
                pages: Mapping::new(pages.as_fd(), count * LANE, true).unwrap(),
                cpus,
            }
        }

        fn write_header(&self, lane: usize, position: u64, time_ns: u64, kind: u8) {
            let at = lane * LANE + position as usize % LANE;
            let words = [time_ns, 0, 0, u64::from(kind) << (8 * (KIND_AT % 8))];
            for (place, word) in words.into_iter().enumerate() {
                self.pages.word(at + place * 8).store(word, Ordering::Relaxed);
            }
        }

        fn write(&self, lane: usize, time_ns: u64, kind: u8) {
            let position = self.cpus.position(lane);
            let length = size_of_kind(kind).next_multiple_of(UNIT);
            let start = decide::record_start(position, length);
            if start != position {
                self.write_header(lane, position, 0, kind::NONE);
            }
            self.write_header(lane, start, time_ns, kind);
            let cpu = lane / writer::COUNT * size_of::<CpuPage>();
            let within = std::mem::offset_of!(CpuPage, lanes) + lane % writer::COUNT * 16;
            self.totals.word(cpu + within).store(start + length as u64, Ordering::Release);
        }

        fn drain(&mut self, limit: usize, until: u64) -> Vec<(u64, usize)> {
            let mut seen = Vec::new();
            let taken = self.merge.drain(limit, KernelTime(until), |record| {
                seen.push((u64::from_ne_bytes(*record.first_chunk().unwrap()), record.len()));
            });
            assert_eq!(taken, seen.len());
            seen
        }
    }

    #[test]
    fn records_of_all_lanes_come_by_time_and_none_before_its() {
        let mut lanes = Fixture::new();
        for (lane, time, kind) in [(0, 10, kind::STEP), (0, 40, kind::END), (4, 20, kind::START), (5, 30, kind::OPEN)] {
            lanes.write(lane, time, kind);
        }
        assert_eq!(lanes.merge.pending_bytes(), 32 + 3 * 96);
        assert_eq!(lanes.drain(9, 30), [(10, 32), (20, size_of::<Start>()), (30, size_of::<Open>())]);
        assert_eq!(lanes.drain(9, 39), []);
        assert_eq!(lanes.drain(9, 40), [(40, size_of::<End>())]);
        assert_eq!(lanes.merge.pending_bytes(), 0);
    }

    #[test]
    fn a_limit_leaves_the_rest_for_the_next_round() {
        let mut lanes = Fixture::new();
        (1..=5).for_each(|time| lanes.write(1, time, kind::STEP));
        assert_eq!(lanes.drain(2, 9), [(1, 32), (2, 32)]);
        assert_eq!(lanes.drain(9, 9), [(3, 32), (4, 32), (5, 32)]);
    }

    #[test]
    fn lanes_go_round_for_ever_and_the_writer_is_told() {
        let mut lanes = Fixture::new();
        let kinds = [kind::END, kind::STEP, kind::OPEN, kind::END, kind::START];
        for time in 1..=1000 {
            let kind = kinds[time as usize % kinds.len()];
            lanes.write(3, time, kind);
            assert_eq!(lanes.drain(9, time), [(time, size_of_kind(kind))], "{time}");
        }
        let position = lanes.cpus.position(3);
        assert!(position > 10 * LANE as u64, "{position}");
        let taken = std::mem::offset_of!(CpuPage, taken);
        assert_eq!(lanes.totals.word(size_of::<CpuPage>() + taken).load(Ordering::Relaxed), position);
        assert!(size_of::<Header>() == UNIT);
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_handed_on_as_its_header() {
        let mut lanes = Fixture::new();
        lanes.write(0, 7, 99);
        assert_eq!(lanes.drain(9, 9), [(7, size_of::<Header>())]);
    }
}
