//! One boot: the emulator with a serial line for all output.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Run;
use super::emulator::Emulator;
use super::kernel::Unpacked;
use super::verdict::{self, Verdict};
use crate::step::{Step, say};
use crate::workspace;

/// A boot takes seconds, the tests some minutes; a busy machine multiplies both.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// 100,000 TIME_WAIT sockets, a flood of requests, ftrace's buffers.
const MEMORY: &str = "2G";
/// What a machine takes of this one.
pub const MEMORY_KIB: u64 = 5 << 19;
/// Mitigations guard nothing here. A processor that stands still ends the machine. So little memory would make a socket table
/// that holds 8,192 sockets in TIME_WAIT. No word about clocks: the kernel distrusts the emulated cycle counter with reason, which
/// it measures wrong by a multiple on a busy machine, and takes the time from the emulated HPET.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 mitigations=off softlockup_panic=1 \
    sysctl.kernel.panic_on_rcu_stall=1 thash_entries=65536";

/// Boots the kernel with the image and waits until it has switched itself off, or for as long as the limit.
///
/// # Errors
/// The log cannot be read.
pub fn boot(emulator: &Emulator, kernel: &Unpacked, image: &Path, runs: &[Run]) -> Result<Verdict> {
    let log = format!("vm-{}", kernel.release);
    let mut command = emulator.command();
    // Never kvm: in a virtual machine it may be offered and not work.
    command.args(["-accel", "tcg", "-m", MEMORY, "-smp", "2", "-nodefaults", "-nographic", "-no-reboot"]);
    // Without rdrand Linux 5.10 has no random numbers in its first minute, and programs wait for them.
    command.args(["-cpu", "qemu64,+rdrand"]);
    command.args(["-serial", "stdio", "-append", KERNEL_ARGUMENTS, "-kernel"]);
    command.arg(kernel.vmlinuz()).arg("-initrd").arg(image);
    let started = Instant::now();
    let path = workspace::logs().join(format!("{log}.log"));
    // Or that of an earlier boot would be judged when this one does not begin.
    let _ = fs::remove_file(&path);
    let step = Step { what: &format!("booting {}", kernel.release), log: &log, limit: LIMIT };
    if let Err(error) = step.run_beside_others(&format!("{}: ", kernel.release), &mut command) {
        // What the machine did until then is in the log.
        say(&format!("{error:#}"));
    }
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let targets: Vec<&str> = runs.iter().map(|run| run.target).collect();
    Ok(verdict::judge(&String::from_utf8_lossy(&text), &targets, started.elapsed().as_secs()))
}
