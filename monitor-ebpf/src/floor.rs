//! The yardstick of `cargo xtask bench`: the least that a program on the tracepoint can do and still hand over a record.
//! No part of the daemon.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::BPF_RB_NO_WAKEUP,
        helpers::bpf_ktime_get_ns,
        macros::{btf_tracepoint, map},
        maps::RingBuf,
        programs::BtfTracePointContext,
    };

    #[map]
    static RECORDS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

    /// Takes the time, reserves and submits 32 bytes, wakes nobody.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn floor(_ctx: BtfTracePointContext) -> i32 {
        // SAFETY: a helper without arguments.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        if let Some(mut entry) = RECORDS.reserve::<[u64; 4]>(0) {
            entry.write([time_ns, 0, 0, 0]);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        0
    }

    /// Does nothing: what the kernel says of it is the price of being measured.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn empty(_ctx: BtfTracePointContext) -> i32 {
        0
    }
}

/// The verifier proves that no program reaches this.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
