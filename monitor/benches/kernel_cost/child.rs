//! The processes that are measured: the daemon and its peers. They end with this process' interest in them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::page;
use crate::programs::{self, Programs};

/// How long a process may take to load its programs. The type information of a kernel takes seconds on a slow machine.
const START_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// From loaded to attached.
const SETTLE: Duration = Duration::from_millis(300);

/// A process with BPF programs.
pub struct Monitor {
    child: Child,
    name: String,
}

impl Monitor {
    /// The daemon with its default settings, ready.
    pub fn daemon(path: &Path) -> Result<Self> {
        let mut command = Command::new(path);
        // No configuration of this host, no page that could be taken already: the namespace is ours.
        command.args(["run", "--config.file=/dev/null", "--web.config.file=", "--log.level=error"]);
        let mut monitor = Self::spawn(command, "synfin run")?;
        monitor.wait(|_| page::is_ready())?;
        Ok(monitor)
    }

    /// Any other program that watches connections, loaded and attached; its output goes nowhere.
    pub fn other(command: Command, name: &str) -> Result<Self> {
        let mut monitor = Self::spawn(command, name)?;
        monitor.wait(|monitor| monitor.programs().is_ok_and(|programs| !programs.is_empty()))?;
        // Loaded is not attached: one that cannot attach ends.
        thread::sleep(SETTLE);
        monitor.wait(|_| true)?;
        Ok(monitor)
    }

    fn spawn(mut command: Command, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    fn wait(&mut self, ready: impl Fn(&Self) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once: {status}", self.name);
            }
            if ready(self) {
                return Ok(());
            }
            if started.elapsed() > START_WITHIN {
                bail!("{} is not ready after {} s", self.name, START_WITHIN.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    /// Its programs, as the kernel counts them.
    pub fn programs(&self) -> Result<Programs> {
        programs::of_process(self.child.id())
    }

    /// CPU time so far, user and system, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The second field, the name in parentheses, may hold anything; fields 14 and 15 are utime and stime (proc(5)).
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        // SAFETY: asks for a number.
        let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        Ok(Duration::from_secs_f64(ticks as f64 / hz))
    }

    /// A line of /proc/PID/status that counts in kB, in bytes.
    pub fn status_bytes(&self, key: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{path}: no {key}"))?;
        let number = line.trim_matches(|c: char| !c.is_ascii_digit());
        Ok(number.parse::<u64>().with_context(|| format!("{path}: {key} {line}"))? * 1024)
    }

    /// Ends it in an orderly way.
    pub fn stop(mut self) -> Result<()> {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > END_WITHIN {
                bail!("{} does not end on SIGINT", self.name);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Only after an error; nothing more can be done about another.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
