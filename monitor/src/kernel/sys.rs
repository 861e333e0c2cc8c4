//! The three `bpf()` calls that aya does not offer: what a program missed, and a census that can be repeated.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_info};

/// What the kernel says of a loaded program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramFigures {
    /// Nested runs that the recursion guard skipped (0 on kernels that do not count them).
    pub recursion_misses: u64,
    /// Runs and nanoseconds, only counted while `kernel.bpf_stats_enabled` is 1.
    pub run_count: u64,
    pub run_time_ns: u64,
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `attr` is a whole, initialized attribute union; pointers in it were set by the callers below to live memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: a union of integers; all zero means "nothing asked for" to the kernel.
    unsafe { mem::zeroed() }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// BPF_OBJ_GET_INFO_BY_FD for a program.
pub fn program_figures(program: BorrowedFd<'_>) -> io::Result<ProgramFigures> {
    // SAFETY: integers and addresses; zero is valid for each.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    let mut attr = zeroed_attr();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info).addr() as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(ProgramFigures {
        recursion_misses: info.recursion_misses,
        run_count: info.run_cnt,
        run_time_ns: info.run_time_ns,
    })
}

/// BPF_LINK_CREATE for an iterator program. The link outlives the right to make it.
pub fn create_iterator_link(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(owned)
}

/// BPF_ITER_CREATE: one walk, over the network namespace of the calling thread; reading the file runs it.
pub fn create_iterator(link: BorrowedFd<'_>) -> io::Result<File> {
    let mut attr = zeroed_attr();
    attr.iter_create.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr).map(|fd| File::from(owned(fd)))
}
