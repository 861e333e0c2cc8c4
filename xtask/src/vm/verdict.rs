//! What the tests said on the serial line of one boot.

use std::fmt;

use super::image::RESULT;

/// How many lines of a failure are shown.
const SHOWN: usize = 60;

/// A test target that reported.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub target: String,
    pub tests: u32,
    /// As the test binary says it: `12.34s`.
    pub time: String,
}

/// What became of the tests on one kernel.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed {
        ran: Vec<Ran>,
        seconds: u64,
    },
    Failed {
        lines: Vec<String>,
    },
    /// A processor of the machine stood still and the kernel's watchdog ended it: that says nothing of the tests.
    Stuck {
        lines: Vec<String>,
    },
}

/// How the watchdogs of the kernel begin their lines.
const WATCHDOGS: [&str; 2] = ["watchdog: BUG: soft lockup", "rcu: INFO: "];

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed { ran, seconds } => {
                write!(f, "pass, {} tests, {seconds} s", ran.iter().map(|ran| ran.tests).sum::<u32>())?;
                ran.iter().try_for_each(|Ran { target, tests, time }| write!(f, "\n  {target}: {tests} tests, {time}"))
            }
            Self::Failed { lines } => write!(f, "FAIL\n  {}", lines.join("\n  ")),
            Self::Stuck { lines } => write!(f, "a processor stood still\n  {}", lines.join("\n  ")),
        }
    }
}

/// Passed means: every target reported with status 0, and tests did run.
pub fn judge(log: &str, targets: &[&str], seconds: u64) -> Verdict {
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    let (mut ran, mut wrong, mut from) = (Vec::new(), Vec::new(), 0);
    for target in targets {
        let head = format!("{RESULT} {target} ");
        let Some(end) = (from..lines.len()).find(|at| lines[*at].starts_with(&head)) else {
            wrong.push(format!("{target}: the machine ended before it did"));
            let last = &lines[from.max(lines.len().saturating_sub(SHOWN))..];
            wrong.extend(shown(last));
            if last.iter().any(|line| WATCHDOGS.iter().any(|watchdog| line.contains(watchdog))) {
                return Verdict::Stuck { lines: wrong };
            }
            break;
        };
        let said = &lines[from..end];
        match (lines[end].strip_prefix(&head), said.iter().find_map(|line| passed(line))) {
            (Some("0"), Some((tests, time))) => ran.push(Ran { target: (*target).to_owned(), tests, time }),
            (status, _) => {
                wrong.push(format!("{target}: status {}", status.unwrap_or_default()));
                let failures = said.iter().position(|line| *line == "failures:");
                wrong.extend(shown(&said[failures.unwrap_or(said.len().saturating_sub(SHOWN))..]));
            }
        }
        from = end + 1;
    }
    if wrong.is_empty() && ran.iter().any(|ran| ran.tests > 0) {
        return Verdict::Passed { ran, seconds };
    }
    if wrong.is_empty() {
        wrong.push("no test ran".to_owned());
    }
    Verdict::Failed { lines: wrong }
}

/// `test result: ok. 6 passed; 0 failed; …; finished in 1.23s`: how many and how long.
fn passed(line: &str) -> Option<(u32, String)> {
    let rest = line.strip_prefix("test result: ok. ")?;
    let time = rest.rsplit_once("finished in ").map_or("", |(_, time)| time);
    Some((rest.split(' ').next()?.parse().ok()?, time.to_owned()))
}

fn shown<'a>(lines: &'a [&str]) -> impl Iterator<Item = String> + use<'a> {
    lines.iter().take(SHOWN).map(|line| format!("  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(log: &str, expected: Verdict) {
        assert_eq!(judge(log, &["kernel_a", "kernel_b"], 9), expected, "{log}");
    }

    fn failed(lines: &[&str]) -> Verdict {
        Verdict::Failed { lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn only_tests_that_ran_and_said_so_have_passed() {
        let ran = |target: &str, tests, time: &str| Ran { target: target.into(), tests, time: time.into() };
        check(
            "test result: ok. 6 passed; 0 failed; finished in 1.50s\r\nsynfin-vm-result kernel_a 0\r\n\
             test result: ok. 0 passed; 0 failed; 9 filtered out; finished in 0.00s\nsynfin-vm-result kernel_b 0\n",
            Verdict::Passed { ran: vec![ran("kernel_a", 6, "1.50s"), ran("kernel_b", 0, "0.00s")], seconds: 9 },
        );
        check(
            "test result: ok. 0 passed\nsynfin-vm-result kernel_a 0\ntest result: ok. 0 passed\nsynfin-vm-result kernel_b 0",
            failed(&["no test ran"]),
        );
    }

    #[test]
    fn every_failure_is_shown() {
        check(
            "running\nfailures:\nit broke\nsynfin-vm-result kernel_a 101\nnot found\nsynfin-vm-result kernel_b 127",
            failed(&["kernel_a: status 101", "  failures:", "  it broke", "kernel_b: status 127", "  not found"]),
        );
        check(
            "test result: ok. 6 passed\nsynfin-vm-result kernel_a 0\nKernel panic",
            failed(&["kernel_b: the machine ended before it did", "  Kernel panic"]),
        );
    }

    #[test]
    fn a_machine_that_stood_still_is_neither() {
        let lines =
            ["kernel_a: the machine ended before it did", "  [ 56.2] rcu: INFO: rcu_preempt self-detected stall"];
        let lines = lines.map(str::to_owned).to_vec();
        check("[ 56.2] rcu: INFO: rcu_preempt self-detected stall", Verdict::Stuck { lines });
    }
}
