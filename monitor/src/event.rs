//! What happened, in the daemon's own types: the decoder's output and the tracker's input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Kernel monotonic time (CLOCK_MONOTONIC), nanoseconds since boot. Never wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// Nanoseconds from `earlier` to `self`; `None` when the order is wrong (never a negative or wrapped duration).
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

/// Address of a kernel socket: unique among the living, reused at once after death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// Inode number of a cgroup v2 directory; 0 when it could not be learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

/// Inode number of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NetnsId(pub u32);

/// TCP states; discriminants are the kernel's (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    NewSynRecv = 12,
}

impl TcpState {
    pub const COUNT: usize = 12;
    /// In the order of the kernel's numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// From the kernel's number; `None` outside 1..=12.
    pub fn from_kernel(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Position in [`Self::ALL`] and in every per-state array of the aggregates: 0..12.
    pub fn index(self) -> usize {
        self as usize - 1
    }

    /// The metric label value, and the name on the command line.
    pub fn label(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::CloseWait => "close_wait",
            Self::LastAck => "last_ack",
            Self::Listen => "listen",
            Self::Closing => "closing",
            Self::NewSynRecv => "new_syn_recv",
        }
    }

    /// Both ends know of the connection: ESTABLISHED and all that follows it, up to CLOSE (RFC 9293, 3.3.2).
    pub fn is_synchronized(self) -> bool {
        match self {
            Self::Established
            | Self::FinWait1
            | Self::FinWait2
            | Self::TimeWait
            | Self::CloseWait
            | Self::LastAck
            | Self::Closing => true,
            Self::SynSent | Self::SynRecv | Self::Close | Self::Listen | Self::NewSynRecv => false,
        }
    }
}

/// Both ends of a connection as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub family: Family,
    /// Network order; IPv4 (and IPv4 on an IPv6 socket) as IPv4-mapped.
    pub saddr: [u8; 16],
    pub daddr: [u8; 16],
    /// Host order; 0 when not chosen yet or never found.
    pub sport: u16,
    pub dport: u16,
}

impl Tuple {
    pub const UNKNOWN: Self = Self { family: Family::Inet, saddr: [0; 16], daddr: [0; 16], sport: 0, dport: 0 };

    pub fn source(&self) -> Endpoint {
        Endpoint { addr: self.saddr, port: self.sport }
    }
    pub fn destination(&self) -> Endpoint {
        Endpoint { addr: self.daddr, port: self.dport }
    }
}

/// Address family of the socket (an IPv6 socket may carry IPv4-mapped addresses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Inet,
    Inet6,
}

/// An address with its port. Displayed as `192.0.2.1:80` or `[2001:db8::1]:80`; mapped IPv4 as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "SocketAddr", from = "SocketAddr")]
pub struct Endpoint {
    pub addr: [u8; 16],
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addr = Ipv6Addr::from(self.addr);
        // `::` alone is the wildcard of either family; to_ipv4_mapped() leaves it as it is.
        match addr.to_ipv4_mapped() {
            Some(v4) => write!(f, "{v4}:{}", self.port),
            None => write!(f, "[{addr}]:{}", self.port),
        }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        (Ipv6Addr::from(endpoint.addr).to_canonical(), endpoint.port).into()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let addr = match address.ip() {
            IpAddr::V4(v4) => mapped(v4),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { addr, port: address.port() }
    }
}

/// The IPv4-mapped form of an IPv4 address.
pub const fn mapped(v4: Ipv4Addr) -> [u8; 16] {
    v4.to_ipv6_mapped().octets()
}

/// One record of the ring, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Transition(Transition),
    SynackRetransmit(SynackRetransmit),
}

/// One state change of one socket, as the tracepoint reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub at: KernelTime,
    pub socket: SocketId,
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    pub from: TcpState,
    pub to: TcpState,
    pub detail: Detail,
}

impl Transition {
    /// The birth of a listener's child, of which the record of its next change tells (`is_told_by_next` on the kernel side).
    /// Only for a socket that nothing is known of yet; a client that opens simultaneously leaves SYN_RECV as well.
    pub fn birth_before(&self) -> Option<Self> {
        let birth = Self { from: TcpState::Listen, to: TcpState::SynRecv, detail: Detail::Step, ..*self };
        (self.from == TcpState::SynRecv).then_some(birth)
    }
}

/// What a transition carries beyond its states. The kernel side decides by `to`:
/// SYN_SENT and LISTEN bring `Start`, ESTABLISHED brings `Open`, CLOSE brings `End`, all others nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Step,
    Start { tuple: Tuple, owner: Owner },
    Open(Open),
    End(End),
}

/// The process that called connect() or listen().
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id; 0 unknown.
    pub tgid: u32,
    /// Thread name, zero-filled.
    pub comm: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub tuple: Tuple,
    /// Microseconds; the kernel's first round-trip sample, `None` if it has none.
    pub srtt_us: Option<u32>,
    pub total_retrans: u32,
    /// Fast Open: the time in SYN_SENT does not start with the SYN.
    pub fast_open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub tuple: Tuple,
    /// A positive errno, or 0.
    pub sk_err: u32,
    /// Receive side shut down.
    pub shutdown_rcv: bool,
    /// Send side shut down.
    pub shutdown_send: bool,
    /// SOCK_DEAD: closed by the application.
    pub dead: bool,
    /// SOCK_DONE: the peer's FIN was received.
    pub done: bool,
    /// SO_LINGER with a time of zero.
    pub linger_zero: bool,
    pub linger2_negative: bool,
    /// All that was sent is acknowledged, our FIN included.
    pub all_acked: bool,
    /// A process holds the socket.
    pub has_socket: bool,
    /// In SYN_SENT: a SYN did leave.
    pub syn_left: bool,
    pub total_retrans: u32,
    pub bytes_acked: u64,
    pub bytes_received: u64,
}

/// A SYN-ACK sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynackRetransmit {
    pub at: KernelTime,
    pub netns: NetnsId,
    /// `source` is this host.
    pub tuple: Tuple,
    /// SYN-ACK retransmissions before this one.
    pub num_retrans: u32,
    /// When the first SYN-ACK left; `None` if the kernel did not say.
    pub first_synack_at: Option<KernelTime>,
}
