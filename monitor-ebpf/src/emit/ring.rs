//! The kernel's own ring buffer: orders the records of all CPUs, at the price of a lock.

use core::{ffi::c_void, mem::ManuallyDrop};

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ringbuf_submit,
};
use synfin_ebpf::{abi::Counters, decide};

use crate::{globals, maps};

/// Room for a `T`; null when there is none.
#[inline(always)]
pub fn reserve<T: 'static>() -> *mut T {
    // [`submit`] takes the place of the entry's own end.
    maps::RING.reserve::<T>(0).map_or(core::ptr::null_mut(), |entry| ManuallyDrop::new(entry).as_mut_ptr())
}

/// Hands the record over. The reader polls; it is woken only when much is pending, and only every so many records of a CPU
/// look at that, so a record never pays for a wake-up while the reader is busy.
#[inline(always)]
pub fn submit(counters: *mut Counters, record: *mut c_void) {
    // SAFETY: points to the map value; a torn count would only shift the next look at the ring.
    let count = unsafe { core::ptr::read_volatile(&raw const (*counters).records) };
    let flags = if decide::looks_at_ring(count, globals::wake_mask())
        && maps::RING.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(globals::wake_bytes())
    {
        // SAFETY: points to the map value.
        unsafe { maps::add_one(&raw mut (*counters).wakeups) };
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    // SAFETY: reserved by the caller, and filled.
    unsafe { bpf_ringbuf_submit(record, u64::from(flags)) };
}
