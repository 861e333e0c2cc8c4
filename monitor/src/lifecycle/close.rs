//! How a life ended: pure judgement over the last state and what the kernel said on leaving it.
//!
//! Read from the sources of Linux 5.10, 6.1, 6.12 and 6.18; names of functions below are the kernel's.

use super::{Close, ConnectFailure, Role, Wait};
use crate::event::{End, TcpState};

/// Numbers of include/uapi/asm-generic/errno.h that end a TCP socket.
mod errno {
    pub const EPIPE: u32 = 32;
    pub const EACCES: u32 = 13;
    pub const ENONET: u32 = 64;
    pub const EPROTO: u32 = 71;
    pub const EMSGSIZE: u32 = 90;
    pub const ENOPROTOOPT: u32 = 92;
    pub const EOPNOTSUPP: u32 = 95;
    pub const ENETDOWN: u32 = 100;
    pub const ENETUNREACH: u32 = 101;
    pub const ECONNABORTED: u32 = 103;
    pub const ECONNRESET: u32 = 104;
    pub const ETIMEDOUT: u32 = 110;
    pub const ECONNREFUSED: u32 = 111;
    pub const EHOSTDOWN: u32 = 112;
    pub const EHOSTUNREACH: u32 = 113;
}

/// How a connection in state `from` was closed.
///
/// A close in good order is told by state and sequence numbers alone and wins over `sk_err`: with IP_RECVERR an ICMP message can leave
/// an errno behind that ended nothing.
pub fn close_reason(from: TcpState, end: &End) -> Close {
    match orderly_close(from, end) {
        Some(close) => close,
        None => match end.sk_err {
            // No error and no good order: SO_LINGER of zero, unread data at close(), disconnect, never accepted, TCP_LINGER2 below
            // zero, too many orphans. All of them reset the peer.
            0 | errno::ECONNRESET | errno::EPIPE => Close::Reset,
            // `ss -K`, bpf_sock_destroy(): tcp_abort() resets the peer.
            errno::ECONNABORTED => Close::Reset,
            // tcp_write_err() reports the last ICMP error, if there was one, in place of ETIMEDOUT.
            errno::ETIMEDOUT
            | errno::EHOSTUNREACH
            | errno::ENETUNREACH
            | errno::EHOSTDOWN
            | errno::ENETDOWN
            | errno::ECONNREFUSED
            | errno::ENOPROTOOPT
            | errno::EOPNOTSUPP
            | errno::EMSGSIZE
            | errno::EPROTO
            | errno::ENONET
            | errno::EACCES => Close::Timeout,
            _ => Close::Unknown,
        },
    }
}

/// Both FINs exchanged as the protocol has it (or ours, with the wait for the peer's handed to a small socket).
fn orderly_close(from: TcpState, end: &End) -> Option<Close> {
    match from {
        TcpState::FinWait2 if end.done || is_small_fin_wait2(end) => Some(Close::Local),
        TcpState::Closing if end.all_acked => Some(Close::Simultaneous),
        TcpState::LastAck if end.all_acked => Some(Close::Remote),
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Listen
        | TcpState::Closing
        | TcpState::NewSynRecv => None,
    }
}

/// In FIN_WAIT2: closed by the application, the peer's FIN still to come, so that a small socket goes on waiting for it.
fn is_small_fin_wait2(end: &End) -> bool {
    end.sk_err == 0 && !end.done && end.dead && !end.linger2_negative
}

/// Which small socket the kernel makes of a full one that leaves `from` for CLOSE. FIN_WAIT1→CLOSE never makes one.
///
/// Two resets of an orphan in FIN_WAIT2 (data after close, keep-alive giving up) have the same fields as the ordinary wait; and
/// above `tcp_max_tw_buckets` no socket is made although the fields say so (`TCPTimeWaitOverflow` counts those).
pub fn wait_after(from: TcpState, end: &End) -> Wait {
    match from {
        TcpState::FinWait2 if end.done => Wait::TimeWait,
        TcpState::FinWait2 if is_small_fin_wait2(end) => Wait::FinWait2,
        TcpState::Closing if end.all_acked => Wait::TimeWait,
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Listen
        | TcpState::Closing
        | TcpState::NewSynRecv => Wait::None,
    }
}

/// Why an active open ended before ESTABLISHED.
pub fn connect_failure(end: &End) -> ConnectFailure {
    match end.sk_err {
        errno::ECONNREFUSED => ConnectFailure::Refused,
        errno::ETIMEDOUT => ConnectFailure::Timeout,
        // What the kernel makes of the ICMP and ICMPv6 "destination unreachable" codes (icmp_err_convert, icmpv6_err_convert).
        // Prohibition is EHOSTUNREACH in IPv4 and EACCES in IPv6; a host without TCP is ENOPROTOOPT.
        errno::EHOSTUNREACH
        | errno::ENETUNREACH
        | errno::ENETDOWN
        | errno::EHOSTDOWN
        | errno::ENONET
        | errno::ENOPROTOOPT
        | errno::EOPNOTSUPP
        | errno::EACCES => ConnectFailure::Unreachable,
        errno::ECONNRESET => ConnectFailure::Reset,
        // Killed from this side (`ss -K`): nobody but this host gave up.
        errno::ECONNABORTED => ConnectFailure::Cancelled,
        // close(), exit, shutdown() or connect(AF_UNSPEC) before the answer; the last two leave `sk_shutdown` alone, but a SYN was out.
        0 if end.syn_left || (end.shutdown_rcv && end.shutdown_send) => ConnectFailure::Cancelled,
        // inet_hash_connect() found no free port.
        0 if end.tuple.sport == 0 => ConnectFailure::NoLocalPort,
        _ => ConnectFailure::Other,
    }
}

