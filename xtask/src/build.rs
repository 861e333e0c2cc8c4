//! `cargo xtask build`: the BPF object, then the daemon that carries it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::step::{run_openly, say};
use crate::toolchain::{TARGET, Toolchain};
use crate::{environment, setup, workspace};

/// The variable by which `monitor/build.rs` is told of the object.
const OBJECT_VARIABLE: &str = "SYNFIN_PROBES_OBJECT";
/// The BPF object of the daemon.
pub const PROBES: &str = "synfin-probes";

/// Build both halves; leaves target/release/synfin.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask build")]
pub struct Args {
    /// Build the daemon without optimization, to target/debug/synfin; the BPF object is optimized all the same.
    #[arg(long)]
    debug: bool,
}

/// The verb.
///
/// # Errors
/// Set-up failed, or the compiler found a fault.
pub fn run(args: &Args) -> Result<ExitCode> {
    let daemon = build(!args.debug)?.daemon;
    say(&format!("built {}", daemon.display()));
    Ok(ExitCode::SUCCESS)
}

/// What a build leaves.
pub struct Built {
    /// The daemon.
    pub daemon: PathBuf,
    /// The BPF object that it carries.
    pub object: PathBuf,
}

/// Sets up and builds both halves.
///
/// # Errors
/// As [`run`].
pub fn build(release: bool) -> Result<Built> {
    let object = build_object(&setup::set_up()?, PROBES)?;
    let mut command = host_cargo_with(&object);
    command.args(["build", "--package", "synfin", "--bin", "synfin"]);
    if release {
        command.arg("--release");
    }
    run_openly(&mut command).context("building the daemon")?;
    let folder = if release { "release" } else { "debug" };
    Ok(Built { daemon: workspace::target().join(folder).join("synfin"), object })
}

/// Builds one BPF program of `monitor-ebpf` and returns the path of its object; cargo sees itself when nothing changed.
///
/// # Errors
/// The compiler or the linker found a fault.
pub fn build_object(toolchain: &Toolchain, bin: &str) -> Result<PathBuf> {
    let target = workspace::target().join("bpf");
    let mut command = toolchain.cargo_build();
    command.args(["--locked", "--package", "synfin-ebpf", "--bin", bin, "--target-dir"]).arg(&target);
    run_openly(&mut command).with_context(|| format!("building the BPF object {bin}"))?;
    let object = target.join(TARGET).join("release").join(bin);
    object.canonicalize().with_context(|| format!("the build left no {}", object.display()))
}

/// The host's cargo, told of the object.
pub fn host_cargo_with(object: &Path) -> Command {
    let mut command = environment::host_cargo();
    command.env(OBJECT_VARIABLE, object);
    command
}
