//! `cargo xtask test`: sets up, builds, gets the tools that tests compare with, runs every test.

pub mod peers;
pub mod runner;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::build::{self, Built};
use crate::step::{say, shown};
use crate::system;
use crate::vm::Matrix;
use runner::Privilege;

const VM_ANNOUNCEMENT: &str = "now the kernel's tests on Linux 5.10, 6.1 and 6.12 in an emulator: some 8 minutes \
    (`cargo xtask test --no-vm` leaves them out)";
/// The release daemon, for tests that start it.
pub const DAEMON_VARIABLE: &str = "SYNFIN_BIN";

/// Set up what is missing, build both halves and run every test; the kernel's as root, one at a time, and on other kernels.
///
/// Exit status 1 when a test fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --no-vm\n  \
    cargo xtask test -- --package synfin --test kernel_close")]
pub struct Args {
    /// Only on the running kernel: without `cargo xtask vm` at the end.
    #[arg(long)]
    no_vm: bool,
    /// Arguments of `cargo test`, instead of `--workspace`.
    #[arg(last = true)]
    cargo: Vec<OsString>,
}

/// The verb.
///
/// # Errors
/// The build failed, or a tool is missing and cannot be installed.
pub fn run(args: &Args) -> Result<ExitCode> {
    let built = build::build(true)?;
    peers::obtain(&peers::ALL)?;
    // Before the tests: who has no kernels to boot should learn it now.
    let matrix = if args.no_vm || !args.cargo.is_empty() { None } else { Some(obtain_matrix()) };
    let privilege = privilege()?;
    announce(privilege);
    let mut command = cargo_test(&built, privilege, &args.cargo)?;
    say(&shown(&command));
    let status = command.status().context("cannot start cargo test")?;
    if privilege == Privilege::None {
        announce(privilege);
    }
    let on_others = match matrix {
        None => true,
        Some(Err(why)) => {
            say(&why);
            true
        }
        Some(Ok(matrix)) => {
            say(VM_ANNOUNCEMENT);
            matrix.run_usual(&built.object)?
        }
    };
    Ok(if status.success() && on_others { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kernels to boot, or why there are none: that is no fault of the code under test.
fn obtain_matrix() -> Result<Matrix, String> {
    Matrix::obtain(&[], false).map_err(|error| {
        let line = format!("SKIPPED: the kernel's tests on Linux 5.10, 6.1 and 6.12: {error:#}");
        say(&line);
        line
    })
}

/// How tests and benches become root here.
///
/// # Errors
/// As [`system::is_root`].
pub fn privilege() -> Result<Privilege> {
    Ok(match (system::is_root()?, system::find_program("sudo")) {
        (true, _) => Privilege::Root,
        (false, Some(_)) => Privilege::Sudo,
        (false, None) => Privilege::None,
    })
}

fn announce(privilege: Privilege) {
    match privilege {
        Privilege::Root => {}
        Privilege::Sudo => say("not root: the kernel's tests (kernel_*) load probes and run through sudo"),
        Privilege::None => {
            say("SKIPPED: the kernel's tests (kernel_*) load probes, and this is neither root nor has sudo")
        }
    }
}

fn cargo_test(built: &Built, privilege: Privilege, args: &[OsString]) -> Result<Command> {
    let mut command = build::host_cargo_with(&built.object);
    command.env(DAEMON_VARIABLE, &built.daemon);
    command.env(runner::PRIVILEGE_VARIABLE, privilege.as_str());
    command.env("PATH", system::path_with(peers::folder())?);
    // One cargo runs all tests, so that its closing lines are those of all tests; the runner knows the kernel's.
    command.args(["test", "--no-fail-fast", "--config", &runner::configuration()?]);
    if args.is_empty() {
        command.arg("--workspace");
    }
    command.args(args);
    Ok(command)
}
