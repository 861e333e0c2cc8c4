//! The reader's side of the lanes: the merged stream, and the bell that the kernel side rings when much is pending.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};

use super::merge::Merge;
use crate::event::KernelTime;

/// Takes records out of all lanes. The kernel side seldom wakes the reader, so they must also be polled by time.
pub(super) struct LaneReader {
    merge: Merge,
    bell: RingBuf<MapData>,
}

impl LaneReader {
    pub(super) fn new(merge: Merge, bell: RingBuf<MapData>) -> Self {
        Self { merge, bell }
    }

    /// As [`Merge::drain`].
    pub(super) fn drain(&mut self, limit: usize, until: KernelTime, handle: impl FnMut(&[u8])) -> usize {
        // First, so that a bell that rings from now on wakes again.
        while self.bell.next().is_some() {}
        self.merge.drain(limit, until, handle)
    }

    /// Bytes written and not yet taken.
    pub(super) fn pending_bytes(&self) -> usize {
        self.merge.pending_bytes()
    }

    /// Size of all lanes together, bytes.
    pub(super) fn size(&self) -> usize {
        self.merge.size()
    }
}

impl AsRawFd for LaneReader {
    fn as_raw_fd(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }
}
