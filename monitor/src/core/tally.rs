//! A walk, counted by state, and as the tracker wants it.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::aggregate::{PerState, SmallSockets};
use crate::census::{self, Kind};
use crate::event::{CgroupId, NetnsId, SocketId, TcpState, Tuple};
use crate::lifecycle::{Seed, Tracker};

/// A full socket of a walk, for the tracker.
pub fn seed(found: &census::Found) -> Option<Seed> {
    match found.kind {
        Kind::Full { state, .. } => {
            Some(Seed { socket: found.socket, cgroup: found.cgroup, netns: found.netns, state, tuple: found.tuple })
        }
        Kind::Waiting { .. } | Kind::Request { .. } => None,
    }
}

/// The followed sockets by their ends: for walks that do not know addresses.
pub struct Addresses(HashMap<(NetnsId, Tuple), SocketId, FixedState>);

impl Addresses {
    pub fn of(tracker: &Tracker) -> Self {
        let connections = tracker.connections().map(|(socket, each)| ((each.netns, each.tuple), socket));
        let listeners = tracker.listeners().map(|(socket, each)| ((each.netns, each.tuple), socket));
        Self(connections.chain(listeners).collect())
    }

    /// With the address of a socket that is followed.
    pub fn name(&self, found: census::Found) -> census::Found {
        match (found.has_address, self.0.get(&(found.netns, found.tuple))) {
            (false, Some(&socket)) => census::Found { socket, ..found },
            (true, _) | (false, None) => found,
        }
    }
}

/// A walk, counted.
pub struct Tally {
    /// All of them.
    pub sockets: u64,
    pub full: PerState<u64>,
    pub small: SmallSockets,
    pub small_by_netns: BTreeMap<NetnsId, SmallSockets>,
    /// Places of the full sockets in the walk: few, where TIME_WAIT is many.
    pub whole: Vec<u32>,
    /// Full sockets are named by their addresses, as in events.
    pub has_addresses: bool,
    /// Half-open requests by the cgroup of their listener, ascending.
    pub requests: Vec<(CgroupId, u64)>,
}

impl Tally {
    /// Of sockets with their places in the walk.
    pub fn of(found: impl Iterator<Item = (u32, census::Found)>) -> Self {
        let mut tally = Self {
            sockets: 0,
            full: [0; TcpState::COUNT],
            small: SmallSockets::default(),
            small_by_netns: BTreeMap::new(),
            whole: Vec::new(),
            has_addresses: true,
            requests: Vec::new(),
        };
        // A walk takes one namespace after the other.
        let (mut netns, mut small) = (NetnsId::default(), SmallSockets::default());
        let mut listeners = HashMap::new();
        let mut requests = BTreeMap::new();
        for (place, socket) in found {
            tally.sockets += 1;
            if socket.netns != netns {
                tally.close(netns, std::mem::take(&mut small));
                netns = socket.netns;
            }
            match socket.kind {
                Kind::Full { state, .. } => {
                    tally.full[state.index()] += 1;
                    tally.whole.push(place);
                    tally.has_addresses &= socket.has_address;
                    if state == TcpState::Listen {
                        listeners.insert(socket.socket, socket.cgroup);
                    }
                }
                Kind::Waiting { substate: TcpState::FinWait2, .. } => small.fin_wait2 += 1,
                Kind::Waiting { .. } => small.time_wait += 1,
                Kind::Request { listener, .. } => {
                    small.requests += 1;
                    // Listeners come first in a walk. One that was closed since leaves its requests without an owner.
                    let cgroup = listeners.get(&listener).copied().unwrap_or_default();
                    *requests.entry(cgroup).or_insert(0) += 1;
                }
            }
        }
        tally.close(netns, small);
        tally.requests = requests.into_iter().collect();
        tally
    }

    /// Adds what was met of one namespace.
    fn close(&mut self, netns: NetnsId, small: SmallSockets) {
        self.small += small;
        if small != SmallSockets::default() {
            *self.small_by_netns.entry(netns).or_default() += small;
        }
    }
}
