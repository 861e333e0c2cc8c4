//! The counters at one moment: two of them make a window.

use std::collections::BTreeMap;

use super::Core;
use super::contacts::{EndKey, FailureKey};
use super::namespaces::Identity;
use crate::aggregate::{Histogram, Lost, PerRole, PortKey};
use crate::event::{CgroupId, KernelTime, TcpState};
use crate::input::HostFigures;
use crate::lifecycle::{Close, Role};

/// Bounds of the steps of [`crate::diagnose::HandshakeTail`], nanoseconds.
const STEPS_NS: [u64; 3] = [1_000_000_000, 3_000_000_000, 7_000_000_000];

/// What the core had counted at one moment: a few KiB, up to 150 KiB on a host with a thousand busy destinations.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub at: KernelTime,
    /// State changes outside the watched namespaces so far.
    pub other_netns_transitions: u64,
    pub(super) lost: Lost,
    pub(super) closes: [u64; Close::COUNT],
    pub(super) entered: u64,
    /// Measured handshakes, and those longer than each of [`STEPS_NS`].
    pub(super) handshakes: PerRole<(u64, [u64; 3])>,
    pub(super) host: HostFigures,
    /// Figures of each namespace, where all are watched.
    pub(super) namespaces: Option<BTreeMap<Identity, HostFigures>>,
    pub(super) failed: BTreeMap<FailureKey, u64>,
    pub(super) opened: BTreeMap<PortKey, u64>,
    pub(super) slow: BTreeMap<EndKey, u64>,
    pub(super) reset: BTreeMap<EndKey, u64>,
    pub(super) syns_again: u64,
    pub(super) close_wait: Option<BTreeMap<CgroupId, u64>>,
    pub(super) fin_wait2: Option<u64>,
}

impl Core {
    /// The counters as they are now; `at` is now.
    pub fn moment(&mut self, at: KernelTime) -> Moment {
        self.age(at);
        let mut closes = [0; Close::COUNT];
        for by_close in &self.aggregates.closed {
            closes.iter_mut().zip(by_close).for_each(|(sum, count)| *sum += count);
        }
        let known = self.walks_done > 0;
        Moment {
            at,
            other_netns_transitions: self.totals.other_netns,
            lost: self.lost(),
            closes,
            entered: self.ledger.flows.entered_total(),
            handshakes: Role::ALL.map(|role| tail(&self.aggregates.handshake[role.index()])),
            host: self.host,
            namespaces: self
                .namespaces
                .as_ref()
                .map(|namespaces| namespaces.states().map(|state| (state.identity, *state.host)).collect()),
            failed: self.contacts.failed.iter().map(|(&key, &count)| (key, count)).collect(),
            opened: self.contacts.flows.iter().map(|(&key, flow)| (key, flow.opened)).collect(),
            slow: self.contacts.slow.iter().map(|(&key, &count)| (key, count)).collect(),
            reset: self.contacts.reset.iter().map(|(&key, &count)| (key, count)).collect(),
            syns_again: self.contacts.syns_again,
            close_wait: known.then(|| self.close_wait_now()),
            fin_wait2: self
                .populations
                .full_sockets(&self.totals.transitions)
                .map(|full| full[TcpState::FinWait2.index()] + self.small_now().fin_wait2),
        }
    }

    /// CLOSE_WAIT sockets by cgroup.
    pub(super) fn close_wait_now(&self) -> BTreeMap<CgroupId, u64> {
        let rows = self.aggregates.cgroups.rows().iter();
        let rows = rows.map(|(cgroup, row)| (*cgroup, row[TcpState::CloseWait.index()]));
        rows.filter(|(_, sockets)| *sockets > 0).collect()
    }
}

fn tail(histogram: &Histogram) -> (u64, [u64; 3]) {
    let count = histogram.count();
    let longer = STEPS_NS.map(|step| {
        let within = histogram.bounds_ns().iter().zip(histogram.cumulative());
        let within = within.take_while(|(bound, _)| **bound <= step).last().map_or(0, |(_, count)| count);
        count - within
    });
    (count, longer)
}
