//! What a session has measured, for the rules of [`crate::diagnose`].

use std::time::{Duration, Instant};

use super::{Session, clock};
use crate::core::{EvidenceWindow, Moment, Observer};
use crate::diagnose::{Evidence, Namespaces};
use crate::history::History;
use crate::host::read_own_netns;

impl Session {
    /// Remembers the counters when that is due; for the first time as soon as the populations are known.
    pub fn remember(&mut self, history: &mut History, observer: &mut impl Observer) {
        if self.is_ready() && history.is_due(clock::kernel_now()) {
            history.push(self.moment(observer));
        }
    }

    /// What was measured over the last `window`, or as much of it as `history` has; `None` before its first moment.
    pub fn evidence(&mut self, window: Duration, history: &History, observer: &mut impl Observer) -> Option<Evidence> {
        let moment = self.moment(observer);
        let before = history.base(moment.at, window)?;
        let own_netns = self.watches_all.then(|| read_own_netns().ok()).flatten();
        let Self { core, cgroups, .. } = self;
        let now = Instant::now();
        let mut since = |before| {
            let window = EvidenceWindow { before: Some(before), now: &moment, own_netns };
            core.evidence(&window, |cgroup| cgroups.unit(cgroup, now).to_string())
        };
        let mut evidence = since(before);
        // Leaks are slow: the longer the look, the better it tells them from a busy moment.
        evidence.close_wait = since(history.oldest()?).close_wait;
        evidence.namespaces = Some(Namespaces {
            // Others are counted by whoever asks, who may see more of them.
            count: 1,
            all_watched: self.watches_all,
            elsewhere_transitions: moment.other_netns_transitions.checked_sub(before.other_netns_transitions),
        });
        Some(evidence)
    }

    /// The counters as they are now.
    fn moment(&mut self, observer: &mut impl Observer) -> Moment {
        self.drain_all(observer);
        self.read_host(observer);
        self.core.moment(clock::kernel_now())
    }
}
