//! The TCP segments that passed a device, each with the time that the kernel put on it: a small tcpdump.
//!
//! A packet socket rather than tcpdump: nothing to start and to wait for, and what it had to drop is known.

use super::netns::Netns;
use super::packet::Segment;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Room for all packets of a test: they are read at its end.
const BUFFER: libc::c_int = 64 << 20;
/// Until the kernel stamps packets for everybody who asked for it: it starts that from a worker (net_enable_timestamp).
const STAMPING: Duration = Duration::from_millis(200);
/// net/if_packet.h
const PACKET_STATISTICS: libc::c_int = 6;

/// One segment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Nanoseconds of the wall clock, when it left or arrived.
    pub at: u64,
    pub outgoing: bool,
    pub segment: Segment,
}

pub struct Capture {
    socket: OwnedFd,
}

/// The wall clock of the stamps, in nanoseconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_nanos() as u64
}

impl Capture {
    /// Begins to capture on `device` of `netns`.
    pub fn start(netns: &Netns, device: &str) -> Self {
        let socket = netns.run(|| open(device));
        std::thread::sleep(STAMPING);
        Self { socket }
    }

    /// All TCP segments since the start, in their order. Panics when the kernel had to drop one.
    pub fn finish(self) -> Vec<Seen> {
        let mut seen = Vec::new();
        while let Some(packet) = receive(&self.socket) {
            seen.extend(packet);
        }
        // Packets that it was given, and of them those that it dropped (struct tpacket_stats).
        let mut counts = [0u32; 2];
        let mut length = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the buffer has the length that is passed; the kernel writes at most that much.
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &mut length,
            )
        };
        check("PACKET_STATISTICS", status.into());
        assert_eq!(counts[1], 0, "of {} packets the kernel did not keep these", counts[0]);
        seen
    }
}

fn check(what: &str, result: i64) -> i64 {
    assert!(result >= 0, "{what}: {}", std::io::Error::last_os_error());
    result
}

/// A socket that gets every packet of the device: one that names a protocol would get no outgoing ones.
fn open(device: &str) -> OwnedFd {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: plain numbers; the call returns a new descriptor or -1. Without a protocol, it gets nothing yet.
    let socket = check("a packet socket", unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0) }.into());
    // SAFETY: just returned by socket and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as libc::c_int) };
    for (name, option, value) in
        [("SO_RCVBUFFORCE", libc::SO_RCVBUFFORCE, BUFFER), ("SO_TIMESTAMPNS", libc::SO_TIMESTAMPNS, 1)]
    {
        let length = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the value is an int of that length, which the kernel reads.
        let status = unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), length)
        };
        check(name, status.into());
    }
    let name = std::ffi::CString::new(device).expect("a name without zero bytes");
    // SAFETY: a C string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{device}: {}", std::io::Error::last_os_error());
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an address of that length, which the kernel reads.
    check("bind", unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }.into());
    socket
}

/// Room for control messages, aligned as their headers must be.
#[repr(align(8))]
struct Control([u8; 256]);

/// The next packet that waits (`None`: no more); empty if it is no TCP segment over IPv4.
fn receive(socket: &OwnedFd) -> Option<Option<Seen>> {
    let mut packet = [0u8; 2048];
    let mut control = Control([0; 256]);
    // SAFETY: an all-zero sockaddr_ll and an all-zero msghdr are valid.
    let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let mut part = libc::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of_val(&from) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer of the message is to a buffer of the length beside it, and all outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if length < 0 && std::io::Error::last_os_error().kind() == std::io::ErrorKind::WouldBlock {
        return None;
    }
    let length = check("recvmsg", length as i64) as usize;
    let segment = Segment::decode(&packet[..length.min(packet.len())]);
    let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
    Some(segment.map(|segment| Seen { at: stamp(&message), outgoing, segment }))
}

fn stamp(message: &libc::msghdr) -> u64 {
    // SAFETY: the kernel has filled control and its length, and the macros stay within them; SCM_TIMESTAMPNS carries a timespec.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                return time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    panic!("a packet without a time")
}
