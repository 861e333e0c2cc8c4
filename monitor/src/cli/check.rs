//! `synfin check`: what this host supports and what the daemon would use.

use std::process::ExitCode;

use clap::Args;

use super::{is_broken_pipe, print};
use crate::config::{self, CommonFlags, Flags, KernelFlags, SocketFlags, WebFlags};
use crate::kernel::preflight::{Verdict, assess, read_facts, read_trials};

/// Says what this host supports and what the daemon would use
///
/// Exit status: 0 all of it; 1 the daemon would run degraded, and what is lost is said; 2 it could not run, and what to do
/// is said.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin check
  synfin check --json")]
pub struct CheckArgs {
    /// One JSON object with stable ids
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    web: WebFlags,
    #[command(flatten)]
    kernel: KernelFlags,
    #[command(flatten)]
    socket: SocketFlags,
}

pub fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let flags =
        Flags { common: args.common, web: args.web, kernel: args.kernel, socket: args.socket, ..Flags::default() };
    let settings = config::load(&flags)?;
    let mut facts = read_facts(&settings);
    facts.trials = read_trials(&facts);
    let report = assess(&facts);
    let text = match args.json {
        true => format!("{:#}\n", report.to_json()),
        false => report.to_text(),
    };
    let verdict = report.verdict();
    // The table ends in this line; JSON is for machines, and someone may still be looking.
    if args.json && verdict == Verdict::Missing {
        eprintln!("{}", report.conclusion());
    }
    match print(&text) {
        // Whoever reads only the start still gets the whole status.
        Ok(()) => {}
        Err(error) if is_broken_pipe(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(ExitCode::from(verdict.exit_status()))
}
