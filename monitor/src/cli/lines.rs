//! Connections and transitions as lines on stdout: what `synfin trace` and `synfin replay` share.

use super::trace_filter::{Subject, TraceFilter};
use crate::core::Observer;
use crate::event::{CgroupId, Detail, Event, KernelTime, Transition};
use crate::lifecycle::{Connection, Failed, Finished, Outcome};
use crate::present::WallTime;
use crate::present::connection::{connection_header, failed_line, finished_line, transition_header, transition_line};
use crate::present::connection_json::{failed_json, finished_json, transition_json};

/// What is to be printed of each.
#[derive(Clone, Debug, Default)]
pub struct LineOptions {
    pub json: bool,
    pub transitions: bool,
    pub filter: TraceFilter,
    /// Lines left to print; `None`: no bound.
    pub left: Option<u64>,
}

enum Item {
    Finished(Finished),
    Failed(Failed),
    Transition(Transition),
}

/// Keeps what was seen until [`Lines::print`].
pub struct Lines {
    options: LineOptions,
    wall_offset_ns: i64,
    seen: Vec<Item>,
    titled: bool,
    printed: u64,
}

impl Lines {
    /// `wall_offset_ns` turns kernel time into wall time.
    pub fn new(options: LineOptions, wall_offset_ns: i64) -> Self {
        Self { options, wall_offset_ns, seen: Vec::new(), titled: false, printed: 0 }
    }

    /// Prints what was seen since the last call, and says whether more is wanted.
    ///
    /// # Errors
    /// Those of writing to stdout.
    pub fn print(&mut self, unit: impl FnMut(CgroupId) -> String) -> anyhow::Result<bool> {
        let text = self.text(unit)?;
        super::print(&text)?;
        Ok(self.options.left.is_none_or(|left| self.printed < left))
    }

    /// What was seen since the last call.
    ///
    /// # Errors
    /// When a line cannot be put into JSON.
    pub fn text(&mut self, mut unit: impl FnMut(CgroupId) -> String) -> anyhow::Result<String> {
        let mut text = String::new();
        if !self.titled && !self.options.json {
            self.titled = true;
            text += &if self.options.transitions { transition_header() } else { connection_header() };
            text += "\n";
        }
        let mut seen = std::mem::take(&mut self.seen);
        for item in seen.drain(..) {
            if self.options.left.is_some_and(|left| self.printed >= left) {
                break;
            }
            let unit = unit(item.cgroup());
            if self.options.filter.matches(&item.subject(&unit)) {
                let wall = self.wall(item.at());
                text += &item.line(&unit, wall, self.options.json)?;
                text += "\n";
                self.printed += 1;
            }
        }
        self.seen = seen;
        Ok(text)
    }

    fn wall(&self, at: KernelTime) -> WallTime {
        let ns = i128::from(at.0) + i128::from(self.wall_offset_ns);
        WallTime { unix_ms: u64::try_from(ns / 1_000_000).unwrap_or(0) }
    }
}

impl Observer for Lines {
    const WANTS_EVENTS: bool = true;

    fn event(&mut self, event: &Event, known: Option<&Connection>) {
        if let (true, Event::Transition(transition)) = (self.options.transitions, event) {
            let mut transition = *transition;
            // Most records carry no addresses: those of the connection are shown.
            if let (Detail::Step, Some(known)) = (transition.detail, known) {
                transition.detail = Detail::Start { tuple: known.tuple, owner: known.owner };
            }
            self.seen.push(Item::Transition(transition));
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            _ if self.options.transitions => {}
            Outcome::Finished(finished) => self.seen.push(Item::Finished(*finished)),
            Outcome::Failed(failed) => self.seen.push(Item::Failed(*failed)),
            _ => {}
        }
    }
}

impl Item {
    fn at(&self) -> KernelTime {
        match self {
            Self::Finished(end) => end.at,
            Self::Failed(end) => end.at,
            Self::Transition(transition) => transition.at,
        }
    }

    fn cgroup(&self) -> CgroupId {
        match self {
            Self::Finished(end) => end.cgroup,
            Self::Failed(end) => end.cgroup,
            Self::Transition(transition) => transition.cgroup,
        }
    }

    fn subject<'a>(&self, unit: &'a str) -> Subject<'a> {
        match self {
            Self::Finished(end) => Subject::of_finished(end, unit),
            Self::Failed(end) => Subject::of_failed(end, unit),
            Self::Transition(transition) => Subject::of_transition(transition, unit),
        }
    }

    fn line(&self, unit: &str, wall: WallTime, json: bool) -> anyhow::Result<String> {
        Ok(match (self, json) {
            (Self::Finished(end), false) => finished_line(end, unit, wall),
            (Self::Finished(end), true) => finished_json(end, unit, wall)?,
            (Self::Failed(end), false) => failed_line(end, unit, wall),
            (Self::Failed(end), true) => failed_json(end, unit, wall)?,
            (Self::Transition(transition), false) => transition_line(transition, unit, wall),
            (Self::Transition(transition), true) => transition_json(transition, unit, wall)?,
        })
    }
}
