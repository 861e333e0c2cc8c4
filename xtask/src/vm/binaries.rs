//! The daemon and the test binaries, linked statically so that they run beside nothing but a kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::step::{self, say};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// In the workspace's `Cargo.toml`.
const PROFILE: &str = "vm";
const DAEMON: &str = "synfin";

/// What was built.
pub struct Binaries {
    pub daemon: PathBuf,
    tests: Vec<PathBuf>,
}

impl Binaries {
    /// The binary of a test target.
    ///
    /// # Errors
    /// It was not asked for.
    pub fn test(&self, name: &str) -> Result<&Path> {
        let found = self.tests.iter().find(|path| test_name(path) == Some(name));
        Ok(found.with_context(|| format!("cargo built no test {name}"))?)
    }
}

/// Builds the named test targets of the daemon's package, and the daemon. Optimized: an emulated processor is slow enough.
///
/// # Errors
/// The compiler found a fault, or there is no such target.
pub fn build(object: &Path, names: &[&str]) -> Result<Binaries> {
    say("building the daemon and its tests, linked statically (minutes the first time)");
    let mut command = build::host_cargo_with(object);
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.args(["test", "--no-run", "--profile", PROFILE, "--package", "synfin", "--target", TARGET]);
    command.arg("--message-format=json-render-diagnostics");
    for name in names {
        command.args(["--test", name]);
    }
    let executables = executables(&step::output(command.stderr(std::process::Stdio::inherit()))?);
    // The daemon is built along with tests that start it.
    let (tests, others): (Vec<_>, Vec<_>) = executables.into_iter().partition(|path| test_name(path).is_some());
    let daemon = others.into_iter().find(|path| path.ends_with(DAEMON)).context("cargo built no daemon")?;
    let binaries = Binaries { daemon, tests };
    if binaries.tests.len() != names.len() {
        bail!("cargo built {:?} for the tests {names:?}", binaries.tests);
    }
    Ok(binaries)
}

/// The `executable` of each of cargo's messages.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once("\"executable\":\"")?.1.split('"').next()?));
    messages.lines().filter_map(path).collect()
}

/// `<name>-<hash>` is the binary of a test.
fn test_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.rsplit_once('-').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_daemon_are_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/kernel_probes-01ab\",\"fresh\":true}\n\
            {\"executable\":\"/t/synfin\"}\n{\"reason\":\"build-finished\"}";
        let found = executables(messages);
        assert_eq!(found, [PathBuf::from("/t/deps/kernel_probes-01ab"), PathBuf::from("/t/synfin")]);
        assert_eq!(found.iter().map(|path| test_name(path)).collect::<Vec<_>>(), [Some("kernel_probes"), None]);
    }
}
