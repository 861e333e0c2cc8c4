//! Memory of a BPF map, mapped into this process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A shared mapping, gone when this is dropped. All access is by atomic loads and stores, or by copies of bytes that the
/// other side is known not to change.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory of the process; who may read and write what, and when, is up to the callers of the unsafe methods.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of the map `fd`.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(pages) if start != libc::MAP_FAILED => Ok(Self { start: pages, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The word at `offset`, a multiple of 8. Stores only to writable mappings.
    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.bytes, "offset {offset} of {} bytes", self.bytes);
        // SAFETY: inside the mapping, aligned since mappings start at a page, and only ever accessed as a whole word.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// `length` bytes at `offset`.
    ///
    /// # Safety
    /// The other side must not change them while the slice lives.
    pub(super) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.bytes, "{length} bytes at {offset} of {}", self.bytes);
        // SAFETY: inside the mapping; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, not used any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
