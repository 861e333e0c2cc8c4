//! Namespaces of this process' own: a network with loopback up, and tracefs, without which the peers do not attach.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};

/// As many TIME_WAIT sockets as the kernel allows by default on most hosts.
const TIME_WAIT_LIMIT: &str = "131072";

const TRACEFS: &std::ffi::CStr = c"/sys/kernel/tracing";

/// Moves this process, which must not have threads yet, into fresh namespaces.
pub fn enter() -> Result<()> {
    // SAFETY: changes the namespaces of the calling thread, the only one.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })
        .context("cannot make namespaces (needs root)")?;
    mount_tracefs().context("cannot mount tracefs")?;
    loopback_up().context("cannot bring loopback up")?;
    let limit = "/proc/sys/net/ipv4/tcp_max_tw_buckets";
    std::fs::write(limit, TIME_WAIT_LIMIT).with_context(|| format!("cannot write {limit}"))
}

/// For this process and its children only.
fn mount_tracefs() -> io::Result<()> {
    if Path::new("/sys/kernel/tracing/events").exists() {
        return Ok(());
    }
    let (none, flags) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: the strings are whole; from here on no mount of ours is seen elsewhere.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })?;
    // SAFETY: as above.
    check(unsafe { libc::mount(c"tracefs".as_ptr(), TRACEFS.as_ptr(), c"tracefs".as_ptr(), 0, none.cast()) })
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: integers, an array and a union of such; zero is valid for each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is whole and names a device.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// TIME_WAIT sockets (and the small FIN_WAIT2 ones) of this namespace.
pub fn time_wait() -> Result<u64> {
    let sockstat = synfin::host::read_sockstat(Path::new("/proc/thread-self"))?;
    sockstat.tw.context("/proc/net/sockstat does not say how many sockets are in TIME_WAIT")
}
