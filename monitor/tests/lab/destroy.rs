//! What `ss -K` does, over netlink: asks the kernel to end one socket (SOCK_DESTROY, linux/sock_diag.h).

use super::netns::Netns;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SOCK_DESTROY: u16 = 21;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
const LENGTH: usize = HEADER + 56;

/// Ends the TCP socket of `netns` from `source` to `destination`, whatever its state.
///
/// # Errors
/// The kernel's answer: `Unsupported` where it ends no sockets, or none of this kind.
pub fn destroy(netns: &Netns, source: SocketAddr, destination: SocketAddr) -> Result<(), Error> {
    let request = request(source, destination);
    netns.run(|| {
        // SAFETY: integers only.
        let fd =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
        assert!(fd >= 0, "a netlink socket: {}", Error::last_os_error());
        // SAFETY: just opened, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the buffer outlives the call, and its size is given.
        let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), LENGTH, 0) };
        assert_eq!(sent, LENGTH as isize, "the request: {}", Error::last_os_error());
        let mut answer = [0_u8; 512];
        // SAFETY: as above.
        let received = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        assert!(received >= 20, "the kernel's answer: {}", Error::last_os_error());
        // `struct nlmsgerr` starts with a negative errno, 0 for well done (netlink(7)).
        match i32::from_ne_bytes(answer[HEADER..HEADER + 4].try_into().expect("four bytes")) {
            0 => Ok(()),
            errno if -errno == libc::EOPNOTSUPP => Err(ErrorKind::Unsupported.into()),
            errno => Err(Error::from_raw_os_error(-errno)),
        }
    })
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (linux/inet_diag.h).
fn request(source: SocketAddr, destination: SocketAddr) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &(LENGTH as u32).to_ne_bytes());
    put(4, &SOCK_DESTROY.to_ne_bytes());
    put(6, &((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    put(HEADER, &[if source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8, IPPROTO_TCP]);
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + 8, &source.port().to_be_bytes());
    put(HEADER + 10, &destination.port().to_be_bytes());
    for (at, address) in [(HEADER + 12, source.ip()), (HEADER + 28, destination.ip())] {
        match address {
            IpAddr::V4(v4) => put(at, &v4.octets()),
            IpAddr::V6(v6) => put(at, &v6.octets()),
        }
    }
    // Any interface, and no cookie asked for (INET_DIAG_NOCOOKIE).
    put(HEADER + 48, &[0xff; 8]);
    bytes
}