/// Payload bytes from the kernel's `bytes_acked` and `bytes_received`: `(sent and acknowledged, received)`.
///
/// Both count sequence space. `bytes_acked` (tcp_snd_una_update) starts at the initial sequence number of an active open, so that it
/// counts its SYN; a listener's child starts behind it. Our FIN counts once it is acknowledged. `bytes_received` (tcp_rcv_nxt_update)
/// starts behind the peer's SYN and counts its FIN. Where the role is unknown, the SYN may be one byte too many.
pub fn payload_bytes(role: Role, from: TcpState, end: &End) -> (u64, u64) {
    let syn_acked = role == Role::Client;
    let fin_acked = match from {
        TcpState::FinWait2 => true,
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => end.all_acked,
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::Listen
        | TcpState::NewSynRecv => false,
    };
    let sent = end.bytes_acked.saturating_sub(u64::from(syn_acked) + u64::from(fin_acked));
    (sent, end.bytes_received.saturating_sub(u64::from(end.done)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::samples::{self, END};

    #[test]
    fn closes_are_told_apart() {
        use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck};
        let check = |from, end: End, close, wait| {
            assert_eq!((close_reason(from, &end), wait_after(from, &end)), (close, wait), "{from:?} {end:?}");
        };
        let err = |sk_err| End { sk_err, dead: true, ..END };

        check(FinWait2, End { done: true, ..END }, Close::Local, Wait::TimeWait);
        check(FinWait2, End { done: true, dead: true, ..END }, Close::Local, Wait::TimeWait);
        check(FinWait2, End { dead: true, ..END }, Close::Local, Wait::FinWait2);
        check(FinWait2, End { dead: true, linger2_negative: true, ..END }, Close::Reset, Wait::None);
        check(FinWait2, End { done: true, linger2_negative: true, ..END }, Close::Local, Wait::TimeWait);
        check(
            FinWait2,
            End { shutdown_rcv: true, shutdown_send: true, linger_zero: true, ..END },
            Close::Reset,
            Wait::None,
        );
        check(FinWait2, err(110), Close::Timeout, Wait::None);
        check(FinWait2, err(104), Close::Reset, Wait::None);
        check(Closing, End { all_acked: true, ..END }, Close::Simultaneous, Wait::TimeWait);
        check(Closing, END, Close::Reset, Wait::None);
        check(Closing, err(110), Close::Timeout, Wait::None);
        check(LastAck, End { all_acked: true, ..END }, Close::Remote, Wait::None);
        check(LastAck, End { all_acked: true, sk_err: 113, ..END }, Close::Remote, Wait::None);
        check(LastAck, END, Close::Reset, Wait::None);
        check(LastAck, err(110), Close::Timeout, Wait::None);
        check(FinWait1, END, Close::Reset, Wait::None);
        check(FinWait1, End { all_acked: true, ..END }, Close::Reset, Wait::None);
        check(FinWait1, err(113), Close::Timeout, Wait::None);
        check(Established, END, Close::Reset, Wait::None);
        check(Established, err(104), Close::Reset, Wait::None);
        check(Established, err(103), Close::Reset, Wait::None);
        check(Established, err(101), Close::Timeout, Wait::None);
        check(Established, err(12), Close::Unknown, Wait::None);
        check(CloseWait, err(32), Close::Reset, Wait::None);
        check(CloseWait, END, Close::Reset, Wait::None);
    }

    #[test]
    fn failures_of_connect_are_told_apart() {
        let check = |end: End, reason| assert_eq!(connect_failure(&end), reason, "{end:?}");
        let err = |sk_err| End { sk_err, syn_left: true, ..END };
        let no_port = End { tuple: samples::tuple(0), ..END };

        check(err(111), ConnectFailure::Refused);
        check(err(110), ConnectFailure::Timeout);
        check(err(113), ConnectFailure::Unreachable);
        check(err(101), ConnectFailure::Unreachable);
        check(err(100), ConnectFailure::Unreachable);
        check(err(92), ConnectFailure::Unreachable);
        check(err(13), ConnectFailure::Unreachable);
        check(err(104), ConnectFailure::Reset);
        check(err(103), ConnectFailure::Cancelled);
        check(err(71), ConnectFailure::Other);
        check(err(0), ConnectFailure::Cancelled);
        check(End { shutdown_rcv: true, shutdown_send: true, ..END }, ConnectFailure::Cancelled);
        check(End { shutdown_rcv: true, shutdown_send: true, ..no_port }, ConnectFailure::Cancelled);
        check(End { shutdown_send: true, ..no_port }, ConnectFailure::NoLocalPort);
        check(no_port, ConnectFailure::NoLocalPort);
        check(END, ConnectFailure::Other);
    }

    #[test]
    fn syn_and_fin_are_no_payload() {
        use TcpState::{CloseWait, Established, FinWait2, LastAck};
        let check =
            |role, from, end: End, bytes| assert_eq!(payload_bytes(role, from, &end), bytes, "{role:?} {from:?}");
        let end = End { bytes_acked: 102, bytes_received: 51, all_acked: true, ..END };

        check(Role::Client, FinWait2, End { done: true, ..end }, (100, 50));
        check(Role::Client, Established, end, (101, 51));
        check(Role::Server, LastAck, End { done: true, ..end }, (101, 50));
        check(Role::Server, LastAck, End { done: true, all_acked: false, ..end }, (102, 50));
        check(Role::Server, CloseWait, End { done: true, ..end }, (102, 50));
        check(Role::Unknown, FinWait2, End { done: true, ..end }, (101, 50));
        check(Role::Client, FinWait2, End { bytes_acked: 0, bytes_received: 0, done: true, ..end }, (0, 0));
    }
}
