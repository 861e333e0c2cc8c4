//! `cargo xtask setup`: finds the toolchain of the BPF half, or installs it.

use std::process::ExitCode;

use anyhow::Result;

use crate::step::say;
use crate::toolchain::{self, Toolchain};

/// Find or install what builds the BPF half: a rustup nightly with rust-src, or Debian's rustc-web; and bpf-linker.
///
/// Quick when all is there. Asks for root (sudo) only to install packages.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask setup")]
pub struct Args {}

/// The verb.
///
/// # Errors
/// No toolchain could be had; says what to install.
pub fn run(_: &Args) -> Result<ExitCode> {
    set_up()?;
    Ok(ExitCode::SUCCESS)
}

/// The set-up that every verb that builds begins with.
///
/// # Errors
/// As [`run`].
pub fn set_up() -> Result<Toolchain> {
    let toolchain = toolchain::obtain()?;
    say(&toolchain.describe());
    Ok(toolchain)
}
