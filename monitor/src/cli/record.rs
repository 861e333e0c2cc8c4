//! `synfin record`: the raw events into a file.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::config::{self, CommonFlags, Flags, KernelFlags, parse_duration};
use crate::logging;

/// Saves the raw events of the probes, to be replayed elsewhere
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin record --for 30s incident.synfin
  synfin record --for 10s - | synfin replay --metrics -
  synfin record incident.synfin")]
pub struct RecordArgs {
    /// Where to write; - is stdout
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Stop after this long, such as 30s or 5m [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    pub kernel: KernelFlags,
}

/// Settles settings and log, then hands over to the recorder.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        args.file.as_os_str() != "-" || !std::io::stdout().is_terminal(),
        "stdout is a terminal and the record is binary; name a file, or pipe it into `synfin replay -`"
    );
    let flags = Flags { common: args.common.clone(), kernel: args.kernel.clone(), ..Flags::default() };
    let settings = config::load(&flags)?;
    logging::init(&settings.log)?;
    Ok(ExitCode::SUCCESS)
}
