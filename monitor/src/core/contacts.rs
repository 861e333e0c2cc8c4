//! Whom this host connects to: connections opened and connects that failed, by destination.

use crate::aggregate::{PortKey, TopK};
use crate::event::{CgroupId, Detail, Endpoint, Event};
use crate::lifecycle::{ConnectFailure, Outcome, Role};

/// Destinations told apart; beyond it the least busy are forgotten.
const CAPACITY: usize = 1024;

/// The key of a failure.
pub type FailureKey = (Endpoint, ConnectFailure, CgroupId);

/// Counters since the start, or since a destination was last forgotten.
#[derive(Clone, Debug)]
pub struct Contacts {
    pub opened: TopK<PortKey, u64>,
    pub failed: TopK<FailureKey, u64>,
}

impl Default for Contacts {
    fn default() -> Self {
        Self { opened: TopK::new(CAPACITY), failed: TopK::new(CAPACITY) }
    }
}

impl Contacts {
    /// Takes in an outcome and the event that it followed from, which alone knows the addresses of an opening.
    pub fn apply(&mut self, event: &Event, outcome: &Outcome) {
        match (outcome, event) {
            (Outcome::Opened { role: Role::Client, .. }, Event::Transition(transition)) => {
                if let Detail::Open(open) = &transition.detail {
                    let (source, destination) = (open.tuple.saddr, open.tuple.destination());
                    self.opened.add(PortKey { netns: transition.netns, source, destination }, 1);
                }
            }
            (Outcome::Failed(end), _) => self.failed.add((end.tuple.destination(), end.reason, end.cgroup), 1),
            _ => {}
        }
    }
}
