//! The table of living sockets: finds the life an event belongs to, and settles those whose end was lost.

use hashbrown::HashSet;

use super::connection::{Connection, Listener};
use super::handshake::Synacks;
use super::{Bounded, Outcome, Role, TransitionKind, transition_kind};
use crate::event::{Detail, Event, KernelTime, NetnsId, Owner, SocketId, TcpState, Transition};

/// A host has at most a few thousand listeners; the bound only guards memory (about 8 MiB).
const LISTENERS_LIMIT: usize = 65_536;

/// Ends remembered while a walk goes on: seconds of the fastest churn a host can make, about 4 MiB.
const ENDED_LIMIT: usize = 262_144;

/// What the tracker must know of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `tcp_retransmit_synack` is attached, so that each repeated SYN-ACK comes as an event of its own.
    pub synack_probe: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { synack_probe: true }
    }
}

/// A walk over the kernel's socket tables that has begun and is not reconciled yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    pub(super) started: Option<KernelTime>,
    /// Sockets whose end came since then.
    pub(super) ended: HashSet<SocketId, foldhash::fast::FixedState>,
    /// There were more of them than are remembered, so a stranger that the walk met may be dead.
    pub(super) overflowed: bool,
}

/// Follows every socket from its first event to its last. Equal events give equal outcomes.
#[derive(Clone, Debug)]
pub struct Tracker {
    pub(super) connections: Bounded<SocketId, Connection>,
    pub(super) listeners: Bounded<SocketId, Listener>,
    /// Who listens on a port: the owner of the connections accepted there.
    pub(super) owners: Bounded<(NetnsId, u16), Owner>,
    synacks: Synacks,
    options: Options,
    pub(super) walk: Walk,
    pub(super) walks: u32,
}

impl Tracker {
    /// Follows at most `limit` connections (listeners not counted), about 160 bytes each, taken as they come.
    pub fn new(limit: usize) -> Self {
        Self::with_options(limit, Options::default())
    }

    pub fn with_options(limit: usize, options: Options) -> Self {
        Self {
            connections: Bounded::new(limit),
            listeners: Bounded::new(LISTENERS_LIMIT),
            owners: Bounded::new(LISTENERS_LIMIT),
            synacks: Synacks::default(),
            options,
            walk: Walk::default(),
            walks: 0,
        }
    }

    /// Followed connections, listeners not counted.
    pub fn tracked(&self) -> usize {
        self.connections.len()
    }

    pub fn limit(&self) -> usize {
        self.connections.limit()
    }

    /// Whether the walk under way may leave strangers out: more ends than are remembered.
    pub fn forgets_ends(&self) -> bool {
        self.walk.overflowed
    }

    /// Oldest first.
    pub fn connections(&self) -> impl Iterator<Item = (SocketId, &Connection)> {
        self.connections.iter().map(|(&socket, connection)| (socket, connection))
    }

    /// Oldest first.
    pub fn listeners(&self) -> impl Iterator<Item = (SocketId, &Listener)> {
        self.listeners.iter().map(|(&socket, listener)| (socket, listener))
    }

    pub fn connection(&self, socket: SocketId) -> Option<&Connection> {
        self.connections.get(&socket)
    }

    /// Takes in one event; `emit` gets what follows from it, in order.
    pub fn handle_event(&mut self, event: &Event, emit: &mut impl FnMut(Outcome)) {
        match event {
            Event::Transition(transition) => self.handle_transition(transition, emit),
            Event::SynackRetransmit(retransmit) => {
                self.synacks.handle_retransmit(retransmit);
                emit(Outcome::HandshakeRetransmits { role: Role::Server, count: 1 });
            }
        }
    }

