//! `cargo xtask bench`: sets up, builds, gets the peers, measures what synfin costs.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::build::{self, build_object};
use crate::step::{say, shown};
use crate::test::{DAEMON_VARIABLE, peers, privilege, runner};
use crate::{setup, system};

/// The bench by which `monitor/Cargo.toml` knows it.
const BENCH: &str = "kernel_cost";
/// The yardstick among the BPF objects, and the variable that says where it is.
const FLOOR: &str = "synfin-floor";
const FLOOR_VARIABLE: &str = "SYNFIN_FLOOR_OBJECT";
/// What the daemon is compared with.
const PEERS: [&str; 2] = ["ss", "tcplife"];

/// Measure what synfin costs, beside a floor, tcplife, tcpstates and ss; prints a table. Some minutes, as root.
///
/// All figures are ratios from one run on this machine; nothing fails on a number.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench > costs.md")]
pub struct Args {}

/// The verb.
///
/// # Errors
/// The build failed, a peer is missing, there is no way to become root, or a measurement could not be made.
pub fn run(_: &Args) -> Result<ExitCode> {
    let built = build::build(true)?;
    let floor = build_object(&setup::set_up()?, FLOOR)?;
    peers::obtain(&PEERS)?;
    let privilege = privilege()?;
    if privilege == runner::Privilege::None {
        bail!("measuring loads probes, which needs root, and there is no sudo; run this again as root");
    }
    let mut command = build::host_cargo_with(&built.object);
    command.env(DAEMON_VARIABLE, &built.daemon).env(FLOOR_VARIABLE, &floor);
    command.env(runner::PRIVILEGE_VARIABLE, privilege.as_str());
    command.env("PATH", system::path_with(peers::folder())?);
    command.args(["bench", "--package", "synfin", "--bench", BENCH, "--config", &runner::configuration()?]);
    say(&shown(&command));
    let status = command.status().context("cannot start cargo bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
