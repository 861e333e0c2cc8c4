//! One boot: the emulator with a serial line for all output, and what the tests said on it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::image::RESULT;
use super::kernel::Unpacked;
use crate::step::Step;
use crate::{environment, workspace};

/// A boot takes seconds, the tests a minute; a busy machine multiplies both.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How many lines of a failure are shown.
const SHOWN: usize = 60;

/// What became of the tests on one kernel.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed { tests: u32, seconds: u64 },
    Failed { lines: Vec<String> },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { tests, seconds } => write!(f, "pass, {tests} tests, {seconds} s"),
            Self::Failed { lines } => write!(f, "FAIL\n  {}", lines.join("\n  ")),
        }
    }
}

/// Boots the kernel with the image and waits until it has switched itself off.
///
/// # Errors
/// The emulator does not start, fails, or the limit passes; names its log.
pub fn boot(kernel: &Unpacked, image: &Path) -> Result<Verdict> {
    let log = format!("vm-{}", kernel.release);
    let mut command = environment::clean("qemu-system-x86_64");
    // Never kvm: in a virtual machine it may be offered and not work.
    command.args(["-accel", "tcg", "-m", "1G", "-smp", "2", "-nodefaults", "-nographic", "-no-reboot"]);
    command.args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1", "-kernel"]);
    command.arg(kernel.vmlinuz()).arg("-initrd").arg(image);
    let started = Instant::now();
    Step { what: &format!("booting {}", kernel.release), log: &log, limit: LIMIT }.run(&mut command)?;
    let path = workspace::logs().join(format!("{log}.log"));
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(judge(&String::from_utf8_lossy(&text), started.elapsed().as_secs()))
}

/// Passed means: every binary reported, each with status 0, and tests did run.
fn judge(log: &str, seconds: u64) -> Verdict {
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    let statuses: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(RESULT)).map(str::trim).collect();
    let passed = |line: &&str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok();
    let tests = lines.iter().filter_map(passed).sum();
    if !statuses.is_empty() && statuses.iter().all(|status| *status == "0") && tests > 0 {
        return Verdict::Passed { tests, seconds };
    }
    let failures = lines.iter().position(|line| *line == "failures:");
    let from = failures.unwrap_or(lines.len().saturating_sub(SHOWN));
    Verdict::Failed { lines: lines[from..].iter().take(SHOWN).map(|line| (*line).to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log: &str, expected: Verdict) {
        assert_eq!(judge(log, 9), expected, "{log}");
    }

    #[test]
    fn only_tests_that_ran_and_said_so_have_passed() {
        let failed = |lines: &[&str]| Verdict::Failed { lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        check(
            "test result: ok. 6 passed; 0 failed\r\nsynfin-vm-result 0\r\n",
            Verdict::Passed { tests: 6, seconds: 9 },
        );
        check(
            "test result: ok. 0 passed; 0 failed\nsynfin-vm-result 0",
            failed(&["test result: ok. 0 passed; 0 failed", "synfin-vm-result 0"]),
        );
        check(
            "running\nfailures:\nit broke\nsynfin-vm-result 101",
            failed(&["failures:", "it broke", "synfin-vm-result 101"]),
        );
        check("Kernel panic", failed(&["Kernel panic"]));
    }
}
