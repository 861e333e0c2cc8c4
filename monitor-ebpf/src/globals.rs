//! Constants of this load, written by the daemon into the frozen read-only section, so the verifier knows their values.

use synfin_ebpf::abi::Offsets;

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

/// 1 where the kernel never runs a program inside itself (Linux 6.1 and later for this kind), so that the two programs of
/// the state tracepoint may stand in for each other.
#[unsafe(no_mangle)]
static BACKUP: u32 = 0;

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

#[inline(always)]
pub fn backs_up() -> bool {
    written(&BACKUP) != 0
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