    fn handle_transition(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        let kind = transition_kind(t.from, t.to);
        match kind {
            TransitionKind::Step | TransitionKind::SelfStep if t.to != TcpState::Close => self.handle_step(t, emit),
            // CLOSE→CLOSE: neither before nor after is there a socket to follow.
            TransitionKind::Step | TransitionKind::SelfStep => {}
            TransitionKind::Birth if t.to == TcpState::Listen => self.handle_listen(t, emit),
            TransitionKind::Birth => self.handle_birth(t, emit),
            TransitionKind::End if t.from == TcpState::Listen => self.handle_listener_end(t, emit),
            TransitionKind::End => self.handle_end(t, emit),
            TransitionKind::Odd => self.handle_odd(t, emit),
        }
    }

    fn handle_birth(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        if !self.listeners.is_empty() {
            self.settle_listener(t.socket, emit);
        }
        self.insert(t.socket, Connection::born(t), emit);
    }

    /// Adds a connection and says so; what it displaces is settled first.
    pub(super) fn insert(&mut self, socket: SocketId, connection: Connection, emit: &mut impl FnMut(Outcome)) {
        let connection = connection.met_by(self.walks);
        let displaced = self.connections.insert(socket, connection);
        if let Some(old) = displaced.replaced {
            emit_end_missed(&old, emit);
        }
        if let Some((_, old)) = displaced.evicted {
            emit(Outcome::Moved { netns: old.netns, cgroup: old.cgroup, from: Some(old.state), to: None });
            emit(Outcome::Evicted { last: old.state, role: old.role });
        }
        emit_appeared(&connection, emit);
    }

    fn handle_step(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        let Some(connection) = self.connections.get_mut(&t.socket) else {
            return self.handle_step_of_stranger(t, emit);
        };
        if !connection.may_be(t) {
            // The address has changed hands: an end and a birth were lost.
            emit_end_missed(connection, emit);
            *connection = Connection::found(t.at, t.cgroup, t.netns, t.from).met_by(self.walks);
            emit_appeared(connection, emit);
        }
        let before = connection.state;
        connection.heal(t.at, t.from, emit);
        if before != t.to {
            emit(Outcome::Moved {
                netns: connection.netns,
                cgroup: connection.cgroup,
                from: Some(before),
                to: Some(t.to),
            });
        }
        if t.from == t.to {
            return;
        }
        connection.step(t, &mut self.synacks, &self.options, emit);
        if t.to == TcpState::Established && connection.owner.tgid == 0 {
            // Only now is the address of a listener's child known on every kernel.
            if let Some(owner) = self.owners.get(&(connection.netns, connection.tuple.sport)) {
                connection.owner = *owner;
            }
        }
    }

    /// A change of a socket whose birth was lost, evicted or before the daemon's time; or of a listener's child, whose birth
    /// this is the first to tell of.
    fn handle_step_of_stranger(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        self.settle_listener(t.socket, emit);
        self.insert(t.socket, Connection::found(t.at, t.cgroup, t.netns, t.from), emit);
        self.handle_step(t, emit);
    }

    fn handle_end(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        let mut connection = match self.connections.remove(&t.socket) {
            Some(known) if known.may_be(t) => known,
            other => {
                if let Some(known) = other {
                    emit_end_missed(&known, emit);
                }
                self.settle_listener(t.socket, emit);
                let stranger = Connection::found(t.at, t.cgroup, t.netns, t.from);
                emit_appeared(&stranger, emit);
                stranger
            }
        };
        self.remember_end(t);
        emit(Outcome::Moved {
            netns: connection.netns,
            cgroup: connection.cgroup,
            from: Some(connection.state),
            to: None,
        });
        connection.heal(t.at, t.from, emit);
        let end = match &t.detail {
            Detail::End(end) => Some(end),
            Detail::Step | Detail::Start { .. } | Detail::Open(_) => None,
        };
        connection.finish(t, end, &self.options, emit);
    }

    fn handle_listen(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        if let Some(old) = self.connections.remove(&t.socket) {
            emit_end_missed(&old, emit);
        }
        let (tuple, owner) = match t.detail {
            Detail::Start { tuple, owner } => (tuple, owner),
            Detail::Step | Detail::Open(_) | Detail::End(_) => (crate::event::Tuple::UNKNOWN, Owner::default()),
        };
        let listener = Listener { tuple, owner, cgroup: t.cgroup, netns: t.netns, since: t.at, walk: self.walks };
        self.insert_listener(t.socket, listener, emit);
    }

