//! Every map of the object.

use aya_ebpf::{
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use synfin_ebpf::{
    abi::{Counters, CpuCounters, counters::ROW},
    decide::Share,
};

use crate::globals;

/// Detail of every transition. The daemon sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Totals: one entry, one copy a CPU.
#[map]
pub static COUNTERS: PerCpuArray<CpuCounters> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's totals. `None` never happens, but the verifier wants to see the question.
#[inline(always)]
pub fn cpu() -> Option<*mut CpuCounters> {
    COUNTERS.get_ptr_mut(0)
}

/// The counters of one of [`synfin_ebpf::abi::counters::writer`].
///
/// # Safety
/// `cpu` must point to the map value.
#[inline(always)]
pub unsafe fn counters_of(cpu: *mut CpuCounters, writer: usize) -> *mut Counters {
    // SAFETY: the caller's promise; the index is a constant of the calling program.
    unsafe { &raw mut (*cpu).writers[writer] }
}

/// Adds one to a counter of this CPU. A plain addition is enough, and much cheaper than an atomic one, where the kernel
/// never runs a program inside itself on the same CPU, since each program has counters of its own.
///
/// # Safety
/// `counter` must point into the counters of the calling program.
#[inline(always)]
pub unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller's promise. Volatile: the daemon reads it.
    unsafe {
        if globals::nests() {
            core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1u64)
        } else {
            counter.write_volatile(counter.read_volatile().wrapping_add(1))
        }
    }
}

/// Counts a transition of this CPU.
///
/// # Safety
/// `counters` must point to the counters of the calling program.
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
/// `cpu` must point to the map value.
#[inline(always)]
pub unsafe fn set_running(cpu: *mut CpuCounters, share: Share, running: bool) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(&raw mut (*cpu).running[share as usize], u64::from(running)) }
}

/// Whether program `share` is running on this CPU: beneath the caller, then.
///
/// # Safety
/// `cpu` must point to the map value.
#[inline(always)]
pub unsafe fn is_running(cpu: *mut CpuCounters, share: Share) -> bool {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*cpu).running[share as usize]) != 0 }
}
