//! One followed socket: what is remembered of it, and what its ways through the states say.

use std::num::NonZeroU64;

use super::handshake::{Synacks, client_handshake, server_handshake};
use super::{Close, ConnectFailure, Failed, Finished, HandshakeTime, Options, Outcome, Role, Unmeasured, Wait};
use super::{close_reason, connect_failure, is_reachable, payload_bytes, wait_after};
use crate::event::{CgroupId, Detail, End, KernelTime, NetnsId, Open, Owner, TcpState, Transition, Tuple};

/// A moment in 8 bytes; time 0 (the boot of the machine) stands for "not seen".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp(Option<NonZeroU64>);

impl Stamp {
    fn at(time: KernelTime) -> Self {
        Self(NonZeroU64::new(time.0))
    }

    fn time(self) -> Option<KernelTime> {
        self.0.map(|ns| KernelTime(ns.get()))
    }

    /// Nanoseconds from this moment to `later`.
    fn until(self, later: KernelTime) -> Option<u64> {
        later.since(self.time()?)
    }
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The port is 0 for a listen() without bind() until a census has seen it.
    pub tuple: Tuple,
    pub owner: Owner,
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    /// When it was born or first seen.
    pub since: KernelTime,
    /// Number of the last walk that met it.
    pub(super) walk: u32,
}

/// A socket in any other state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub tuple: Tuple,
    pub owner: Owner,
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    pub role: Role,
    pub state: TcpState,
    /// Found by a census, not by its birth.
    seeded: bool,
    /// Whether `changed_at` is the entry into `state` or only when it was learnt of.
    entry_seen: bool,
    changed_at: KernelTime,
    /// Entry into SYN_SENT.
    started_at: Stamp,
    opened_at: Stamp,
    first_fin_at: Stamp,
    second_fin_at: Stamp,
    handshake_ns: Option<u64>,
    /// Number of the last walk that met it.
    pub(super) walk: u32,
}

/// The promise of bounded memory: with its key, its links and its place in the hash table a connection takes 160 bytes.
const _: () = assert!(size_of::<Connection>() <= 136);

impl Connection {
    /// A life seen from its beginning.
    pub(super) fn born(t: &Transition) -> Self {
        let mut born = Self::found(t.at, t.cgroup, t.netns, t.to);
        if let Detail::Start { tuple, owner } = t.detail {
            (born.tuple, born.owner) = (tuple, owner);
        }
        born.entry_seen = true;
        match t.to {
            TcpState::SynSent => born.started_at = Stamp::at(t.at),
            TcpState::SynRecv => born.role = Role::Server,
            TcpState::Established
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Listen
            | TcpState::Closing
            | TcpState::NewSynRecv => {}
        }
        born
    }

    /// A life met in the middle, in `state`.
    pub(super) fn found(at: KernelTime, cgroup: CgroupId, netns: NetnsId, state: TcpState) -> Self {
        Self {
            tuple: Tuple::UNKNOWN,
            owner: Owner::default(),
            cgroup,
            netns,
            // Nobody but a client is in SYN_SENT; every other state may belong to either side.
            role: if state == TcpState::SynSent { Role::Client } else { Role::Unknown },
            state,
            seeded: false,
            entry_seen: false,
            changed_at: at,
            started_at: Stamp::default(),
            opened_at: Stamp::default(),
            first_fin_at: Stamp::default(),
            second_fin_at: Stamp::default(),
            handshake_ns: None,
            walk: 0,
        }
    }

    /// A life met by the census at `at`.
    pub(super) fn seeded(at: KernelTime, cgroup: CgroupId, netns: NetnsId, state: TcpState, tuple: Tuple) -> Self {
        Self { seeded: true, tuple, ..Self::found(at, cgroup, netns, state) }
    }

    /// The same, met by walk number `walk`.
    pub(super) fn met_by(self, walk: u32) -> Self {
        Self { walk, ..self }
    }

    /// Whether `t` can be of this life: the states lead there, the owner is the same and so are the ends, as far as they are known. If
    /// not, the address is another socket's by now, and an end and a birth were lost.
    pub(super) fn may_be(&self, t: &Transition) -> bool {
        let ends = match &t.detail {
            Detail::Open(open) => Some(&open.tuple),
            Detail::End(end) => Some(&end.tuple),
            Detail::Step | Detail::Start { .. } => None,
        };
        is_reachable(self.state, t.from)
            && (self.cgroup == t.cgroup || self.cgroup.0 == 0 || t.cgroup.0 == 0)
            && self.netns == t.netns
            && ends.is_none_or(|ends| self.may_have(ends))
    }

