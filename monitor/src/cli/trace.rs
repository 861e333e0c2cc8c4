//! `synfin trace`: one line for each finished connection, or for each transition.

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::TraceFilter;
use super::lines::{LineOptions, Lines};
use crate::aggregate::Lost;
use crate::config::{self, CommonFlags, Flags, KernelFlags, TrackerFlags, parse_duration};
use crate::session::foreground::{Foreground, Until};
use crate::session::{Session, clock};
use crate::{daemon, logging};

/// Prints one line for each finished connection: who, where, role, handshake time, lifetime, who closed and how, bytes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin trace --role client --close local --remote-port 5432
  synfin trace --slower-than 200ms --addr 10.0.0.0/8 --for 1m
  synfin trace --json --count 100 --unit nginx")]
pub struct TraceArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// One line for each state change instead of each connection
    #[arg(long, conflicts_with_all = ["close", "min_lifetime", "slower_than"])]
    pub transitions: bool,
    #[command(flatten)]
    pub filter: TraceFilter,
    /// Stop after this many lines
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,
    /// Stop after this long, such as 10s or 1m30s [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    pub kernel: KernelFlags,
    #[command(flatten)]
    pub tracker: TrackerFlags,
}

/// Attaches probes of its own, which a running daemon does not notice, and prints until it is told to end.
pub fn run(args: TraceArgs) -> anyhow::Result<ExitCode> {
    let flags = Flags {
        common: args.common.clone(),
        kernel: args.kernel.clone(),
        tracker: args.tracker.clone(),
        ..Flags::default()
    };
    let until = Until::signal()?;
    let settings = config::load(&flags)?;
    logging::init(&settings.log)?;
    let (session, waker, _) = daemon::open_session(&settings, None)?;
    let options = LineOptions {
        json: args.json,
        transitions: args.transitions,
        filter: args.filter,
        left: args.count.map(NonZeroU64::get),
    };
    let lines = Lines::new(options, clock::wall_offset_ns());
    let (core, _) = until.run(session, &waker, args.duration, lines)?;
    warn_of_losses(core.lost());
    Ok(ExitCode::SUCCESS)
}

/// Lines that are missing are said so.
fn warn_of_losses(lost: Lost) {
    let Lost { ring_full, probe_missed, undecodable, table_full } = lost;
    if ring_full + probe_missed + undecodable + table_full > 0 {
        tracing::warn!(
            ring_full,
            probe_missed,
            undecodable,
            table_full,
            "some detail was lost, so lines may be missing"
        );
    }
}

impl Foreground for Lines {
    fn after_round(&mut self, session: &mut Session) -> anyhow::Result<bool> {
        self.print(|cgroup| session.unit(cgroup).to_string())
    }
}
