//! Whom this host talks to: connections opened, connects that failed, slow handshakes and resets, by the end that tells whose they are.

use crate::aggregate::{PortKey, Tally, TopK, endpoint_of};
use crate::event::{CgroupId, Detail, Endpoint, Event, NetnsId};
use crate::lifecycle::{Close, ConnectFailure, Finished, HandshakeTime, Outcome, Role, Wait};

/// Destinations told apart; beyond it the least busy are forgotten.
const CAPACITY: usize = 1024;
/// A handshake of this length waited for a repeated packet: the first retransmission timeout (RFC 6298).
const SLOW_NS: u64 = 1_000_000_000;

/// The key of a failure.
pub type FailureKey = (NetnsId, Endpoint, ConnectFailure, CgroupId);
/// The remote end of a client, the local end of a server.
pub type EndKey = (Role, Endpoint, CgroupId);

/// Connections of one source with one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlow {
    pub opened: u64,
    /// Ended, and keep their port for a while: TIME_WAIT or FIN_WAIT2.
    pub waiting: u64,
    /// Ended, and gave it back.
    pub released: u64,
    /// Who opened one last.
    pub owner: CgroupId,
}

impl PortFlow {
    /// What came since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            opened: self.opened.saturating_sub(before.opened),
            waiting: self.waiting.saturating_sub(before.waiting),
            released: self.released.saturating_sub(before.released),
            owner: self.owner,
        }
    }
}

impl Tally for PortFlow {
    fn weight(&self) -> u64 {
        self.opened
    }
    fn add(&mut self, other: Self) {
        self.opened += other.opened;
        self.waiting += other.waiting;
        self.released += other.released;
        self.owner = other.owner;
    }
}

/// Counters since the start, or since a destination was last forgotten.
#[derive(Clone, Debug)]
pub struct Contacts {
    pub flows: TopK<PortKey, PortFlow>,
    pub failed: TopK<FailureKey, u64>,
    /// Handshakes of a second or more.
    pub slow: TopK<EndKey, u64>,
    /// Connections that ended in a reset.
    pub reset: TopK<EndKey, u64>,
    /// SYNs sent again by connects that timed out.
    pub syns_again: u64,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            flows: TopK::new(CAPACITY),
            failed: TopK::new(CAPACITY),
            slow: TopK::new(CAPACITY),
            reset: TopK::new(CAPACITY),
            syns_again: 0,
        }
    }
}

impl Contacts {
    /// What is known of one pair; nothing, if it was forgotten.
    pub fn flow(&self, key: &PortKey) -> PortFlow {
        self.flows.get(key).copied().unwrap_or_default()
    }

    /// Who opened a connection of this pair last.
    pub fn owner(&self, key: &PortKey) -> Option<CgroupId> {
        self.flows.get(key).map(|flow| flow.owner)
    }

    fn ended(&mut self, end: &Finished) {
        if end.role != Role::Client {
            return;
        }
        let (source, destination) = (end.tuple.saddr, end.tuple.destination());
        let flow = match end.wait {
            Wait::None => PortFlow { released: 1, owner: end.cgroup, ..PortFlow::default() },
            Wait::TimeWait | Wait::FinWait2 => PortFlow { waiting: 1, owner: end.cgroup, ..PortFlow::default() },
        };
        self.flows.add(PortKey { netns: end.netns, source, destination }, flow);
    }

    /// Takes in an outcome and the event that it followed from, which alone knows the addresses of an opening.
    pub fn apply(&mut self, event: &Event, outcome: &Outcome) {
        match (outcome, event) {
            (Outcome::Opened { role, handshake }, Event::Transition(transition)) => {
                let Detail::Open(open) = &transition.detail else { return };
                let (netns, source, destination) = (transition.netns, open.tuple.saddr, open.tuple.destination());
                if *role == Role::Client {
                    let opened = PortFlow { opened: 1, owner: transition.cgroup, ..PortFlow::default() };
                    self.flows.add(PortKey { netns, source, destination }, opened);
                }
                if let (HandshakeTime::Measured(SLOW_NS..), Some(end)) = (handshake, endpoint_of(*role, &open.tuple)) {
                    self.slow.add((*role, end, transition.cgroup), 1);
                }
            }
            (Outcome::Failed(end), _) => {
                self.failed.add((end.netns, end.tuple.destination(), end.reason, end.cgroup), 1);
                if end.reason == ConnectFailure::Timeout {
                    self.syns_again += u64::from(end.retransmits);
                }
            }
            (Outcome::Finished(end), _) => {
                self.ended(end);
                if let (Close::Reset, Some(endpoint)) = (end.close, endpoint_of(end.role, &end.tuple)) {
                    self.reset.add((end.role, endpoint, end.cgroup), 1);
                }
            }
            _ => {}
        }
    }
}