    /// The local address is left to the ports. A local port is believed from ESTABLISHED on: connect() chooses it after its event, which
    /// may name that of a failed attempt before. The remote end of a listener's child is not known before either.
    fn may_have(&self, ends: &Tuple) -> bool {
        let known = &self.tuple;
        let has_port = self.opened_at.time().is_some() || (self.seeded && self.state.is_synchronized());
        (!has_port || known.sport == ends.sport)
            && (known.dport == 0 || (known.dport == ends.dport && known.daddr == ends.daddr))
    }

    /// When it entered its state; `None` when that was not seen.
    pub fn in_state_since(&self) -> Option<KernelTime> {
        self.entry_seen.then_some(self.changed_at)
    }

    /// When it entered its state or, failing that, when it was learnt to be in it.
    pub fn changed_at(&self) -> KernelTime {
        self.changed_at
    }

    /// When ESTABLISHED was reached; `None` when that was not seen.
    pub fn opened_at(&self) -> Option<KernelTime> {
        self.opened_at.time()
    }

    /// Nanoseconds; `None` as in [`Finished::handshake_ns`].
    pub fn handshake_ns(&self) -> Option<u64> {
        self.handshake_ns
    }

    /// An active open that has neither succeeded nor failed yet.
    pub fn is_attempt(&self) -> bool {
        is_attempt(self.state, self.role)
    }

    /// Takes over a state that was reported by someone else: what lies between was lost.
    pub(super) fn heal(&mut self, at: KernelTime, reported: TcpState, emit: &mut impl FnMut(Outcome)) {
        if self.state == reported {
            return;
        }
        emit(Outcome::Healed { stored: self.state, reported });
        if !self.state.is_synchronized() && reported.is_synchronized() {
            self.settle_role();
            emit(Outcome::Opened { role: self.role, handshake: HandshakeTime::Unmeasured(Unmeasured::EventLost) });
        }
        (self.state, self.changed_at, self.entry_seen) = (reported, at, false);
    }

    /// A role that is still open follows from the state before ESTABLISHED. (The child of a simultaneous open whose birth was lost
    /// cannot be told from a server's.)
    fn settle_role(&mut self) {
        if self.role == Role::Unknown && self.state == TcpState::SynRecv {
            self.role = Role::Server;
        }
    }

    /// Applies a change from `self.state` to `t.to`, which is not CLOSE.
    pub(super) fn step(
        &mut self,
        t: &Transition,
        synacks: &mut Synacks,
        options: &Options,
        emit: &mut impl FnMut(Outcome),
    ) {
        self.emit_dwell(t.at, None, emit);
        if !self.state.is_synchronized() && t.to.is_synchronized() {
            self.open(t, synacks, options, emit);
        }
        match t.to {
            TcpState::FinWait1 | TcpState::CloseWait => self.first_fin_at = Stamp::at(t.at),
            TcpState::LastAck => self.second_fin_at = Stamp::at(t.at),
            // FINs that cross leave no interval in which only one side may send.
            TcpState::Closing => self.first_fin_at = Stamp::default(),
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::Listen
            | TcpState::NewSynRecv => {}
        }
        (self.state, self.changed_at, self.entry_seen) = (t.to, t.at, true);
    }

    fn open(&mut self, t: &Transition, synacks: &mut Synacks, options: &Options, emit: &mut impl FnMut(Outcome)) {
        self.settle_role();
        let handshake = match t.detail {
            Detail::Open(open) => {
                self.tuple = open.tuple;
                self.opened_at = Stamp::at(t.at);
                let repeated = open.total_retrans > 0 && (self.role == Role::Client || !options.synack_probe);
                if repeated {
                    emit(Outcome::HandshakeRetransmits { role: self.role, count: open.total_retrans });
                }
                self.judge_handshake(t, &open, synacks)
            }
            // SYN_RECV→FIN_WAIT1 or CLOSE_WAIT: closed before the final ACK came.
            Detail::Step | Detail::Start { .. } | Detail::End(_) => HandshakeTime::Unmeasured(Unmeasured::NoSample),
        };
        self.handshake_ns = match handshake {
            HandshakeTime::Measured(ns) => Some(ns),
            HandshakeTime::Suspect(_) | HandshakeTime::Unmeasured(_) => None,
        };
        emit(Outcome::Opened { role: self.role, handshake });
    }

