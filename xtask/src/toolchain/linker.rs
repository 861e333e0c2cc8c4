//! bpf-linker: one that works with the compiler, found or built.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Toolchain, Way, proof, read_version};
use crate::step::{self, Step};
use crate::system::{apt, find_programs};
use crate::{environment, workspace};

const NAME: &str = "bpf-linker";
/// The version that is built when none is there.
pub const VERSION: &str = "0.13.0";
/// The majors of LLVM that this version can be built with.
pub const LLVMS: std::ops::RangeInclusive<u32> = 21..=23;
/// It takes 45 s on two idle cores, five minutes on two busy ones.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The toolchain of this way with the first linker here that proves itself.
///
/// # Errors
/// No linker, or none that reads this compiler's output.
pub fn find(way: Way) -> Result<Toolchain> {
    let mut refusals = Vec::new();
    for linker in candidates() {
        let toolchain = Toolchain { way: way.clone(), linker };
        match proof::prove(&toolchain) {
            Ok(()) => return Ok(toolchain),
            Err(error) => refusals.push(format!("{}: {error:#}", toolchain.linker.display())),
        }
    }
    if refusals.is_empty() {
        bail!("there is no {NAME} on PATH");
    }
    bail!("no {NAME} that works: {}", refusals.join("; "))
}

/// As [`find`], and builds a linker if none works.
///
/// # Errors
/// No LLVM to build it with, or the build or its proof failed; names the log.
pub fn obtain(way: Way) -> Result<Toolchain> {
    match find(way.clone()) {
        Ok(toolchain) => Ok(toolchain),
        Err(_) => {
            let llvm = read_version(&way)?.llvm;
            let toolchain = Toolchain { way, linker: build(llvm)? };
            proof::prove(&toolchain)?;
            Ok(toolchain)
        }
    }
}

/// The tree's own, PATH's, and cargo's, which PATH may lack.
fn candidates() -> Vec<PathBuf> {
    let mut all = vec![own()];
    all.extend(find_programs(NAME));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    all.extend(home.map(|home| home.join("bin").join(NAME)));
    let mut unique: Vec<PathBuf> = Vec::new();
    for path in all {
        if path.exists() && !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}

fn own() -> PathBuf {
    workspace::tools().join("bin").join(NAME)
}

/// Builds the linker against an LLVM that is not older than the compiler's.
fn build(compiler_llvm: u32) -> Result<PathBuf> {
    let usable: Vec<u32> = LLVMS.filter(|llvm| *llvm >= compiler_llvm).collect();
    if usable.is_empty() {
        bail!("the compiler writes LLVM {compiler_llvm}, {NAME} {VERSION} knows {} to {}", LLVMS.start(), LLVMS.end());
    }
    let llvm = match usable.iter().find(|llvm| llvm_config(**llvm).exists()) {
        Some(llvm) => *llvm,
        None => install_llvm(&usable)?,
    };
    let feature = format!("llvm-{llvm}");
    let mut command = environment::host_cargo();
    command.args(["install", NAME, "--version", VERSION, "--locked", "--no-default-features", "--features", &feature]);
    command.arg("--root").arg(workspace::tools());
    command.env("LLVM_PREFIX", llvm_prefix(llvm)).env("CARGO_TARGET_DIR", workspace::tools().join("build"));
    Step { what: "building bpf-linker (a minute on two idle cores)", log: NAME, limit: BUILD_LIMIT }
        .run(&mut command)?;
    // Hundreds of megabytes that nothing reads again; that they stay would be no fault.
    let _ = fs::remove_dir_all(workspace::tools().join("build"));
    Ok(own())
}

/// Installs the development files of the first LLVM that the distribution has.
fn install_llvm(usable: &[u32]) -> Result<u32> {
    if !apt::is_present() {
        bail!("no LLVM of version {usable:?} to build {NAME} with");
    }
    let mut last = None;
    for llvm in usable {
        let names = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
        let what = format!("installing LLVM {llvm} for the BPF linker (a minute or two; 500 MB)");
        match apt::install(&[&names[0], &names[1]], &what, &names[0]) {
            Ok(()) => return Ok(*llvm),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no LLVM was tried")?).context(format!("no LLVM to build {NAME} with"))
}

fn llvm_prefix(llvm: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{llvm}"))
}

fn llvm_config(llvm: u32) -> PathBuf {
    llvm_prefix(llvm).join("bin/llvm-config")
}

/// The version line of a linker.
///
/// # Errors
/// It does not run, for instance because its LLVM was removed.
pub fn read_linker_version(linker: &Path) -> Result<String> {
    Ok(step::output(environment::clean(linker).arg("--version"))?.trim().to_owned())
}
