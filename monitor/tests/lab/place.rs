//! Where the lab's traffic goes: addresses that nobody else on the machine uses, so that the witness can tell it apart.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

/// Second octet of every IPv4 address and second byte of every IPv6 address of this process.
pub fn octet() -> u8 {
    20 + (std::process::id() % 200) as u8
}

/// How an end of a connection is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    /// An IPv6 socket with IPv4-mapped addresses.
    Mapped,
}

impl Family {
    /// The lab's loopback address number `host`.
    pub fn loopback(self, host: u8, port: u16) -> SocketAddr {
        let v4 = Ipv4Addr::new(127, octet(), 0, host);
        let address = match self {
            Self::V4 => IpAddr::V4(v4),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00 | u16::from(octet()), 0, 0, 0, 0, 0, 0, u16::from(host))),
            Self::Mapped => IpAddr::V6(v4.to_ipv6_mapped()),
        };
        SocketAddr::new(address, port)
    }
}

/// The kernel's address on the lab's TUN device (a /24).
pub fn tun_here() -> Ipv4Addr {
    Ipv4Addr::new(10, octet(), 0, 1)
}

/// Address number `host` behind the TUN device.
pub fn tun_peer(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, octet(), 0, host)
}

/// Whether a trace line speaks of the lab's addresses.
pub fn is_ours(line: &str) -> bool {
    static MARKS: LazyLock<[String; 3]> = LazyLock::new(|| {
        let octet = octet();
        // The kernel prints `saddr=127.77.0.1` and, for IPv6, `saddrv6=fd4d::1`.
        [format!("addr=127.{octet}."), format!("addr=10.{octet}."), format!("addrv6=fd{octet:02x}::")]
    });
    MARKS.iter().any(|mark| line.contains(mark.as_str()))
}
