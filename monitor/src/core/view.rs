//! What the last census says beyond the number of sockets in each state: ports, peers, listeners, CLOSE_WAIT.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::contacts::EndKey;
use super::flows::Cgroup;
use super::time_wait::Ledger;
use crate::aggregate::{
    DUE_SECONDS, EphemeralRanges, Inbound, Listening, MakerRow, OwnedBy, PeerKey, PeerTally, PortSocket, PortUsage,
    Ports, SmallSocket, Substate, Top, TopK, endpoint_of,
};
use crate::census::{Found, Kind};
use crate::event::{CgroupId, Endpoint, KernelTime, NetnsId, SocketId, TcpState};
use crate::input::Walk;
use crate::lifecycle::{Role, Tracker};

/// Pairs of source and destination, and of endpoint and peer, held while a census is counted.
const PAIRS_CAPACITY: usize = 4096;
/// Kept of them.
const PAIRS_KEPT: usize = 256;
/// Listening endpoints held; a host has a few hundred at most.
const LISTENERS_LIMIT: usize = 4096;

/// Sockets that listen on one endpoint of one namespace, and their requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    pub cgroup: CgroupId,
    pub backlog: u64,
    pub limit: u64,
    pub half_open: u64,
}

/// CLOSE_WAIT sockets of one cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseWaits {
    pub sockets: u64,
    /// When the oldest got there, or was first seen there.
    pub oldest: KernelTime,
}

/// A census, looked at.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// To be added to kernel time for seconds since 1970.
    pub wall_offset_seconds: f64,
    /// `None` when the range of ports is not known.
    pub ports: Option<PortUsage<CgroupId>>,
    pub inbound: Option<Top<PeerKey, PeerTally<CgroupId>>>,
    pub listeners: BTreeMap<(NetnsId, Endpoint), Listen>,
    /// Beyond the bound, and requests whose listener is gone.
    pub other_listeners: Listen,
    pub listeners_folded: u64,
    pub close_wait: BTreeMap<CgroupId, CloseWaits>,
    /// The same by role, end and cgroup, the most first.
    pub close_wait_ends: Vec<(EndKey, u64)>,
    /// Makers of small FIN_WAIT2 sockets, the largest first.
    pub fin_wait2: Vec<MakerRow<Cgroup>>,
    pub listening: Listening,
}

/// What else a census comes with.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// `TWRecycled` right after the walk.
    pub recycled: Option<u64>,
    /// Records lost since the walk before.
    pub lost: u64,
    /// `tcp_fin_timeout` of the daemon's own namespace, seconds.
    pub fin_timeout: Option<u64>,
}

