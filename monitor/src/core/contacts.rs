//! Whom this host talks to: connections opened, connects that failed, slow handshakes and resets, by the end that tells whose they are.

use crate::aggregate::{PortKey, TopK, endpoint_of};
use crate::event::{CgroupId, Detail, Endpoint, Event, NetnsId};
use crate::lifecycle::{Close, ConnectFailure, HandshakeTime, Outcome, Role};

/// Destinations told apart; beyond it the least busy are forgotten.
const CAPACITY: usize = 1024;
/// A handshake of this length waited for a repeated packet: the first retransmission timeout (RFC 6298).
const SLOW_NS: u64 = 1_000_000_000;

/// The key of a failure.
pub type FailureKey = (NetnsId, Endpoint, ConnectFailure, CgroupId);
/// The remote end of a client, the local end of a server.
pub type EndKey = (Role, Endpoint, CgroupId);

/// Counters since the start, or since a destination was last forgotten.
#[derive(Clone, Debug)]
pub struct Contacts {
    pub opened: TopK<PortKey, u64>,
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
            opened: TopK::new(CAPACITY),
            failed: TopK::new(CAPACITY),
            slow: TopK::new(CAPACITY),
            reset: TopK::new(CAPACITY),
            syns_again: 0,
        }
    }
}

impl Contacts {
    /// Takes in an outcome and the event that it followed from, which alone knows the addresses of an opening.
    pub fn apply(&mut self, event: &Event, outcome: &Outcome) {
        match (outcome, event) {
            (Outcome::Opened { role, handshake }, Event::Transition(transition)) => {
                let Detail::Open(open) = &transition.detail else { return };
                let (netns, source, destination) = (transition.netns, open.tuple.saddr, open.tuple.destination());
                if *role == Role::Client {
                    self.opened.add(PortKey { netns, source, destination }, 1);
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
            (Outcome::Finished(end), _) if end.close == Close::Reset => {
                if let Some(endpoint) = endpoint_of(end.role, &end.tuple) {
                    self.reset.add((end.role, endpoint, end.cgroup), 1);
                }
            }
            _ => {}
        }
    }
}