    fn judge_handshake(&self, t: &Transition, open: &Open, synacks: &mut Synacks) -> HandshakeTime {
        match self.role {
            Role::Client => {
                let simultaneous = self.state == TcpState::SynRecv;
                client_handshake(t.at, self.started_at.time(), self.seeded, simultaneous, open)
            }
            Role::Server | Role::Unknown => server_handshake(t.at, open, || synacks.take(t.at, t.netns, &open.tuple)),
        }
    }

    /// Concludes the life: everything that its end says. `end` is `None` only for a record that carries no detail of it.
    pub(super) fn finish(
        mut self,
        t: &Transition,
        end: Option<&End>,
        options: &Options,
        emit: &mut impl FnMut(Outcome),
    ) {
        self.emit_dwell(t.at, end, emit);
        self.settle_role();
        if let Some(end) = end {
            self.tuple = end.tuple;
        }
        let (sk_err, retransmits) = end.map_or((0, 0), |end| (end.sk_err, end.total_retrans));
        let opening = !self.state.is_synchronized();
        if opening && retransmits > 0 && (self.role == Role::Client || !options.synack_probe) {
            emit(Outcome::HandshakeRetransmits { role: self.role, count: retransmits });
        }
        if self.is_attempt() {
            return emit(Outcome::Failed(Failed {
                at: t.at,
                socket: t.socket,
                netns: self.netns,
                cgroup: self.cgroup,
                tuple: self.tuple,
                owner: self.owner,
                reason: end.map_or(ConnectFailure::Other, connect_failure),
                sk_err,
                lasted_ns: self.started_at.until(t.at),
                retransmits,
            }));
        }
        let (bytes_sent, bytes_received) = end.map_or((0, 0), |end| payload_bytes(self.role, self.state, end));
        emit(Outcome::Finished(Finished {
            at: t.at,
            socket: t.socket,
            netns: self.netns,
            cgroup: self.cgroup,
            tuple: self.tuple,
            owner: self.owner,
            role: self.role,
            close: end.map_or(Close::Unknown, |end| close_reason(self.state, end)),
            wait: end.map_or(Wait::None, |end| wait_after(self.state, end)),
            from: self.state,
            sk_err,
            handshake_ns: self.handshake_ns,
            lifetime_ns: self.opened_at.until(t.at),
            half_closed_ns: self.half_closed_ns(t.at, end),
            bytes_sent,
            bytes_received,
            retransmits,
        }));
    }

    /// First FIN → second FIN. Ours first: FIN_WAIT1 → the peer's FIN, which ends FIN_WAIT2. The peer's first: CLOSE_WAIT → LAST_ACK.
    fn half_closed_ns(&self, at: KernelTime, end: Option<&End>) -> Option<u64> {
        if let Some(second) = self.second_fin_at.time() {
            return self.first_fin_at.until(second);
        }
        let peer_fin = self.state == TcpState::FinWait2 && end.is_some_and(|end| end.done);
        if peer_fin { self.first_fin_at.until(at) } else { None }
    }

    /// The time in the state that is being left, if it means what it says.
    fn emit_dwell(&self, at: KernelTime, end: Option<&End>, emit: &mut impl FnMut(Outcome)) {
        let meaningful = match self.state {
            TcpState::Established
            | TcpState::SynSent
            | TcpState::FinWait1
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => true,
            // A listener's child only passes through: the handshake itself is spent in a request socket.
            TcpState::SynRecv => self.role == Role::Client,
            // A small socket may go on with the state that the full one leaves.
            TcpState::FinWait2 => end.is_some_and(|end| wait_after(self.state, end) != Wait::FinWait2),
            TcpState::TimeWait | TcpState::Close | TcpState::Listen | TcpState::NewSynRecv => false,
        };
        if let (true, true, Some(duration_ns)) = (meaningful, self.entry_seen, at.since(self.changed_at)) {
            emit(Outcome::Dwelt { state: self.state, duration_ns });
        }
    }
}

/// Whether a socket last known like this was an active open under way.
pub fn is_attempt(state: TcpState, role: Role) -> bool {
    state == TcpState::SynSent || (state == TcpState::SynRecv && role == Role::Client)
}
