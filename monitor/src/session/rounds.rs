//! Walks and surveys: begun on threads of their own, and what they bring handed to the core.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::background::Background;
use super::survey::{Depth, Survey, survey};
use super::walk::{Reach, Walked, read_time_wait_overflows, read_walk};
use super::{FRESH, HOPELESS, Session, clock};
use crate::core::Observer;
use crate::input::{Input, Walk};
use crate::kernel;

impl Session {
    pub(super) fn begin_walk(&mut self, observer: &mut impl Observer) {
        // What is lost up to now is older than the walk, and asks for no other.
        self.read_totals(observer);
        let reach = match (&self.census_link, self.watches_all) {
            (Some(link), true) => link.try_clone().map(Reach::All),
            // The file belongs to the namespace of the thread that makes it.
            (Some(link), false) => kernel::create_census(link.as_fd()).map(Reach::Own),
            (None, true) => Ok(Reach::AllByNetlink),
            (None, false) => Ok(Reach::OwnByNetlink),
        };
        let begun = reach.map_err(|error| error.to_string()).and_then(|reach| {
            let counters = self.counters.read();
            // Before the first socket is read: the end of one that the walk meets must be remembered.
            self.feed(&Input::WalkBegins { at: clock::kernel_now(), counters: &counters }, observer);
            self.lost_at_walk = self.core.lost().untold();
            Background::start("census", self.waker.clone(), || read_walk(reach)).map_err(|error| error.to_string())
        });
        match begun {
            Ok(walk) => self.walk = Some(walk),
            Err(error) => {
                self.walked_at = Some(Instant::now());
                self.walk_failed(&error, observer);
            }
        }
    }

    /// Has the socket tables walked over for a question asked at `asked`, out of turn if need be. Says whether that is done: at once
    /// when they were just before it, or when there is no way.
    pub fn is_fresh(&mut self, asked: Instant) -> bool {
        let fresh = self.walked_at.is_some_and(|at| at + FRESH >= asked);
        if fresh || !self.schedule.is_possible() {
            return true;
        }
        if self.walk.is_none() {
            self.schedule.hasten();
        }
        false
    }

    pub(super) fn finish_walk(&mut self, result: io::Result<Walked>, observer: &mut impl Observer) {
        let walked = match result {
            Ok(walked) => walked,
            Err(error) => return self.walk_failed(&error, observer),
        };
        let counters = self.counters.read();
        self.drain_all(observer);
        let drained = Instant::now();
        // Totals no older than the records, to tell what was lost of them from what is under way. And the kernel counts a refusal before
        // it reports the end that got no small socket.
        self.read_totals(observer);
        let mut host = walked.host;
        match walked.survey {
            Some(survey) => {
                self.surveys.postpone(Instant::now());
                self.take_survey(survey, observer);
            }
            None => host.time_wait_overflows = read_time_wait_overflows().or(host.time_wait_overflows),
        }
        let walk = Walk {
            began: walked.began,
            ended: walked.ended,
            counters: &counters,
            host,
            sockets: &walked.sockets,
            unix_seconds: walked.unix_seconds,
        };
        self.feed(&Input::Walk(walk), observer);
        let now = Instant::now();
        self.applied_in = now.duration_since(drained);
        self.schedule.done(now, walked.took + self.applied_in);
    }

    /// Otherwise each walk brings the figures soon enough.
    pub(super) fn walks_are_seldom(&self) -> bool {
        self.schedule.interval() > 2 * self.surveys.interval()
    }

    pub(super) fn begin_survey(&mut self) {
        match Background::start("namespaces", self.waker.clone(), || survey(Depth::Counters, || Ok(()))) {
            Ok(survey) => self.survey = Some(survey),
            Err(error) => self.survey_failed(&error),
        }
    }

    pub(super) fn finish_survey(&mut self, result: io::Result<Survey>, observer: &mut impl Observer) {
        match result {
            Ok(survey) => {
                // Ends first, then the counter that says which of them the kernel refused a small socket.
                self.drain_all(observer);
                self.surveys.done(Instant::now(), survey.took);
                self.take_survey(survey, observer);
            }
            Err(error) => self.survey_failed(&error),
        }
    }

    fn take_survey(&mut self, survey: Survey, observer: &mut impl Observer) {
        tracing::debug!(took = ?survey.took, refused = survey.refused, "looked into the network namespaces");
        let refused = survey.refused;
        let readings = survey.name(&mut self.netns_book);
        self.feed(&Input::Namespaces { readings: &readings, refused }, observer);
    }

    fn survey_failed(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!("cannot look into the network namespaces: {error}; their figures stay as they are");
        self.surveys.done(Instant::now(), Duration::ZERO);
    }

    fn walk_failed(&mut self, error: &dyn std::fmt::Display, observer: &mut impl Observer) {
        self.walks_failed += 1;
        if self.census_link.is_none() && self.core.walks_done() == 0 && self.walks_failed >= HOPELESS {
            tracing::warn!(
                "the kernel has no iter/tcp, and socket diagnosis does not answer: {error}; no sockets are counted"
            );
            self.schedule.never();
        } else {
            tracing::warn!("cannot read the kernel's socket tables: {error}; populations go on without this audit");
        }
        self.schedule.done(Instant::now(), Duration::ZERO);
        self.feed(&Input::WalkFailed, observer);
    }
}
