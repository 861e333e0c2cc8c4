//! Hands a record over: through the lane of the program that runs, or through the kernel's ring buffer. The verifier knows
//! which of the two it is and drops the other.

mod lane;
mod ring;

use crate::{
    globals,
    maps::{self, Writer},
};

/// Room for a record; [`Place::submit`] must follow.
pub struct Place<T> {
    pub record: *mut T,
    /// In a lane, the position behind the record.
    end: u64,
}

impl<T: 'static> Place<T> {
    /// `None` when there is no room, which is counted.
    #[inline(always)]
    pub fn reserve(writer: Writer) -> Option<Self> {
        let mut end = 0;
        let record = if globals::lane_pages() != 0 { lane::reserve(writer, &mut end) } else { ring::reserve::<T>() };
        if record.is_null() {
            // SAFETY: points to the map value.
            unsafe { maps::add_one(&raw mut (*writer.counters()).ring_full) };
            return None;
        }
        Some(Self { record, end })
    }

    /// Hands the record over, which must be filled, and counts it.
    #[inline(always)]
    pub fn submit(self, writer: Writer) {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*writer.counters()).records) };
        if globals::lane_pages() != 0 {
            lane::submit(writer, self.end);
        } else {
            ring::submit(writer.counters(), self.record.cast());
        }
    }
}
