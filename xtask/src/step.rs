//! Saying what is done: one line a step, a sign of life every few seconds, a log that the error names.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// How often a long step says that it lives.
const PROGRESS: Duration = Duration::from_secs(5);
/// The same for each of several at a time.
const PROGRESS_BESIDE_OTHERS: Duration = Duration::from_secs(20);
/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(50);
/// How much of a failed step's log the error shows.
const TAIL_LINES: usize = 15;
/// How much of a log is read for its last lines.
const TAIL_BYTES: u64 = 8 << 10;

/// One line of talk on stderr.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// A long child process whose output goes to a log.
pub struct Step<'a> {
    /// What is done, for a person, with the usual duration.
    pub what: &'a str,
    /// Name of the log, without folder and suffix.
    pub log: &'a str,
    /// The child is ended after this long.
    pub limit: Duration,
}

impl Step<'_> {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// The command could not start, failed or took longer than the limit; names the log and shows its end.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        self.run_beside_others("", command)
    }

    /// The same, with `name` in its signs of life, which tells it from steps that run at the same time.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_beside_others(&self, name: &str, command: &mut Command) -> Result<()> {
        say(self.what);
        fs::create_dir_all(workspace::logs())
            .with_context(|| format!("cannot make {}", workspace::logs().display()))?;
        let log = workspace::logs().join(format!("{}.log", self.log));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        match self.watch(name, command, &log)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{}: {status}; log: {}\n{}", shown(command), log.display(), tail(&log, TAIL_LINES)),
            None => bail!("{}: not done after {} s, ended", shown(command), self.limit.as_secs()),
        }
    }

    /// Waits with signs of life; nothing if the limit passed and the child was ended.
    fn watch(&self, name: &str, command: &mut Command, log: &Path) -> Result<Option<ExitStatus>> {
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
        let mut next = PROGRESS;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let elapsed = started.elapsed();
            if elapsed >= self.limit {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            if elapsed >= next {
                say(&format!("  {:3} s  {name}{}", elapsed.as_secs(), tail(log, 1)));
                next += if name.is_empty() { PROGRESS } else { PROGRESS_BESIDE_OTHERS };
            }
            thread::sleep(POLL);
        }
    }
}

/// Runs a command that talks for itself.
///
/// # Errors
/// It could not start or did not end well.
pub fn run_openly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{}: {status}", shown(command));
    }
    Ok(())
}

/// The standard output of a short command.
///
/// # Errors
/// It could not start or did not end well; its last line of talk is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let talk = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", shown(command), output.status, last_lines(&talk, 1));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: the output is not text", shown(command)))
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn tail(log: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    // A log that cannot be read has nothing to show; the step's own result is what counts.
    read().map(|text| last_lines(&text, lines)).unwrap_or_default()
}

/// The last lines that say something; a line that was overwritten by carriage returns counts as its last state.
fn last_lines(text: &str, count: usize) -> String {
    let said = |line: &&str| !line.trim().is_empty();
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split('\r').rfind(said)).filter(said).map(str::trim_end).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, count: usize, expected: &str) {
        assert_eq!(last_lines(text, count), expected, "{text:?}");
    }

    #[test]
    fn the_last_lines_are_the_last_that_say_something() {
        check("", 1, "");
        check("one\ntwo\n\n", 1, "two");
        check("one\ntwo\nthree\n", 2, "two\nthree");
        check("one", 5, "one");
        check("Get:1\nReading… 10%\rReading… 90%\r", 1, "Reading… 90%");
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        assert_eq!(shown(Command::new("apt-get").args(["install", "bpftrace"])), "apt-get install bpftrace");
    }
}
