//! The reader's side of the ring of events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use aya::maps::{MapData, RingBuf};

/// Takes records out of the ring. The kernel side seldom wakes the reader, so it must also be polled by time.
pub struct RingReader {
    ring: RingBuf<MapData>,
    positions: Positions,
    size: usize,
}

impl RingReader {
    pub(super) fn new(ring: RingBuf<MapData>, size: usize) -> io::Result<Self> {
        let positions = Positions::map(ring.as_fd())?;
        Ok(Self { ring, positions, size })
    }

    /// Hands at most `limit` records, oldest first, to `handle`; gives how many there were.
    pub fn drain(&mut self, limit: usize, mut handle: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(record) = self.ring.next() else { break };
            handle(&record);
            taken += 1;
        }
        taken
    }

    /// Bytes written and not yet taken.
    pub fn pending_bytes(&self) -> usize {
        let taken = self.taken();
        self.written().saturating_sub(taken)
    }

    /// Bytes taken since the ring was made.
    pub fn taken(&self) -> usize {
        self.positions.position(0)
    }

    /// Bytes written since the ring was made, those reserved and not yet submitted included.
    pub fn written(&self) -> usize {
        self.positions.position(1)
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl AsRawFd for RingReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_fd().as_raw_fd()
    }
}

/// The two position pages of a BPF ring buffer, mapped once more for reading: the consumer's position at the start of the
/// first page, the producer's at the start of the second (kernel/bpf/ringbuf.c).
struct Positions {
    pages: NonNull<u8>,
    page_size: usize,
}

// SAFETY: the mapping is read-only, shared with the kernel, and only read by atomic loads.
unsafe impl Send for Positions {}

impl Positions {
    fn map(ring: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: asks for a number.
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: a fresh mapping of two pages of the ring at an address of the kernel's choice.
        let pages = unsafe {
            libc::mmap(std::ptr::null_mut(), 2 * page_size, libc::PROT_READ, libc::MAP_SHARED, ring.as_raw_fd(), 0)
        };
        match NonNull::new(pages.cast::<u8>()) {
            Some(pages) if pages.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { pages, page_size }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn position(&self, page: usize) -> usize {
        // SAFETY: inside the mapping, page-aligned, and only ever changed atomically.
        unsafe { &*self.pages.as_ptr().add(page * self.page_size).cast::<AtomicUsize>() }.load(Ordering::Acquire)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: our own mapping, not used any more.
        unsafe { libc::munmap(self.pages.as_ptr().cast(), 2 * self.page_size) };
    }
}
