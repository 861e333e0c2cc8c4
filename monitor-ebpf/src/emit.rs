//! Hands a record to the ring, or counts that it was full.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use synfin_ebpf::{abi::Counters, decide};

use crate::{globals, maps};

/// Reserves room for a record; counts `ring_full` when there is none.
#[inline(always)]
pub fn reserve<T>(counters: *mut Counters) -> Option<RingBufEntry<T>> {
    let entry = maps::EVENTS.reserve::<T>(0);
    if entry.is_none() {
        // SAFETY: `counters` points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).ring_full) };
    }
    entry
}

/// Submits a filled record. The reader polls; it is woken only when much is pending, and only every so many records of a
/// CPU look at that, so a record never pays for a wake-up while the reader is busy.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>, counters: *mut Counters) {
    // SAFETY: `counters` points to the map value; a torn count would only shift the next look at the ring.
    let count = unsafe {
        let records = &raw mut (*counters).records;
        maps::add_one(records);
        core::ptr::read_volatile(records)
    };
    let flags = if decide::looks_at_ring(count, globals::wake_mask())
        && maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(globals::wake_bytes())
    {
        // SAFETY: `counters` points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).wakeups) };
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(flags));
}
