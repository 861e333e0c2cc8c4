//! The tracker and the census: start-up, and healing of what was lost without a trace.
//!
//! Order for the caller: attach the probes; [`Tracker::begin_walk`]; walk over the socket tables; drain the ring past the end of the walk;
//! [`Tracker::reconcile`]. Full sockets only: TIME_WAIT, small FIN_WAIT2 and half-open requests have no events and no place here.

use super::connection::{Connection, Listener};
use super::tracker::{Tracker, emit_appeared, emit_end_missed, emit_listener_end_missed};
use super::{Outcome, is_reachable};
use crate::event::{CgroupId, KernelTime, NetnsId, Owner, SocketId, TcpState, Tuple};

/// An event is reported before the change shows in the socket tables: microseconds for a state, longer for a birth, since connect() looks
/// for a free port after it (milliseconds when ports are short). Younger changes are not held against a walk.
const SETTLING_NS: u64 = 10_000_000;

/// A full socket as a walk over the kernel's tables met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub socket: SocketId,
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    pub state: TcpState,
    pub tuple: Tuple,
}

impl Tracker {
    /// A walk begins at `at`: from now on ends are remembered, so that a socket that the walk met is not taken for alive.
    pub fn begin_walk(&mut self, at: KernelTime) {
        self.abandon_walk();
        self.walk.started = Some(at);
    }

    /// The walk failed, or it is over: ends need not be remembered any longer.
    pub fn abandon_walk(&mut self) {
        self.walk.started = None;
        self.walk.overflowed = false;
        self.walk.ended.clear();
    }

    /// Follows a socket that was there before its first event. A socket already followed stays as it is; so does a full table, since the
    /// newcomer is older than all in it ([`Outcome::TableFull`]).
    pub fn seed(&mut self, seed: &Seed, at: KernelTime, emit: &mut impl FnMut(Outcome)) {
        if self.connections.get(&seed.socket).is_some() || self.listeners.get(&seed.socket).is_some() {
            return;
        }
        match seed.state {
            TcpState::Listen => {
                let Seed { socket, cgroup, netns, tuple, .. } = *seed;
                let listener = Listener { tuple, owner: Owner::default(), cgroup, netns, since: at, walk: self.walks };
                self.insert_listener(socket, listener, emit);
            }
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => {
                let connection = Connection::seeded(at, seed.cgroup, seed.netns, seed.state, seed.tuple);
                if self.connections.len() >= self.connections.limit() {
                    return emit(Outcome::TableFull);
                }
                self.insert(seed.socket, connection, emit);
            }
            // No full socket of the tables is in these.
            TcpState::TimeWait | TcpState::Close | TcpState::NewSynRecv => {}
        }
    }

    /// Compares the table with what a walk that began at `walk_started` met, over **all** followed namespaces, and heals the difference.
    /// Whatever changed since the walk began is newer than the walk and stays.
    pub fn reconcile(
        &mut self,
        walk_started: KernelTime,
        seen: impl Iterator<Item = Seed>,
        emit: &mut impl FnMut(Outcome),
    ) {
        self.walks = self.walks.wrapping_add(1);
        for seed in seen {
            if let Some(connection) = self.connections.get_mut(&seed.socket) {
                connection.walk = self.walks;
                adopt(connection, &seed, walk_started, emit);
            } else if let Some(listener) = self.listeners.get_mut(&seed.socket) {
                listener.walk = self.walks;
                if listener.tuple.sport == 0 && seed.state == TcpState::Listen {
                    listener.tuple = seed.tuple;
                    let listener = *listener;
                    self.remember_owner(&listener);
                }
            } else if !self.walk.overflowed && !self.walk.ended.contains(&seed.socket) {
                self.seed(&seed, walk_started, emit);
            }
        }
        self.drop_unseen(walk_started, emit);
        self.abandon_walk();
    }

    /// Settles what the walk did not meet although it was there before.
    fn drop_unseen(&mut self, walk_started: KernelTime, emit: &mut impl FnMut(Outcome)) {
        let walks = self.walks;
        let gone: Vec<SocketId> = self
            .connections()
            .filter(|(_, connection)| connection.walk != walks && is_settled(connection.changed_at(), walk_started))
            .map(|(socket, _)| socket)
            .collect();
        for socket in gone {
            if let Some(old) = self.connections.remove(&socket) {
                emit_end_missed(&old, emit);
            }
        }
        let gone: Vec<SocketId> = self
            .listeners()
            .filter(|(_, listener)| listener.walk != walks && is_settled(listener.since, walk_started))
            .map(|(socket, _)| socket)
            .collect();
        for socket in gone {
            if let Some(old) = self.listeners.remove(&socket) {
                emit_listener_end_missed(&old, emit);
            }
        }
    }
}

/// Whether a change was old enough to show when the walk began.
fn is_settled(changed_at: KernelTime, walk_started: KernelTime) -> bool {
    walk_started.since(changed_at).is_some_and(|age| age > SETTLING_NS)
}

/// Takes over the state that the walk met, if it is the newer knowledge.
fn adopt(connection: &mut Connection, seed: &Seed, walk_started: KernelTime, emit: &mut impl FnMut(Outcome)) {
    if connection.tuple.sport == 0 {
        // An active open gets its port after its birth event.
        connection.tuple = seed.tuple;
    }
    if connection.state == seed.state || !is_settled(connection.changed_at(), walk_started) {
        return;
    }
    if is_reachable(connection.state, seed.state) {
        emit(Outcome::Moved {
            netns: connection.netns,
            cgroup: connection.cgroup,
            from: Some(connection.state),
            to: Some(seed.state),
        });
        return connection.heal(walk_started, seed.state, emit);
    }
    emit_end_missed(connection, emit);
    let seeded = Connection::seeded(walk_started, seed.cgroup, seed.netns, seed.state, seed.tuple);
    *connection = seeded.met_by(connection.walk);
    emit_appeared(connection, emit);
}
