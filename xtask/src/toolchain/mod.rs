//! The compiler of the BPF half: found, or made, in one of two ways.
//!
//! Both need `core` for `bpfel-unknown-none` and a bpf-linker. A rustup nightly with `rust-src` builds `core` itself;
//! Debian's `rustc-web` comes with one built. Whatever is found is proved by compiling a small program, because a version
//! number does not tell whether a linker reads the bitcode of a compiler.

mod advice;
mod linker;
mod nightly;
mod packages;
mod plan;
mod proof;
mod version;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::environment;
use crate::step::{self, say};
use crate::system::{apt, distribution, find_program};
use plan::{Attempt, Found};

/// The target of the BPF half.
pub const TARGET: &str = "bpfel-unknown-none";
/// Set to `nightly` or `packages` to allow only that way.
pub const ONLY: &str = "SYNFIN_BPF_TOOLCHAIN";

/// One of the two ways to a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A rustup toolchain, by name, that has `rust-src`.
    Nightly { toolchain: String },
    /// `rustc-web` and `cargo-web` of Debian.
    Packages,
}

/// A proved compiler and linker.
#[derive(Debug, Clone)]
pub struct Toolchain {
    way: Way,
    linker: PathBuf,
}

impl Toolchain {
    /// `cargo build --release` for the BPF target; the caller adds what to build and where to.
    pub fn cargo_build(&self) -> Command {
        let mut command = match &self.way {
            Way::Nightly { toolchain } => {
                let mut command = environment::clean("rustup");
                command.args(["run", toolchain, "cargo", "build", "-Z", "build-std=core"]);
                command
            }
            Way::Packages => {
                let mut command = environment::clean(packages::CARGO);
                // RUSTC_BOOTSTRAP: a distribution's compiler is a stable one, and BPF assembly is not stable.
                command.env("RUSTC", packages::RUSTC).env("RUSTC_BOOTSTRAP", "1").arg("build");
                command
            }
        };
        // The unit separator keeps a linker whose path has a space whole. v3 (32-bit arithmetic and jumps) is known to
        // every kernel since 5.1; the oldest we load on is 5.10.
        let linker = format!("linker={}", self.linker.display());
        let flags = ["-C", &linker, "-C", "target-cpu=v3", "-C", "debuginfo=2", "-C", "link-arg=--btf"];
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).args(["--release", "--target", TARGET]);
        command
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let way = match &self.way {
            Way::Nightly { toolchain } => format!("rustup's {toolchain} with rust-src"),
            Way::Packages => "Debian's rustc-web".to_owned(),
        };
        format!("BPF toolchain: {way}, {}", self.linker.display())
    }
}

/// Finds a working toolchain or makes one.
///
/// # Errors
/// Neither way worked; says what was tried, and on a distribution that set-up does not know what to install.
pub fn obtain() -> Result<Toolchain> {
    let found = look()?;
    let mut failures = Vec::new();
    for attempt in plan::attempts(&found) {
        match make(&attempt) {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => {
                say(&format!("{}: {error:#}", attempt.describe()));
                failures.push(attempt.describe());
            }
        }
    }
    let tried = if failures.is_empty() { "nothing to try".to_owned() } else { failures.join("; ") };
    let distribution = distribution::read_distribution();
    bail!("no compiler for the BPF half (tried: {tried})\n{}", advice::advice(&distribution))
}

fn look() -> Result<Found> {
    let only = std::env::var(ONLY).ok().filter(|only| !only.is_empty());
    let (nightly, packages) = match only.as_deref() {
        None => (true, true),
        Some("nightly") => (true, false),
        Some("packages") => (false, true),
        Some(other) => bail!("{ONLY}={other}: must be `nightly` or `packages`"),
    };
    let rustup = nightly && find_program("rustup").is_some();
    let apt = apt::is_present();
    Ok(Found {
        rustup,
        apt,
        nightly: if rustup { nightly::look() } else { plan::Nightly::Absent },
        packages: packages && packages::are_installed(),
        packages_allowed: packages,
    })
}

fn make(attempt: &Attempt) -> Result<Toolchain> {
    match attempt {
        Attempt::UseNightly { toolchain } => linker::find(Way::Nightly { toolchain: toolchain.clone() }),
        Attempt::UsePackages => linker::find(Way::Packages),
        Attempt::CompleteNightly { toolchain } => {
            nightly::add_source(toolchain)?;
            linker::obtain(Way::Nightly { toolchain: toolchain.clone() })
        }
        Attempt::InstallPackages => {
            packages::install()?;
            linker::obtain(Way::Packages)
        }
        Attempt::InstallNightly => {
            nightly::install()?;
            linker::obtain(Way::Nightly { toolchain: nightly::CHANNEL.to_owned() })
        }
    }
}

/// What a way's compiler says of itself.
fn read_version(way: &Way) -> Result<version::Version> {
    let mut command = match way {
        Way::Nightly { toolchain } => {
            let mut command = environment::clean("rustup");
            command.args(["run", toolchain, "rustc"]);
            command
        }
        Way::Packages => environment::clean(packages::RUSTC),
    };
    version::parse_verbose(&step::output(command.arg("-vV"))?)
}
