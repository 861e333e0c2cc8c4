//! One socket as the walk over the kernel's socket tables (`iter/tcp`) hands it over.

/// Bits of `CensusSocket::flags`.
pub mod census_flag {
    /// No `struct socket` yet: established but not accepted, or orphaned.
    pub const NO_SOCKET: u8 = 1;
    /// SOCK_DEAD: the application has closed it.
    pub const DEAD: u8 = 2;
    /// `skaddr` of a full socket is its cookie: of a walk over netlink, which does not know the address.
    pub const NO_ADDRESS: u8 = 4;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CensusSocket {
    /// Address of the socket, the key of its events; of small TIME_WAIT and request sockets, their own address.
    pub skaddr: u64,
    /// As in the events; 0 for small TIME_WAIT sockets, the listener's for requests.
    pub cgroup_id: u64,
    /// For a request: the address of its listener. Otherwise 0.
    pub listener: u64,
    pub netns: u32,
    /// As in [`super::state`]. For a small TIME_WAIT socket its substate, FIN_WAIT2 or TIME_WAIT.
    pub state: u8,
    pub family: u8,
    /// For requests: SYN-ACK retransmissions. Otherwise 0.
    pub retransmits: u8,
    /// Of [`census_flag`].
    pub flags: u8,
    pub tuple: super::Tuple,
    /// For small TIME_WAIT sockets: milliseconds until the timer ends them (may be 0), plus 1. Otherwise 0:
    /// so that 0 tells a full FIN_WAIT2 socket from a small one.
    pub remaining_ms_plus_1: u32,
    /// For listeners: length of the accept queue.
    pub ack_backlog: u32,
    /// For listeners: its bound.
    pub max_ack_backlog: u32,
}

const _: () = assert!(size_of::<CensusSocket>() == 3 * 8 + 4 + 4 + 36 + 3 * 4);