/// Counts the small sockets into `ledger`, and all of them into a view. `whole`: the walk's full sockets; `found`: all of it.
/// The tracker has been reconciled with the walk.
pub fn take(
    walk: &Walk<'_>,
    whole: impl Iterator<Item = Found>,
    found: impl Iterator<Item = Found>,
    tracker: &Tracker,
    ledger: &mut Ledger,
    ranges: &EphemeralRanges,
    told: Told,
) -> View {
    let mut view = View { wall_offset_seconds: walk.unix_seconds - walk.ended.0 as f64 / 1e9, ..View::default() };
    let listeners = view.add_listeners(whole);
    let listening = std::mem::take(&mut view.listening);
    let mut counting = ledger.count(walk, told, &listening, ranges);
    let mut ports = ranges.is_known().then(|| Ports::new(ranges, PAIRS_CAPACITY));
    let mut inbound = Inbound::new(PAIRS_CAPACITY);
    let mut close_wait = TopK::new(PAIRS_CAPACITY);
    for socket in found {
        let (by, time_wait, due) = match socket.kind {
            Kind::Full { state: TcpState::Listen | TcpState::Close, .. } => continue,
            Kind::Full { state, .. } => {
                let connection = tracker.connection(socket.socket);
                if let (TcpState::CloseWait, Some(connection)) = (state, connection) {
                    view.add_close_wait(connection.cgroup, connection.changed_at());
                }
                let role = match connection.map(|connection| connection.role) {
                    Some(role @ (Role::Client | Role::Server)) => role,
                    Some(Role::Unknown) | None => {
                        listening.role_of(socket.netns, &socket.tuple, ranges.of(socket.netns))
                    }
                };
                if let (TcpState::CloseWait, Some(end)) = (state, endpoint_of(role, &socket.tuple)) {
                    close_wait.add((role, end, socket.cgroup), 1);
                }
                (OwnedBy { role, unit: Cgroup::new(socket.cgroup.0) }, false, false)
            }
            Kind::Waiting { substate, remaining_ms } => {
                let substate = match substate {
                    TcpState::FinWait2 => Substate::FinWait2,
                    _ => Substate::TimeWait,
                };
                let small = SmallSocket { netns: socket.netns, tuple: socket.tuple, substate, remaining_ms };
                let time_wait = substate == Substate::TimeWait;
                (counting.add(&small), time_wait, time_wait && remaining_ms <= DUE_SECONDS * 1000)
            }
            Kind::Request { listener, .. } => {
                view.add_request(listeners.get(&listener));
                continue;
            }
        };
        let unit = by.unit.map(|unit| CgroupId(unit.get()));
        let (source, destination) = (socket.tuple.source(), socket.tuple.destination());
        match by.role {
            Role::Server => inbound.add((socket.netns, source, destination.addr), time_wait, unit),
            Role::Client | Role::Unknown => {
                if let Some(ports) = &mut ports {
                    let netns = socket.netns;
                    ports.add(PortSocket { netns, source, destination, time_wait, due, role: by.role, unit });
                }
            }
        }
    }
    let mut counted = counting.finish();
    view.fin_wait2 = counted.take_fin_wait2();
    view.close_wait_ends = close_wait.finish(PAIRS_KEPT).entries;
    ledger.finish(counted, walk, told);
    view.listening = listening;
    view.ports = ports.map(|ports| ports.finish(PAIRS_KEPT));
    view.inbound = Some(inbound.finish(PAIRS_KEPT));
    view
}

type ListenerKeys = HashMap<SocketId, (NetnsId, Endpoint), foldhash::fast::FixedState>;

impl View {
    /// Gives the endpoint of each listening socket, for the requests.
    fn add_listeners(&mut self, found: impl Iterator<Item = Found>) -> ListenerKeys {
        let mut keys = ListenerKeys::default();
        for socket in found {
            let Kind::Full { state: TcpState::Listen, backlog, backlog_limit, .. } = socket.kind else { continue };
            let key = (socket.netns, socket.tuple.source());
            self.listening.add(socket.netns, key.1);
            keys.insert(socket.socket, key);
            let held = if self.listeners.len() < LISTENERS_LIMIT || self.listeners.contains_key(&key) {
                self.listeners.entry(key).or_insert_with(|| Listen { cgroup: socket.cgroup, ..Listen::default() })
            } else {
                self.listeners_folded += 1;
                &mut self.other_listeners
            };
            held.backlog += u64::from(backlog);
            held.limit += u64::from(backlog_limit);
        }
        keys
    }

    fn add_request(&mut self, listener: Option<&(NetnsId, Endpoint)>) {
        let held = listener.and_then(|key| self.listeners.get_mut(key));
        held.unwrap_or(&mut self.other_listeners).half_open += 1;
    }

    fn add_close_wait(&mut self, cgroup: CgroupId, since: KernelTime) {
        let held = self.close_wait.entry(cgroup).or_insert(CloseWaits { sockets: 0, oldest: since });
        held.sockets += 1;
        held.oldest = held.oldest.min(since);
    }

    /// Unix time of a moment, in whole milliseconds, so that two looks at one socket agree.
    pub fn unix_seconds(&self, at: KernelTime) -> f64 {
        ((at.0 as f64 / 1e9 + self.wall_offset_seconds) * 1e3).round() / 1e3
    }
}
