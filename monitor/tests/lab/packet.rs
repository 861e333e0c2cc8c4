//! IPv4 packets with TCP or ICMP in them, to and from bytes. Only what a hand-made peer needs.

use std::net::Ipv4Addr;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const IP_HEADER: usize = 20;
const WINDOW: u16 = 65_000;

/// A TCP segment with its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub source: (u32, u16),
    pub destination: (u32, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// Value and echo of the timestamp option (RFC 7323), if it is there.
    pub timestamps: Option<(u32, u32)>,
    pub payload: Vec<u8>,
}

impl Segment {
    pub fn is(&self, flags: u8) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == flags
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers that it takes: payload, and one for SYN and FIN each.
    pub fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// `None` for anything but an IPv4 TCP packet (the kernel sends IPv6 router solicitations on its own).
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let at16 = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        let at32 = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
        if packet.first()? >> 4 != 4 || packet.get(9)? != &PROTOCOL_TCP {
            return None;
        }
        let tcp = usize::from(packet[0] & 15) * 4;
        let data = tcp + usize::from(*packet.get(tcp + 12)? >> 4) * 4;
        Some(Self {
            source: (at32(12)?, at16(tcp)?),
            destination: (at32(16)?, at16(tcp + 2)?),
            seq: at32(tcp + 4)?,
            ack: at32(tcp + 8)?,
            flags: *packet.get(tcp + 13)?,
            timestamps: timestamps(packet.get(tcp + 20..data)?),
            payload: packet.get(data..usize::from(at16(2)?))?.to_vec(),
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if self.has(SYN) {
            // Maximum segment size 1400.
            options.extend_from_slice(&[2, 4, 0x05, 0x78]);
        }
        if let Some((value, echo)) = self.timestamps {
            options.extend_from_slice(&[1, 1, 8, 10]);
            options.extend_from_slice(&value.to_be_bytes());
            options.extend_from_slice(&echo.to_be_bytes());
        }
        let mut tcp = Vec::with_capacity(60 + self.payload.len());
        tcp.extend_from_slice(&self.source.1.to_be_bytes());
        tcp.extend_from_slice(&self.destination.1.to_be_bytes());
        tcp.extend_from_slice(&self.seq.to_be_bytes());
        tcp.extend_from_slice(&self.ack.to_be_bytes());
        let words = 5 + options.len() as u8 / 4;
        tcp.extend_from_slice(&[words << 4, self.flags]);
        tcp.extend_from_slice(&WINDOW.to_be_bytes());
        tcp.extend_from_slice(&[0; 4]);
        tcp.extend_from_slice(&options);
        tcp.extend_from_slice(&self.payload);
        let mut pseudo = Vec::with_capacity(12 + tcp.len());
        pseudo.extend_from_slice(&self.source.0.to_be_bytes());
        pseudo.extend_from_slice(&self.destination.0.to_be_bytes());
        pseudo.extend_from_slice(&[0, PROTOCOL_TCP]);
        pseudo.extend_from_slice(&(tcp.len() as u16).to_be_bytes());
        pseudo.extend_from_slice(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        ip(PROTOCOL_TCP, self.source.0, self.destination.0, &tcp)
    }

    /// ICMP "destination unreachable" with `code` (1: host, 3: port) from the destination of this segment.
    pub fn unreachable(&self, code: u8) -> Vec<u8> {
        let mut icmp = vec![3, code, 0, 0, 0, 0, 0, 0];
        // The header and the first eight bytes of what could not be delivered (RFC 792).
        icmp.extend_from_slice(&self.encode()[..IP_HEADER + 8]);
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        ip(PROTOCOL_ICMP, self.destination.0, self.source.0, &icmp)
    }
}

pub fn number(address: Ipv4Addr) -> u32 {
    u32::from(address)
}

fn ip(protocol: u8, source: u32, destination: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&((IP_HEADER + payload.len()) as u16).to_be_bytes());
    // Identification 0, don't fragment, time to live 64.
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&source.to_be_bytes());
    packet.extend_from_slice(&destination.to_be_bytes());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn timestamps(mut options: &[u8]) -> Option<(u32, u32)> {
    while let Some(&kind) = options.first() {
        let length = match kind {
            0 => return None,
            1 => 1,
            _ => usize::from(*options.get(1)?).max(2),
        };
        if kind == 8 {
            let at = |at: usize| Some(u32::from_be_bytes(options.get(at..at + 4)?.try_into().ok()?));
            return Some((at(2)?, at(6)?));
        }
        options = options.get(length..)?;
    }
    None
}
