//! Records from the kernel side, whichever way they come.

use std::os::fd::{AsRawFd, RawFd};

use super::lanes::LaneReader;
use super::ring::RingReader;
use crate::event::KernelTime;
use crate::session::clock;

/// Records taken in one go by [`Records::drain_all`].
const BATCH: usize = 32_768;

/// Takes records. The kernel side seldom wakes the reader, so it must also be polled by time.
pub struct Records(Way);

enum Way {
    Lanes(LaneReader),
    Ring(RingReader),
}

impl Records {
    pub(super) fn of_lanes(lanes: LaneReader) -> Self {
        Self(Way::Lanes(lanes))
    }

    pub(super) fn of_ring(ring: RingReader) -> Self {
        Self(Way::Ring(ring))
    }

    /// Hands at most `limit` records to `handle`, those of one socket in their order; gives how many there were.
    pub fn drain(&mut self, limit: usize, handle: impl FnMut(&[u8])) -> usize {
        match &mut self.0 {
            Way::Lanes(lanes) => lanes.drain(limit, clock::kernel_now(), handle),
            Way::Ring(ring) => ring.drain(limit, handle),
        }
    }

    /// Hands over all that is there at the moment, however much; what comes meanwhile may stay.
    pub fn drain_all(&mut self, mut handle: impl FnMut(&[u8])) {
        match &mut self.0 {
            Way::Lanes(lanes) => {
                let now: KernelTime = clock::kernel_now();
                while lanes.drain(BATCH, now, &mut handle) == BATCH {}
            }
            Way::Ring(ring) => ring.drain_all(handle),
        }
    }

    /// Bytes written and not yet taken.
    pub fn pending_bytes(&self) -> usize {
        match &self.0 {
            Way::Lanes(lanes) => lanes.pending_bytes(),
            Way::Ring(ring) => ring.pending_bytes(),
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        match &self.0 {
            Way::Lanes(lanes) => lanes.size(),
            Way::Ring(ring) => ring.size(),
        }
    }

    /// How records come, in words.
    pub fn transport(&self) -> &'static str {
        match &self.0 {
            Way::Lanes(_) => "memory mapped, a lane for each program and CPU",
            Way::Ring(_) => "the kernel's ring buffer",
        }
    }
}

impl AsRawFd for Records {
    /// Readable when the kernel side wants its records taken.
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            Way::Lanes(lanes) => lanes.as_raw_fd(),
            Way::Ring(ring) => ring.as_raw_fd(),
        }
    }
}
