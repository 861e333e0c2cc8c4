//! A walk, counted by state, and as the tracker wants it.

use std::collections::BTreeMap;

use crate::aggregate::{PerState, SmallSockets};
use crate::census::{self, Kind};
use crate::event::{CgroupId, NetnsId, TcpState};
use crate::lifecycle::Seed;

/// A full socket of a walk, for the tracker.
pub fn seed(found: &census::Found) -> Option<Seed> {
    match found.kind {
        Kind::Full { state, .. } => {
            Some(Seed { socket: found.socket, cgroup: found.cgroup, netns: found.netns, state, tuple: found.tuple })
        }
        Kind::Waiting { .. } | Kind::Request { .. } => None,
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
            requests: Vec::new(),
        };
        // A walk takes one namespace after the other.
        let (mut netns, mut small) = (NetnsId::default(), SmallSockets::default());
        let mut listeners = hashbrown::HashMap::new();
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
