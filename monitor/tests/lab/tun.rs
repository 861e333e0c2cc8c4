//! A TUN device in a namespace: packets that the kernel sends to the network behind it come here, and the other way round.

use super::netns::Netns;
use super::packet::Segment;
use super::place;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub struct Tun {
    file: File,
}

impl Tun {
    /// Makes `tun0` with the address [`place::tun_here`] and the /24 around it behind the device.
    pub fn new(netns: &Netns) -> Self {
        let file = netns.run(open);
        netns.ip(&format!("addr add {}/24 dev tun0", place::tun_here()));
        netns.ip("link set tun0 up");
        Self { file }
    }

    /// Routes a further network to the device.
    pub fn route(&self, netns: &Netns, network: &str) {
        netns.ip(&format!("route add {network} dev tun0"));
    }

    /// Hands the kernel one packet.
    pub fn send(&self, packet: &[u8]) {
        (&self.file).write_all(packet).expect("a packet for the TUN device");
    }

    /// The next TCP segment from the kernel, or `None` after `limit`.
    pub fn receive(&self, limit: Duration) -> Option<Segment> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd that outlives the call.
            let ready = unsafe { libc::poll(&mut poll, 1, left.as_millis().try_into().unwrap_or(i32::MAX)) };
            if ready == 0 {
                return None;
            }
            let mut packet = [0; 2048];
            match (&self.file).read(&mut packet) {
                Ok(length) => {
                    if let Some(segment) = Segment::decode(&packet[..length]) {
                        return Some(segment);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("reading from the TUN device: {error}"),
            }
        }
    }

    /// Throws away what is waiting.
    pub fn drain(&self) -> usize {
        std::iter::from_fn(|| self.receive(Duration::ZERO)).count()
    }
}

/// `_IOW('T', 202, int)` (include/uapi/linux/if_tun.h).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TUN: libc::c_short = 1;
const IFF_NO_PI: libc::c_short = 0x1000;

fn open() -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let file = file.unwrap_or_else(|error| panic!("/dev/net/tun: {error} (the peer tests need CONFIG_TUN)"));
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = IFF_TUN | IFF_NO_PI;
    // SAFETY: the request outlives the call; TUNSETIFF reads and writes an ifreq.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    assert_eq!(status, 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
    file
}
