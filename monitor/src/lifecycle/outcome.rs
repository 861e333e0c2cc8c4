//! What the tracker concludes from events: the aggregates' only input, and the source of `synfin trace`.

use crate::event::{CgroupId, KernelTime, NetnsId, Owner, SocketId, TcpState, Tuple};

/// Declares an enum with a metric label for each variant.
macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $label)] $variant,)* }
        impl $name {
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            pub const COUNT: usize = [$($label,)*].len();
            pub fn index(self) -> usize { self as usize }
            /// The metric label value.
            pub fn label(self) -> &'static str { match self { $(Self::$variant => $label,)* } }
        }
    };
}

labelled! {
    /// Which side of the handshake this host had.
    Role {
        /// Active open.
        Client = "client",
        /// Passive open.
        Server = "server",
        /// The opening was not seen.
        Unknown = "unknown",
    }
}

labelled! {
    /// How a connection left the synchronized states.
    Close {
        /// Our FIN went first.
        Local = "local",
        /// The peer's FIN came first.
        Remote = "remote",
        /// Both sent a FIN before they had seen the other's.
        Simultaneous = "simultaneous",
        /// A reset, sent or received.
        Reset = "reset",
        /// Retransmissions, keep-alive or user timeout gave up.
        Timeout = "timeout",
        Unknown = "unknown",
    }
}

labelled! {
    /// Why SYN_SENT ended elsewhere than in ESTABLISHED.
    ConnectFailure {
        Refused = "refused",
        Timeout = "timeout",
        Unreachable = "unreachable",
        Reset = "reset",
        Cancelled = "cancelled",
        NoLocalPort = "no_local_port",
        Other = "other",
    }
}

labelled! {
    /// Why a handshake has no honest duration.
    Unmeasured {
        /// Opened from a SYN cookie: the kernel kept no time of the SYN-ACK.
        SynCookie = "syn_cookie",
        /// A SYN-ACK was retransmitted and the time of the first is not known.
        SynackRetransmitted = "synack_retransmitted",
        /// The handshake began before the daemon did.
        Preexisting = "preexisting",
        /// The record of its beginning was lost or evicted.
        EventLost = "event_lost",
        /// The kernel took no round-trip sample.
        NoSample = "no_sample",
    }
}

labelled! {
    /// How a connection enters or misses the small-socket wait after CLOSE.
    Wait {
        /// No small socket follows.
        None = "none",
        /// A small TIME_WAIT socket follows (unless the kernel's bucket limit refuses it).
        TimeWait = "time_wait",
        /// A small FIN_WAIT2 socket follows; it turns to TIME_WAIT silently when the peer's FIN comes.
        FinWait2 = "fin_wait2",
    }
}

labelled! {
    /// Whose FIN went first.
    FirstFin {
        /// Neither side sent one that was seen.
        None = "none",
        Local = "local",
        Remote = "remote",
        /// They crossed.
        Both = "both",
    }
}

/// Duration of a handshake, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeTime {
    /// Nanoseconds; client: SYN sent → ESTABLISHED, server: first SYN-ACK sent → final ACK.
    Measured(u64),
    /// Microseconds that are exact unless the connection came from a SYN cookie: the sample is a whole number of
    /// milliseconds, as the kernel makes them from TCP timestamps. Only the cookie counter of the namespace can tell.
    Suspect(u64),
    Unmeasured(Unmeasured),
}

/// A connection that has ended, whole: what `synfin trace` prints. A passive child that died before ESTABLISHED is one too; its `from` is
/// [`TcpState::SynRecv`], and it counts as neither opened nor closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub at: KernelTime,
    pub socket: SocketId,
    pub netns: NetnsId,
    pub cgroup: CgroupId,
    pub tuple: Tuple,
    pub owner: Owner,
    pub role: Role,
    pub close: Close,
    pub wait: Wait,
    /// State it was in when it ended.
    pub from: TcpState,
    /// The errno with which it ended, or 0.
    pub sk_err: u32,
    /// Nanoseconds; `None` when not measured, or when only a cookie counter could tell whether it is true.
    pub handshake_ns: Option<u64>,
    /// ESTABLISHED → end, nanoseconds; `None` when ESTABLISHED was not seen.
    pub lifetime_ns: Option<u64>,
    /// First FIN → second FIN, nanoseconds: the half-closed interval; `None` when there was none or it was not seen.
    pub half_closed_ns: Option<u64>,
    /// Payload bytes sent and acknowledged; SYN and FIN not counted.
    pub bytes_sent: u64,
    /// Payload bytes received; FIN not counted.
    pub bytes_received: u64,
    /// Segments sent again during the whole life, those of the handshake included.
    pub retransmits: u32,
}

impl Finished {
    /// Whose FIN went first, whatever ended the connection later: the last state tells.
    pub fn first_fin(&self) -> FirstFin {
        match self.from {
            TcpState::FinWait1 | TcpState::FinWait2 => FirstFin::Local,
            TcpState::CloseWait | TcpState::LastAck => FirstFin::Remote,
            TcpState::Closing => FirstFin::Both,
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::Listen
            | TcpState::NewSynRecv => FirstFin::None,
        }
    }
}

/// A connect() that did not reach ESTABLISHED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    pub at: KernelTime,
    pub socket: SocketId,
    pub netns: NetnsId,
    pub cgroup: CgroupId,
    pub tuple: Tuple,
    pub owner: Owner,
    pub reason: ConnectFailure,
    pub sk_err: u32,
    /// SYN_SENT → CLOSE, nanoseconds; `None` when the start was not seen.
    pub lasted_ns: Option<u64>,
    pub retransmits: u32,
}

/// One conclusion of the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A followed socket changed its state. `None` stands for "not followed": before birth or discovery, after the end or eviction.
    /// The sum of all moves is what the tracker holds, at any moment.
    Moved {
        netns: NetnsId,
        cgroup: CgroupId,
        from: Option<TcpState>,
        to: Option<TcpState>,
    },
    /// Reached ESTABLISHED, or a later state without it (a Fast Open child may), or was later found to have.
    Opened {
        role: Role,
        handshake: HandshakeTime,
    },
    /// A SYN or SYN-ACK was sent again, `count` times.
    HandshakeRetransmits {
        role: Role,
        count: u32,
    },
    /// Left a state in which both entry and exit were seen and mean what they say; nanoseconds.
    Dwelt {
        state: TcpState,
        duration_ns: u64,
    },
    Finished(Finished),
    Failed(Failed),
    /// The stored state differed from the event's `from`: a record was lost; the stored one was replaced.
    Healed {
        stored: TcpState,
        reported: TcpState,
    },
    /// The end of a life was lost: a birth came for its address, a record that cannot belong to it, or the census no longer has it.
    /// It has no duration and no reason.
    EndMissed {
        /// State it was last known in.
        last: TcpState,
        role: Role,
    },
    /// The table was full: the oldest socket is no longer followed (its later events count as of role `unknown`).
    Evicted {
        last: TcpState,
        role: Role,
    },
    /// A walk met a socket for which the full table had no room. Said again at each walk as long as that is so.
    TableFull,
    /// A pair of states that no known kernel makes.
    Odd {
        from: TcpState,
        to: TcpState,
    },
}
