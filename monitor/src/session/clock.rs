//! The only clocks of a session: kernel monotonic time, the wall time that goes with it, and what a thread costs.

use crate::event::KernelTime;

fn read(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into our own variable; the clocks used here exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// CLOCK_MONOTONIC, the clock of the probes (`bpf_ktime_get_ns`).
pub fn kernel_now() -> KernelTime {
    KernelTime(u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap_or(0))
}

/// Wall time less kernel monotonic time, nanoseconds: add it to a [`KernelTime`] for nanoseconds since 1970.
/// Changes when the wall clock is set.
pub fn wall_offset_ns() -> i64 {
    // The wall clock is read between two readings of the other, whose middle belongs to it.
    let before = read(libc::CLOCK_MONOTONIC);
    let wall = read(libc::CLOCK_REALTIME);
    let after = read(libc::CLOCK_MONOTONIC);
    i64::try_from(wall - (before + after) / 2).unwrap_or(0)
}

/// Wall time, seconds since 1970.
pub fn unix_now() -> f64 {
    read(libc::CLOCK_REALTIME) as f64 / 1e9
}

/// CPU time that the calling thread has taken so far.
pub fn thread_cpu() -> std::time::Duration {
    std::time::Duration::from_nanos(u64::try_from(read(libc::CLOCK_THREAD_CPUTIME_ID)).unwrap_or(0))
}
