//! Constants of this load, written by the daemon into the frozen read-only section, so the verifier knows their values.

use synfin_ebpf::{
    abi::{Offsets, counters::ROW},
    decide::{self, Plan},
};

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;
/// The watched network namespace, 0 for all.
#[unsafe(no_mangle)]
static NETNS: u32 = 0;
/// A CPU looks how full the ring is at each record whose number has no bit of the mask.
#[unsafe(no_mangle)]
static WAKE_MASK: u32 = 0;
/// From so many pending bytes on, the reader is woken.
#[unsafe(no_mangle)]
static WAKE_BYTES: u32 = 0;
/// Timer ticks a second (CONFIG_HZ).
#[unsafe(no_mangle)]
static HZ: u32 = 0;

/// Not 0 where the kernel may run a program of a raw tracepoint inside itself on the same CPU.
#[unsafe(no_mangle)]
static NESTS: u32 = 0;

/// Pages of each lane, a power of two; 0 where records go through the ring buffer.
#[unsafe(no_mangle)]
static LANE_PAGES: u32 = 0;

/// Reads one field of a global as it is after the daemon has written it (the compiler must not use the initial value).
macro_rules! offset {
    ($field:ident) => {
        crate::globals::written(&crate::globals::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// The value of a global as the daemon wrote it: the compiler must not use the initial one.
#[inline(always)]
pub fn written(global: &u32) -> u32 {
    // SAFETY: a valid reference.
    unsafe { core::ptr::read_volatile(global) }
}

/// Whether counters need atomic additions, and the two programs of the state tracepoint must not stand in for each other,
/// since neither is ever skipped. The verifier knows the answer and drops the other branch.
#[inline(always)]
pub fn nests() -> bool {
    written(&NESTS) != 0
}

static PLANS: [Plan; ROW * ROW] = decide::PLANS;

/// What is to be done with a transition.
#[inline(always)]
pub fn plan(oldstate: u32, newstate: u32) -> Plan {
    let mut place = decide::place(oldstate, newstate);
    // The compiler knows the bound and would drop a mask; the verifier does not, and needs to see it.
    // SAFETY: changes one register; with the mask the place lies inside the table. Volatile, or the compiler would look
    // through the table and make comparisons of it again.
    unsafe {
        core::arch::asm!("{0} &= 255", inout(reg) place);
        (&raw const PLANS).cast::<Plan>().add(place).read_volatile()
    }
}

#[inline(always)]
pub fn lane_pages() -> u32 {
    written(&LANE_PAGES)
}

#[inline(always)]
pub fn netns() -> u32 {
    written(&NETNS)
}

#[inline(always)]
pub fn wake_mask() -> u32 {
    written(&WAKE_MASK)
}

#[inline(always)]
pub fn wake_bytes() -> u32 {
    written(&WAKE_BYTES)
}

/// A distance of two jiffies values in milliseconds, see [`synfin_ebpf::decide::jiffies_to_ms`].
#[inline(always)]
pub fn jiffies_to_ms(jiffies: u64) -> u32 {
    synfin_ebpf::decide::jiffies_to_ms(jiffies, written(&HZ))
}
