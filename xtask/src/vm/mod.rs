//! `cargo xtask vm`: boots other kernels in an emulator and runs the kernel's tests there, the daemon's among them.
//!
//! One statically linked daemon with one BPF object inside, and one set of test binaries, go to all kernels: what they prove,
//! they prove of the object that ships. The processor is emulated (`tcg`): works where a virtual machine cannot start another.

mod binaries;
mod boot;
mod emulator;
mod image;
mod kernel;
mod modules;
mod programs;
mod targets;
mod verdict;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::build;
use crate::setup;
use crate::system::{apt, find_program};
use crate::test::peers;
use binaries::Binaries;
use emulator::Emulator;
use kernel::{KERNELS, Kernel, Unpacked};
use targets::TARGETS;
use verdict::Verdict;

/// What the verb works with besides the emulator: a program and the Debian package that brings it.
const TOOLS: [(&str, &str); 8] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("ldd", "libc-bin"),
    ("ip", "iproute2"),
    ("bpftool", "bpftool"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];
/// By its keys apt knows Debian's packages; it has no program.
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// Boot Debian's kernels 5.10, 6.1 and 6.12 in an emulator and run the kernel's tests there, some minutes each.
///
/// Exit status 1 when a test fails. Kernels are kept in target/vm.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask vm\n  cargo xtask vm --all 6.1\n  \
    cargo xtask vm 5.10 --test kernel_probes -- every_way --nocapture")]
pub struct Args {
    /// Only these kernels.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(KERNELS.map(|kernel| kernel.version)))]
    kernels: Vec<String>,
    /// Only this test target, whole; repeatable.
    #[arg(long = "test", value_name = "TARGET",
        value_parser = clap::builder::PossibleValuesParser::new(TARGETS.map(|target| target.name)))]
    tests: Vec<String>,
    /// Also the tests that take long on an emulated processor.
    #[arg(long)]
    all: bool,
    /// Look for newer packages of the kernels.
    #[arg(long)]
    refresh: bool,
    /// Arguments of the test binaries.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// A test target and the arguments of its binary.
#[derive(Clone)]
struct Run {
    target: &'static str,
    arguments: Vec<String>,
}

/// The kernels, ready to boot.
pub struct Matrix {
    emulator: Emulator,
    kernels: Vec<Unpacked>,
}

/// The verb.
///
/// # Errors
/// The build failed, a kernel or a tool cannot be had, or the emulator does not start.
pub fn run(args: &Args) -> Result<ExitCode> {
    let matrix = Matrix::obtain(&args.kernels, args.refresh)?;
    let object = build::build_object(&setup::set_up()?, build::PROBES)?;
    let all_passed = matrix.run(&object, &runs(args))?;
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Matrix {
    /// Installs the emulator and downloads the kernels named, all if none is, unless they are there.
    ///
    /// # Errors
    /// One line: what cannot be had, and what to do.
    pub fn obtain(versions: &[String], refresh: bool) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("the images are for x86-64, and this machine is not: run `cargo xtask vm` on one that is");
        }
        if apt::is_present() {
            let mut packages = TOOLS.map(|(_, package)| package).to_vec();
            packages.push(KEYRING_PACKAGE);
            packages.dedup();
            apt::install(&packages, "installing what the emulator's images are made with", "apt-vm")?;
        }
        let missing: Vec<_> = TOOLS.iter().filter(|(program, _)| find_program(program).is_none()).collect();
        if let Some((program, package)) = missing.first() {
            bail!("no {program} on PATH; install it (Debian's package: {package}) and run this again");
        }
        peers::obtain(&[peers::PROMTOOL])?;
        let emulator = Emulator::obtain()?;
        let wanted = |kernel: &&Kernel| versions.is_empty() || versions.iter().any(|it| it == kernel.version);
        let kernels = KERNELS.iter().filter(wanted).map(|kernel| kernel.obtain(refresh)).collect::<Result<_>>();
        Ok(Self { emulator, kernels: kernels? })
    }

    /// Boots each kernel and runs the tests of `cargo xtask vm` there; whether all passed.
    ///
    /// # Errors
    /// The build failed, or the emulator does not start.
    pub fn run_usual(&self, object: &Path) -> Result<bool> {
        self.run(object, &runs_of(&[], false, &[]))
    }

    fn run(&self, object: &Path, runs: &[Run]) -> Result<bool> {
        let targets: Vec<&str> = runs.iter().map(|run| run.target).collect();
        let binaries = binaries::build(object, &targets)?;
        // The tests wait more than they work: as many machines at a time as there is memory for.
        let all_passed = self.kernels.chunks(at_once()).map(|some| {
            std::thread::scope(|scope| {
                let boots: Vec<_> =
                    some.iter().map(|kernel| scope.spawn(|| boot(&self.emulator, kernel, &binaries, runs))).collect();
                let passed =
                    boots.into_iter().map(|boot| boot.join().unwrap_or_else(|_| bail!("a thread of xtask panicked")));
                passed.collect::<Result<Vec<bool>>>().map(|passed| passed.into_iter().all(|passed| passed))
            })
        });
        Ok(all_passed.collect::<Result<Vec<bool>>>()?.into_iter().all(|passed| passed))
    }
}

/// Boots one kernel and says what came of it; whether all passed. What fails gets a second boot of its own, and the first stays on record:
/// a machine whose processors are emulated, several on each real one, may stand still for longer than a test can wait.
fn boot(emulator: &Emulator, kernel: &Unpacked, binaries: &Binaries, runs: &[Run]) -> Result<bool> {
    let boot = |runs: &[Run]| -> Result<Verdict> {
        let image = image::make(kernel, binaries, runs)?;
        boot::boot(emulator, kernel, &image, runs).with_context(|| format!("Linux {}", kernel.release))
    };
    let first = boot(runs)?;
    println!("{}: {first}", kernel.release);
    if first.failed.is_empty() {
        return Ok(first.passed());
    }
    let again: Vec<Run> =
        runs.iter().filter(|run| first.failed.iter().any(|failed| failed.target == run.target)).cloned().collect();
    let second = boot(&again)?;
    println!("{}, second boot, what had failed in the first: {second}", kernel.release);
    Ok(second.passed())
}

/// How many machines fit into the memory that is free.
fn at_once() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    machines(&text).clamp(1, KERNELS.len())
}

fn machines(meminfo: &str) -> usize {
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = available.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (kib.unwrap_or(0) / boot::MEMORY_KIB) as usize
}

fn runs(args: &Args) -> Vec<Run> {
    runs_of(&args.tests, args.all, &args.arguments)
}

/// What is named of the list, whole; or else the list, without what is left to `--all` unless that is given.
fn runs_of(names: &[String], all: bool, arguments: &[String]) -> Vec<Run> {
    let named = |name: &str| names.iter().any(|wanted| wanted == name);
    let listed = TARGETS.iter().filter(|target| names.is_empty() || named(target.name));
    let run = |target: &'static targets::Target| {
        let mut own = target.skips(all || !names.is_empty())?;
        own.extend_from_slice(arguments);
        Some(Run { target: target.name, arguments: own })
    };
    listed.filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_machines_as_memory_holds() {
        let check = |meminfo, expected| assert_eq!(machines(meminfo), expected, "{meminfo}");
        check("MemTotal: 8000000 kB\nMemAvailable:    8000000 kB\n", 3);
        check("MemAvailable: 2621440 kB", 1);
        check("MemAvailable: 2621439 kB", 0);
        check("", 0);
    }
}
