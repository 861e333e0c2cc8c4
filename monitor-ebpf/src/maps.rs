//! Every map of the object.

use aya_ebpf::{
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use synfin_ebpf::{
    abi::{Counters, counters::ROW},
    decide::Share,
};

/// Detail of every transition. The daemon sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Totals: one entry, one copy a CPU.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's totals. `None` never happens, but the verifier wants to see the question.
#[inline(always)]
pub fn counters() -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(0)
}

/// Adds one to a counter of this CPU. Atomic, since a nested run of the program may interrupt a plain addition.
///
/// # Safety
/// `counter` must point into a map value.
#[inline(always)]
pub unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1u64) }
}

/// Counts a transition of this CPU.
///
/// # Safety
/// `counters` must point to the map value.
#[inline(always)]
pub unsafe fn add_transition(counters: *mut Counters, slot: usize) {
    const { assert!(ROW * ROW == 256) };
    let mut bounded = slot;
    // The compiler knows the bound and would drop a mask; the verifier does not, and needs to see it.
    // SAFETY: changes one register; with the mask the slot lies inside the table.
    unsafe {
        core::arch::asm!("{0} &= 255", inout(reg) bounded);
        add_one((&raw mut (*counters).transitions).cast::<u64>().add(bounded));
    }
}

/// Notes that program `share` is running on this CPU, or no more. The compiler must keep the order.
///
/// # Safety
/// `counters` must point to the map value.
#[inline(always)]
pub unsafe fn set_running(counters: *mut Counters, share: Share, running: bool) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(&raw mut (*counters).running[share as usize], u64::from(running)) }
}

/// Whether program `share` is running on this CPU: beneath the caller, then.
///
/// # Safety
/// `counters` must point to the map value.
#[inline(always)]
pub unsafe fn is_running(counters: *mut Counters, share: Share) -> bool {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*counters).running[share as usize]) != 0 }
}
