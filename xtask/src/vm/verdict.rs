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

/// A test target that did not pass, and the end of what it said.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    pub target: String,
    pub lines: Vec<String>,
}

/// What became of the tests in one boot.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub ran: Vec<Ran>,
    /// In their order; those that the machine did not come to are among them.
    pub failed: Vec<Failed>,
    pub seconds: u64,
}

impl Verdict {
    /// Every target reported with status 0, and tests did run.
    pub fn passed(&self) -> bool {
        self.failed.is_empty() && self.ran.iter().any(|ran| ran.tests > 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests: u32 = self.ran.iter().map(|ran| ran.tests).sum();
        let word = if self.passed() { "pass" } else { "FAIL" };
        write!(f, "{word}, {tests} tests passed, {} s", self.seconds)?;
        self.ran.iter().try_for_each(|Ran { target, tests, time }| write!(f, "\n  {target}: {tests} tests, {time}"))?;
        self.failed
            .iter()
            .try_for_each(|Failed { target, lines }| write!(f, "\n  {target}: FAIL\n    {}", lines.join("\n    ")))
    }
}

/// Judges the log of a boot that was to run `targets`.
pub fn judge(log: &str, targets: &[&str], seconds: u64) -> Verdict {
    let lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    let (mut verdict, mut from) = (Verdict { ran: Vec::new(), failed: Vec::new(), seconds }, 0);
    for target in targets {
        let head = format!("{RESULT} {target} ");
        let mut fail = |why: String, said: &[&str]| {
            let lines = std::iter::once(why).chain(said.iter().take(SHOWN).map(|line| (*line).to_owned()));
            verdict.failed.push(Failed { target: (*target).to_owned(), lines: lines.collect() });
        };
        let Some(end) = (from..lines.len()).find(|at| lines[*at].starts_with(&head)) else {
            fail("the machine ended before it did".into(), &lines[from.max(lines.len().saturating_sub(SHOWN))..]);
            from = lines.len();
            continue;
        };
        let said = &lines[from..end];
        match (lines[end].strip_prefix(&head), said.iter().find_map(|line| passed(line))) {
            (Some("0"), Some((tests, time))) => verdict.ran.push(Ran { target: (*target).to_owned(), tests, time }),
            (status, _) => {
                let failures = said.iter().position(|line| *line == "failures:");
                let said = &said[failures.unwrap_or(said.len().saturating_sub(SHOWN))..];
                fail(format!("status {}", status.unwrap_or_default()), said);
            }
        }
        from = end + 1;
    }
    verdict
}

/// `test result: ok. 6 passed; 0 failed; …; finished in 1.23s`: how many and how long.
fn passed(line: &str) -> Option<(u32, String)> {
    let rest = line.strip_prefix("test result: ok. ")?;
    let time = rest.rsplit_once("finished in ").map_or("", |(_, time)| time);
    Some((rest.split(' ').next()?.parse().ok()?, time.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(log: &str, ran: &[(&str, u32, &str)], failed: &[(&str, &[&str])], passed: bool) {
        let ran = ran.iter().map(|&(target, tests, time)| Ran { target: target.into(), tests, time: time.into() });
        let failed = failed.iter().map(|&(target, lines)| Failed {
            target: target.into(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        });
        let expected = Verdict { ran: ran.collect(), failed: failed.collect(), seconds: 9 };
        let verdict = judge(log, &["kernel_a", "kernel_b"], 9);
        assert_eq!((verdict.passed(), verdict), (passed, expected), "{log}");
    }

    #[test]
    fn only_tests_that_ran_and_said_so_have_passed() {
        check(
            "test result: ok. 6 passed; 0 failed; finished in 1.50s\r\nsynfin-vm-result kernel_a 0\r\n\
             test result: ok. 0 passed; 0 failed; 9 filtered out; finished in 0.00s\nsynfin-vm-result kernel_b 0\n",
            &[("kernel_a", 6, "1.50s"), ("kernel_b", 0, "0.00s")],
            &[],
            true,
        );
        check(
            "test result: ok. 0 passed\nsynfin-vm-result kernel_a 0\ntest result: ok. 0 passed\nsynfin-vm-result kernel_b 0",
            &[("kernel_a", 0, ""), ("kernel_b", 0, "")],
            &[],
            false,
        );
    }

    #[test]
    fn every_failure_is_shown() {
        check(
            "running\nfailures:\nit broke\nsynfin-vm-result kernel_a 101\nnot found\nsynfin-vm-result kernel_b 127",
            &[],
            &[("kernel_a", &["status 101", "failures:", "it broke"]), ("kernel_b", &["status 127", "not found"])],
            false,
        );
        check(
            "test result: ok. 6 passed\nsynfin-vm-result kernel_a 0\nKernel panic",
            &[("kernel_a", 6, "")],
            &[("kernel_b", &["the machine ended before it did", "Kernel panic"])],
            false,
        );
    }

    #[test]
    fn what_the_machine_did_not_come_to_has_failed() {
        let end = "the machine ended before it did";
        check("Oops", &[], &[("kernel_a", &[end, "Oops"]), ("kernel_b", &[end])], false);
    }
}
