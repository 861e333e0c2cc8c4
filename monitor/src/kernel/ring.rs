//! The reader's side of the ring of events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use aya::maps::{MapData, RingBuf};

use super::mapping::Mapping;

/// How often a record under way is waited for.
const PATIENCE: u32 = 1000;

/// Takes records out of the ring buffer, oldest first.
pub(super) struct RingReader {
    ring: RingBuf<MapData>,
    /// The two position pages, mapped once more for reading: the consumer's position at the start of the first, the
    /// producer's at the start of the second (kernel/bpf/ringbuf.c).
    positions: Mapping,
    page: usize,
    size: usize,
}

impl RingReader {
    pub(super) fn new(ring: RingBuf<MapData>, size: usize) -> io::Result<Self> {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let positions = Mapping::new(ring.as_fd(), 2 * page, false)?;
        Ok(Self { ring, positions, page, size })
    }

    /// Hands at most `limit` records to `handle`; gives how many there were.
    pub(super) fn drain(&mut self, limit: usize, mut handle: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(record) = self.ring.next() else { break };
            handle(&record);
            taken += 1;
        }
        taken
    }

    /// Hands over all that is there at the moment; what comes meanwhile may stay.
    pub(super) fn drain_all(&mut self, mut handle: impl FnMut(&[u8])) {
        let end = self.written();
        let mut idle = 0;
        while self.taken() < end && idle < PATIENCE {
            if self.drain(usize::MAX, &mut handle) > 0 {
                idle = 0;
            } else {
                // The next record is reserved but not yet submitted: a matter of nanoseconds, unless its CPU was taken away.
                idle += 1;
                std::thread::yield_now();
            }
        }
    }

    /// Bytes written and not yet taken.
    pub(super) fn pending_bytes(&self) -> usize {
        let taken = self.taken();
        self.written().saturating_sub(taken)
    }

    /// Bytes taken since the ring was made.
    fn taken(&self) -> usize {
        self.positions.word(0).load(Ordering::Acquire) as usize
    }

    /// Bytes written since the ring was made, those reserved and not yet submitted included.
    fn written(&self) -> usize {
        self.positions.word(self.page).load(Ordering::Acquire) as usize
    }

    /// Size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl AsRawFd for RingReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_fd().as_raw_fd()
    }
}
