//! `cargo xtask run`: sets up, builds, starts the daemon.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::step::{say, shown};
use crate::{build, system};

/// Set up what is missing, build both halves and start the daemon on :10060 (as root: probes need it).
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask run -- --log.level=debug")]
pub struct Args {
    /// Arguments of `synfin run`.
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

/// The verb; does not return when the daemon starts.
///
/// # Errors
/// The build failed, or the daemon could not be started.
pub fn run(args: &Args) -> Result<ExitCode> {
    let daemon = build::build(true)?.daemon;
    let mut command = if system::is_root()? {
        Command::new(&daemon)
    } else {
        if system::find_program("sudo").is_none() {
            bail!("the daemon needs root to load probes, and there is no sudo; as root: {} run", daemon.display());
        }
        let mut command = Command::new("sudo");
        command.arg(&daemon);
        say("the daemon needs root to load probes: starting it through sudo");
        command
    };
    command.arg("run").args(&args.daemon);
    say(&format!("starting {} (http://localhost:10060/metrics by default)", shown(&command)));
    // The daemon takes this process's place, so that Ctrl-C and its exit status are its own.
    Err(command.exec()).with_context(|| format!("cannot start {}", daemon.display()))
}
