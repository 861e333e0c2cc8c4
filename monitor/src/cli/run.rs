//! `synfin run`: the daemon.

use std::process::ExitCode;

use clap::Args;

use crate::config::{self, Flags};
use crate::daemon::Daemon;
use crate::logging;

/// Runs the daemon: attaches the probes, serves the metrics page, answers the other commands
///
/// SIGTERM and SIGINT end it with status 0; SIGHUP reads configuration and certificates again.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin run --config.file=/etc/synfin/synfin.toml --log.format=json
  synfin run --web.listen-address=127.0.0.1:10060 --web.listen-address=[::1]:10060")]
pub struct RunArgs {
    #[command(flatten)]
    pub flags: Flags,
}

/// Settles settings and log, then hands over to the daemon.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let daemon = Daemon::prepare()?;
    let settings = config::load(&args.flags)?;
    let log = logging::init(&settings.log)?;
    daemon.run(&args.flags, settings, &log)?;
    Ok(ExitCode::SUCCESS)
}
