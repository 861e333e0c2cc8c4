//! Every map of the object.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, RingBuf},
};
use synfin_ebpf::{
    abi::{Counters, CpuPage, counters::ROW, cpu::PAGE},
    decide::Share,
};

use crate::globals;

/// Totals and positions: one entry a CPU. The daemon sets the number.
#[map]
static CPUS: Array<CpuPage> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The pages of the lanes, see [`synfin_ebpf::abi::cpu`]. The daemon sets the number.
#[map]
static LANES: Array<[u8; PAGE]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Carries the records where there are no lanes; else only wakes the daemon. The daemon sets the size.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4096, 0);

/// A CPU of the running program, and which of its programs this is.
#[derive(Clone, Copy)]
pub struct Writer {
    pub cpu: u32,
    /// One of [`synfin_ebpf::abi::counters::writer`].
    pub number: usize,
    pub page: *mut CpuPage,
}

impl Writer {
    /// `None` never happens, but the verifier wants to see the question.
    #[inline(always)]
    pub fn of_this_cpu(number: usize) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        Some(Self { cpu, number, page: CPUS.get_ptr_mut(cpu)? })
    }

    #[inline(always)]
    pub fn counters(&self) -> *mut Counters {
        // SAFETY: inside the map value; the number is a constant of the calling program.
        unsafe { &raw mut (*self.page).writers[self.number] }
    }
}

/// A page of the lanes; null on a CPU that was not there when the daemon started.
#[inline(always)]
pub fn lane_page(index: u32) -> *mut u8 {
    LANES.get_ptr_mut(index).map_or(core::ptr::null_mut(), |page| page.cast())
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
/// `page` must point to the map value.
#[inline(always)]
pub unsafe fn set_running(page: *mut CpuPage, share: Share, running: bool) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_volatile(&raw mut (*page).running[share as usize], u64::from(running)) }
}

/// Whether program `share` is running on this CPU: beneath the caller, then.
///
/// # Safety
/// `page` must point to the map value.
#[inline(always)]
pub unsafe fn is_running(page: *mut CpuPage, share: Share) -> bool {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::read_volatile(&raw const (*page).running[share as usize]) != 0 }
}