    /// Adds a listener and says so; what it displaces is settled first.
    pub(super) fn insert_listener(&mut self, socket: SocketId, listener: Listener, emit: &mut impl FnMut(Outcome)) {
        self.remember_owner(&listener);
        let displaced = self.listeners.insert(socket, listener);
        if let Some(old) = displaced.replaced {
            emit_listener_end_missed(&old, emit);
        }
        if let Some((_, old)) = displaced.evicted {
            emit_listener_gone(&old, emit);
            emit(Outcome::Evicted { last: TcpState::Listen, role: Role::Unknown });
        }
        emit(Outcome::Moved { netns: listener.netns, cgroup: listener.cgroup, from: None, to: Some(TcpState::Listen) });
    }

    /// Remembers who listens where. Several listeners of one port (SO_REUSEPORT, several addresses) usually have one owner; the last
    /// one counts. Outlives the listener: its last connections still open.
    pub(super) fn remember_owner(&mut self, listener: &Listener) {
        if listener.tuple.sport != 0 && listener.owner.tgid != 0 {
            self.owners.insert((listener.netns, listener.tuple.sport), listener.owner);
        }
    }

    fn handle_listener_end(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        if let Some(listener) = self.listeners.remove(&t.socket) {
            emit_listener_gone(&listener, emit);
        }
        if let Some(old) = self.connections.remove(&t.socket) {
            emit_end_missed(&old, emit);
        }
        self.remember_end(t);
    }

    /// A pair that no known kernel makes: counted, and the socket is believed to be where the record says, with nothing known of before.
    #[cold]
    fn handle_odd(&mut self, t: &Transition, emit: &mut impl FnMut(Outcome)) {
        emit(Outcome::Odd { from: t.from, to: t.to });
        if t.to == TcpState::Close {
            return self.handle_end(t, emit);
        }
        if t.to == TcpState::Listen {
            return self.handle_listen(t, emit);
        }
        self.settle_listener(t.socket, emit);
        self.insert(t.socket, Connection::found(t.at, t.cgroup, t.netns, t.to), emit);
    }

    /// The address of a listener turned out to be another socket's: its end was lost.
    fn settle_listener(&mut self, socket: SocketId, emit: &mut impl FnMut(Outcome)) {
        if let Some(listener) = self.listeners.remove(&socket) {
            emit_listener_end_missed(&listener, emit);
        }
    }

    fn remember_end(&mut self, t: &Transition) {
        if self.walk.started.is_some_and(|started| t.at >= started) {
            if self.walk.ended.len() < ENDED_LIMIT {
                self.walk.ended.insert(t.socket);
            } else {
                self.walk.overflowed = true;
            }
        }
    }
}

/// A connection is followed from now on.
pub(super) fn emit_appeared(connection: &Connection, emit: &mut impl FnMut(Outcome)) {
    let (netns, cgroup) = (connection.netns, connection.cgroup);
    emit(Outcome::Moved { netns, cgroup, from: None, to: Some(connection.state) });
}

pub(super) fn emit_end_missed(old: &Connection, emit: &mut impl FnMut(Outcome)) {
    emit(Outcome::Moved { netns: old.netns, cgroup: old.cgroup, from: Some(old.state), to: None });
    emit(Outcome::EndMissed { last: old.state, role: old.role });
}

pub(super) fn emit_listener_end_missed(old: &Listener, emit: &mut impl FnMut(Outcome)) {
    emit_listener_gone(old, emit);
    emit(Outcome::EndMissed { last: TcpState::Listen, role: Role::Unknown });
}

fn emit_listener_gone(old: &Listener, emit: &mut impl FnMut(Outcome)) {
    emit(Outcome::Moved { netns: old.netns, cgroup: old.cgroup, from: Some(TcpState::Listen), to: None });
}
