//! `synfin replay`: recorded events through the same decoder, tracker and aggregates, with no kernel.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::lines::{LineOptions, Lines};
use crate::config::{self, CommonFlags, Flags, Settings, TrackerFlags};
use crate::core::{Core, CoreOptions, Gauges, OWNERS_DEFAULT};
use crate::event::CgroupId;
use crate::input::Input;
use crate::logging;
use crate::present::{Build, Page, Reading};
use crate::trace::{Head, TraceReader};

/// Feeds a record through the daemon's own decoder, tracker and aggregates: the same record gives the same bytes
///
/// Prints one line for each finished connection, as `synfin trace` does. No configuration file is read unless
/// --config.file names one, so that the result does not depend on the host.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin replay incident.synfin
  synfin replay --metrics incident.synfin")]
pub struct ReplayArgs {
    /// What to read; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print the metrics page as it stands after the last event, instead of connections
    #[arg(long)]
    pub metrics: bool,
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    pub tracker: TrackerFlags,
}

/// Reads the file to its end, or as far as it is whole.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let flags = Flags { common: args.common.clone(), tracker: args.tracker.clone(), ..Flags::default() };
    let settings = config::load_named_only(&flags)?;
    logging::init(&settings.log)?;
    let name = args.file.display();
    let from: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.file).with_context(|| format!("cannot read {name}"))?)
    };
    let refused = || format!("cannot replay {name}");
    let mut reader = TraceReader::new(BufReader::with_capacity(1 << 20, from)).with_context(refused)?;
    let mut replay = Replay::new(reader.head(), &settings, args.flags_bound());
    let mut lines = Lines::new(LineOptions::default(), reader.head().wall_offset_ns);
    // What could be read is printed even when the file turns out to be cut.
    let end = loop {
        match reader.next(|input| replay.handle(&input, &mut lines, args.metrics)) {
            Ok(Some(done)) => done?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if args.metrics {
        super::print(&replay.page()?)?;
    } else {
        lines.print(|cgroup| replay.unit(cgroup))?;
    }
    end.with_context(refused)?;
    Ok(ExitCode::SUCCESS)
}

impl ReplayArgs {
    /// Whether a bound of the table was asked for; otherwise the recorded one counts.
    fn flags_bound(&self) -> bool {
        self.tracker.max_connections.is_some()
    }
}

/// Lines kept back until they are printed.
const AT_ONCE: u64 = 10_000;

struct Replay {
    core: Core,
    units: HashMap<CgroupId, String>,
    started_unix_seconds: Option<f64>,
    inputs: u64,
}

impl Replay {
    fn new(head: &Head, settings: &Settings, bound_given: bool) -> Self {
        let recorded = usize::try_from(head.max_connections).unwrap_or(usize::MAX).max(1);
        let max_connections = if bound_given { settings.tracker.max_connections.get() } else { recorded };
        let core = Core::new(&CoreOptions {
            max_connections,
            units: settings.metrics.units,
            top: settings.metrics.top,
            endpoints: settings.metrics.endpoints,
            owners: OWNERS_DEFAULT,
            synack_probe: head.synack_probe,
            namespaces: head.all_namespaces.then_some(settings.metrics.namespaces),
        });
        Self { core, units: HashMap::new(), started_unix_seconds: None, inputs: 0 }
    }

    fn handle(&mut self, input: &Input<'_>, lines: &mut Lines, metrics: bool) -> anyhow::Result<()> {
        match input {
            Input::Unit { cgroup, name } => {
                self.units.insert(*cgroup, (*name).to_owned());
            }
            Input::Walk(walk) => {
                self.started_unix_seconds.get_or_insert(walk.unix_seconds);
            }
            _ => {}
        }
        if metrics {
            self.core.handle(input, &mut ());
            return Ok(());
        }
        self.core.handle(input, lines);
        self.inputs += 1;
        if self.inputs.is_multiple_of(AT_ONCE) {
            lines.print(|cgroup| self.unit(cgroup))?;
        }
        Ok(())
    }

    fn unit(&self, cgroup: CgroupId) -> String {
        self.units.get(&cgroup).cloned().unwrap_or_else(|| "unknown".into())
    }

    /// The metrics page after the last input, in the text format; nothing on it is of this process.
    fn page(mut self) -> anyhow::Result<String> {
        let gauges = Gauges { started_unix_seconds: self.started_unix_seconds.unwrap_or(0.0), ..Gauges::default() };
        let units = std::mem::take(&mut self.units);
        let snapshot =
            self.core.snapshot(gauges, |cgroup| units.get(&cgroup).cloned().unwrap_or_else(|| "unknown".into()));
        Page::new(&Reading { snapshot: &snapshot, process: None, build: Build::CURRENT }).text()
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
