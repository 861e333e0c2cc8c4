//! The maps behind the counts of small sockets: totals, and what the programs at different functions tell each other.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use synfin_ebpf::abi::{CpuEnds, Ends};

/// Totals: one entry, one copy a CPU.
#[map]
pub static ENDS: PerCpuArray<CpuEnds> = PerCpuArray::with_max_entries(1, 0);

/// Small sockets, by address, that somebody is asking the kernel to end right now: as many as there are such calls under
/// way. Between the call and the end the task may move to another CPU, so this is no note of a CPU.
#[map]
static REQUESTED: HashMap<u64, u8> = HashMap::with_max_entries(256, 0);

/// This CPU's copy, good for reading and writing of whole words by programs that run with softirqs off.
#[inline(always)]
pub fn cpu() -> Option<&'static mut CpuEnds> {
    // SAFETY: the map value lives as long as the program, and each program asks once.
    ENDS.get_ptr_mut(0).map(|cpu| unsafe { &mut *cpu })
}

/// Adds one to a counter that `pick` finds in this CPU's copy. Atomic, since a softirq may interrupt the program in which
/// sockets are made; each of these comes once in a connection's life at most.
#[inline(always)]
pub fn add_one(pick: impl FnOnce(&mut Ends) -> &mut u64) {
    if let Some(cpu) = cpu() {
        let counter: *mut u64 = pick(&mut cpu.ends);
        // SAFETY: points into the map value.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1u64) };
    }
}

/// Notes that the end of the small socket at this address is asked for.
#[inline(always)]
pub fn request(tw: u64) {
    // When the map is full the end counts as one of unknown cause.
    let _ = REQUESTED.insert(tw, 1, 0);
}

/// The call that asked is over.
#[inline(always)]
pub fn forget_request(tw: u64) {
    // It is in the map only if the call was about a small socket.
    let _ = REQUESTED.remove(tw);
}

#[inline(always)]
pub fn is_requested(tw: u64) -> bool {
    REQUESTED.get_ptr(tw).is_some()
}
