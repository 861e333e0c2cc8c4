//! `cargo xtask vm`: boots other kernels in an emulator and runs the kernel's tests there.
//!
//! One statically linked test binary with one BPF object inside goes to all kernels: what it proves, it proves of the object
//! that ships. The processor is emulated (`tcg`): works where a virtual machine cannot start another.

mod binaries;
mod boot;
mod image;
mod kernel;

use std::process::ExitCode;

use anyhow::Result;

use crate::build;
use crate::setup;
use crate::system::apt;
use boot::Verdict;
use kernel::{KERNELS, Kernel};

/// What the verb works with, as Debian packages.
const PACKAGES: [&str; 5] = ["qemu-system-x86", "busybox-static", "cpio", "xz-utils", "debian-archive-keyring"];

/// Boot Debian's kernels 5.10, 6.1 and 6.12 in an emulator and run the kernel's tests there.
///
/// Exit status 1 when a test fails. Kernels are kept in target/vm.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask vm\n  cargo xtask vm 5.10 -- every_way --nocapture")]
pub struct Args {
    /// Only these kernels.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(KERNELS.map(|kernel| kernel.version)))]
    kernels: Vec<String>,
    /// Test target of the package synfin to run; repeatable.
    #[arg(long = "test", default_values = ["kernel_probes", "kernel_census", "kernel_ends"])]
    tests: Vec<String>,
    /// Look for newer packages of the kernels.
    #[arg(long)]
    refresh: bool,
    /// Arguments of the test binary.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The verb.
///
/// # Errors
/// The build failed, a kernel or a tool cannot be had, or the emulator does not start.
pub fn run(args: &Args) -> Result<ExitCode> {
    if apt::is_present() {
        apt::install(&PACKAGES, "installing the emulator (some ten seconds)", "apt-vm")?;
    }
    let object = build::build_object(&setup::set_up()?, build::PROBES)?;
    let tests = binaries::build(&object, &args.tests)?;
    let wanted = |kernel: &&Kernel| args.kernels.is_empty() || args.kernels.iter().any(|it| it == kernel.version);
    let mut all_passed = true;
    for kernel in KERNELS.iter().filter(wanted) {
        let unpacked = kernel.obtain(args.refresh)?;
        let image = image::make(&unpacked, &tests, &args.arguments)?;
        let verdict = boot::boot(&unpacked, &image)?;
        println!("{}: {}", unpacked.release, verdict);
        all_passed &= matches!(verdict, Verdict::Passed { .. });
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
