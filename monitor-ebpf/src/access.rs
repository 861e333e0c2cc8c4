//! Two ways to read kernel memory: straight through a pointer whose type the verifier knows, or by a helper.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Reads fields at constant offsets.
pub trait Access {
    /// Reads a `T` at `base + offset`. A fault reads as zero, as the kernel's own exception table gives it.
    ///
    /// # Safety
    /// `base` must be a pointer of the kind this access is for, `T` an integer or a pointer of at most 8 bytes.
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T;
}

/// Pointers from BTF-typed programs: a load costs about a nanosecond, and the verifier checks it against the type.
pub enum Direct {}

impl Access for Direct {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        // SAFETY: the caller's promise; the verifier refuses the load if the type has no such field.
        unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
    }
}

/// Any other address: through `bpf_probe_read_kernel`, about 7 ns each.
pub enum Probe {}

impl Access for Probe {
    #[inline(always)]
    unsafe fn read<T: Copy>(base: *const u8, offset: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let from = base.wrapping_add(offset as usize);
        // No branch on the result: two paths for each of thirty reads are more than the verifiers of 5.10 and 6.1 can
        // follow in minutes.
        // SAFETY: the helper checks the address and fills all of `value`, with zeros when it is bad
        // (bpf_probe_read_kernel_common in kernel/trace/bpf_trace.c); zero is valid for integers and pointers.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from.cast());
            value.assume_init()
        }
    }
}
