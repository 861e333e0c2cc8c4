//! Every map of the object.

use aya_ebpf::{
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use synfin_ebpf::abi::{
    Counters,
    counters::{ROW, writer},
};

use crate::globals;

/// Detail of every transition. The daemon sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Totals: one entry for each of [`writer`], one copy a CPU.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(writer::COUNT, 0);

/// This CPU's totals of one writer. `None` never happens, but the verifier wants to see the question.
#[inline(always)]
pub fn counters(writer: u32) -> Option<*mut Counters> {
    COUNTERS.get_ptr_mut(writer)
}

/// Adds one to a counter of this CPU. A plain addition is enough, and much cheaper than an atomic one, where the kernel never
/// runs a program within itself on the same CPU, since each writer has counters of its own.
///
/// # Safety
/// `counter` must point into the map value of the calling program.
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
