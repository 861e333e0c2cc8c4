//! Values that the tests of this crate build upon.

use std::net::Ipv4Addr;

use super::{Close, Finished, HandshakeTime, Outcome, Role, Wait};
use crate::event::{
    CgroupId, Detail, End, Event, Family, KernelTime, NetnsId, Open, Owner, SocketId, TcpState, Transition, Tuple,
    mapped,
};

pub const NETNS: NetnsId = NetnsId(4_026_531_840);
pub const CGROUP: CgroupId = CgroupId(25);
pub const SOCKET: SocketId = SocketId(0xffff_8881_0000_4000);
pub const OWNER: Owner = Owner { tgid: 7, comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0" };

/// 192.0.2.1:`sport` → 198.51.100.2:443.
pub const fn tuple(sport: u16) -> Tuple {
    Tuple {
        family: Family::Inet,
        saddr: mapped(Ipv4Addr::new(192, 0, 2, 1)),
        daddr: mapped(Ipv4Addr::new(198, 51, 100, 2)),
        sport,
        dport: 443,
    }
}

/// No sample, no retransmission.
pub const OPEN: Open = Open { tuple: tuple(40_000), srtt_us: None, total_retrans: 0, fast_open: false };

/// Everything false or zero.
pub const END: End = End {
    tuple: tuple(40_000),
    sk_err: 0,
    shutdown_rcv: false,
    shutdown_send: false,
    dead: false,
    done: false,
    linger_zero: false,
    linger2_negative: false,
    all_acked: false,
    has_socket: false,
    syn_left: false,
    total_retrans: 0,
    bytes_acked: 0,
    bytes_received: 0,
};

/// A client that closed first, after 1.5 s.
pub const FINISHED: Finished = Finished {
    at: KernelTime(5_000_000_000),
    socket: SOCKET,
    netns: NETNS,
    cgroup: CGROUP,
    tuple: OPEN.tuple,
    owner: OWNER,
    role: Role::Client,
    close: Close::Local,
    wait: Wait::TimeWait,
    from: TcpState::FinWait2,
    sk_err: 0,
    handshake_ns: Some(2_000_000),
    lifetime_ns: Some(1_500_000_000),
    half_closed_ns: Some(52_000_000),
    bytes_sent: 100,
    bytes_received: 500,
    retransmits: 0,
};

/// A transition of [`SOCKET`] at `at` nanoseconds.
pub fn transition(at: u64, from: TcpState, to: TcpState, detail: Detail) -> Event {
    Event::Transition(Transition { at: KernelTime(at), socket: SOCKET, cgroup: CGROUP, netns: NETNS, from, to, detail })
}

/// CLOSE→SYN_SENT or CLOSE→LISTEN of [`SOCKET`].
pub fn start(at: u64, to: TcpState, sport: u16) -> Event {
    transition(at, TcpState::Close, to, Detail::Start { tuple: tuple(sport), owner: OWNER })
}

/// An outcome in one line, without what the samples have in common.
pub fn say(outcome: &Outcome) -> String {
    let ms = |ns: u64| format!("{}ms", ns as f64 / 1e6);
    let maybe_ms = |ns: Option<u64>| ns.map_or("-".into(), ms);
    let state = |state: Option<TcpState>| state.map_or("-", TcpState::label);
    match outcome {
        Outcome::Moved { from, to, .. } => format!("{} to {}", state(*from), state(*to)),
        Outcome::Opened { role, handshake } => {
            let handshake = match handshake {
                HandshakeTime::Measured(ns) => ms(*ns),
                HandshakeTime::Suspect(us) => format!("suspect {}", ms(us * 1000)),
                HandshakeTime::Unmeasured(reason) => reason.label().into(),
            };
            format!("opened {} {handshake}", role.label())
        }
        Outcome::HandshakeRetransmits { role, count } => format!("retransmits {} {count}", role.label()),
        Outcome::Dwelt { state, duration_ns } => format!("dwelt {} {}", state.label(), ms(*duration_ns)),
        Outcome::Finished(end) => format!(
            "finished {} {} from {} wait {} handshake {} lifetime {} half-closed {} bytes {} {} owner {}",
            end.role.label(),
            end.close.label(),
            end.from.label(),
            end.wait.label(),
            maybe_ms(end.handshake_ns),
            maybe_ms(end.lifetime_ns),
            maybe_ms(end.half_closed_ns),
            end.bytes_sent,
            end.bytes_received,
            end.owner.tgid
        ),
        Outcome::Failed(end) => format!("failed {} after {}", end.reason.label(), maybe_ms(end.lasted_ns)),
        Outcome::Healed { stored, reported } => format!("healed {} to {}", stored.label(), reported.label()),
        Outcome::EndMissed { last, role } => format!("end missed {} {}", last.label(), role.label()),
        Outcome::Evicted { last, role } => format!("evicted {} {}", last.label(), role.label()),
        Outcome::TableFull => "table full".into(),
        Outcome::Odd { from, to } => format!("odd {} to {}", from.label(), to.label()),
    }
}
