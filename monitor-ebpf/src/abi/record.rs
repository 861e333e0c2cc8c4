//! Records of the ring: one for each transition, one for each retransmitted SYN-ACK.
//!
//! Every record starts with [`Header`]; `kind` says which record it is. Sizes are multiples of 8.

/// `Header::kind` of each record.
pub mod kind {
    /// No record: the rest of this page of a lane is empty.
    pub const NONE: u8 = 0;
    pub const STEP: u8 = 1;
    pub const START: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const END: u8 = 4;
    pub const SYNACK_RETRANSMIT: u8 = 5;
}

/// The start of every record: when, which socket, whose, and between which states.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// CLOCK_MONOTONIC, nanoseconds (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Address of the `struct sock`: unique among living sockets, reused at once after death.
    pub skaddr: u64,
    /// Inode number of the socket's cgroup v2 directory; 0 when it could not be read.
    pub cgroup_id: u64,
    /// Inode number of the network namespace (`net->ns.inum`).
    pub netns: u32,
    /// One of [`kind`].
    pub kind: u8,
    /// State before, as in [`super::state`]. Equal to `newstate` in records that are no transition.
    pub oldstate: u8,
    pub newstate: u8,
    /// [`super::AF_INET`] or [`super::AF_INET6`].
    pub family: u8,
}

/// Both ends of a connection. A source port of 0 means: not chosen yet, or never found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub saddr: [u8; 16],
    pub daddr: [u8; 16],
    pub sport: u16,
    pub dport: u16,
}

/// A transition of which nothing more than the states is needed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub header: Header,
}

/// CLOSE→SYN_SENT or CLOSE→LISTEN: runs in the context of the process that asked for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub header: Header,
    pub tuple: Tuple,
    /// Process id as user space names it (thread group).
    pub tgid: u32,
    /// Name of the calling thread, filled up with zero bytes.
    pub comm: [u8; 16],
}

/// Bits of `Open::flags`.
pub mod open_flag {
    /// The SYN carried data or asked for a cookie (TCP Fast Open), so SYN_SENT does not date the SYN.
    pub const FAST_OPEN: u32 = 1;
}

/// Any transition to ESTABLISHED.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    pub header: Header,
    pub tuple: Tuple,
    /// `srtt_us >> 3`, microseconds. Only one sample is in it at this point, 0 if none.
    pub srtt_us: u32,
    /// SYN or SYN-ACK retransmissions so far.
    pub total_retrans: u32,
    /// Of [`open_flag`].
    pub flags: u32,
}

/// Bits of `End::flags`.
pub mod end_flag {
    /// `sk_shutdown` (RCV 1, SEND 2) in the lowest byte.
    pub const SHUTDOWN_MASK: u32 = 0xff;
    /// SOCK_DEAD: the application has closed it.
    pub const DEAD: u32 = 1 << 8;
    /// SOCK_DONE: a FIN was received in order.
    pub const DONE: u32 = 1 << 9;
    /// SO_LINGER with a time of zero.
    pub const LINGER_ZERO: u32 = 1 << 10;
    /// `tp->linger2 < 0`: orphans in FIN_WAIT2 are reset.
    pub const LINGER2_NEGATIVE: u32 = 1 << 11;
    /// `snd_una == write_seq`: all that was sent, FIN included, is acknowledged.
    pub const ALL_ACKED: u32 = 1 << 12;
    /// `sk_socket` is set: it was accepted or opened here and not yet closed.
    pub const HAS_SOCKET: u32 = 1 << 13;
    /// `retrans_stamp` is not zero: in SYN_SENT, that a SYN was sent.
    pub const SYN_LEFT: u32 = 1 << 14;
}

/// Any transition to CLOSE. The source port is read from `inet_sport`, which is still valid here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub header: Header,
    pub tuple: Tuple,
    /// `sk_err`, a positive errno or 0.
    pub sk_err: u32,
    /// Of [`end_flag`].
    pub flags: u32,
    /// Retransmissions during the whole life.
    pub total_retrans: u32,
    /// Payload bytes that the peer acknowledged; one more for our FIN, and for a client one more for its SYN.
    pub bytes_acked: u64,
    /// Payload bytes received (and, after the peer's FIN, one more).
    pub bytes_received: u64,
}

/// `tcp:tcp_retransmit_synack`: a SYN-ACK is sent again. `header.skaddr` is the listener (or the Fast Open child),
/// both states of the header are 0, the tuple is the request's (`saddr:sport` is this host).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynackRetransmit {
    pub header: Header,
    pub tuple: Tuple,
    /// SYN-ACK retransmissions before this one.
    pub num_retrans: u32,
    /// When the first SYN-ACK left: CLOCK_MONOTONIC, microseconds; 0 if unknown.
    pub snt_synack_us: u64,
}

/// The largest record; a reader may bound its reads by it.
pub const LARGEST: usize = size_of::<End>();

// No padding: each size is the sum of its fields, and the next one is aligned.
const _: () = assert!(size_of::<Header>() == 3 * 8 + 4 + 4);
const _: () = assert!(size_of::<Tuple>() == 2 * 16 + 2 * 2);
const _: () = assert!(size_of::<Step>() == size_of::<Header>());
const _: () = assert!(size_of::<Start>() == 32 + 36 + 4 + 16);
const _: () = assert!(size_of::<Open>() == 32 + 36 + 3 * 4);
const _: () = assert!(size_of::<End>() == 32 + 36 + 3 * 4 + 2 * 8);
const _: () = assert!(size_of::<SynackRetransmit>() == 32 + 36 + 4 + 8);
