//! The test binaries, linked statically so that they run beside nothing but a kernel.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::build;
use crate::step::{self, say};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the named test targets of the daemon's package. Optimized: an emulated processor is slow enough.
///
/// # Errors
/// The compiler found a fault, or there is no such target.
pub fn build(object: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    say("building the tests, linked statically (minutes the first time)");
    let mut command = build::host_cargo_with(object);
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.args(["test", "--no-run", "--release", "--package", "synfin", "--target", TARGET]);
    command.arg("--message-format=json-render-diagnostics");
    for name in names {
        command.args(["--test", name]);
    }
    let binaries = executables(&step::output(command.stderr(std::process::Stdio::inherit()))?);
    let binaries: Vec<_> = binaries.into_iter().filter(|path| is_one_of(path, names)).collect();
    if binaries.len() != names.len() {
        bail!("cargo built {binaries:?} for the tests {names:?}");
    }
    Ok(binaries)
}

/// The `executable` of each of cargo's messages.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once("\"executable\":\"")?.1.split('"').next()?));
    messages.lines().filter_map(path).collect()
}

/// Whether `path` is `<name>-<hash>` of a test; the daemon's program is built along and is none.
fn is_one_of(path: &Path, names: &[String]) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.rsplit_once('-').is_some_and(|(name, _)| names.iter().any(|wanted| wanted == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_found_in_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/kernel_probes-01ab\",\"fresh\":true}\n\
            {\"executable\":\"/t/synfin\"}\n{\"reason\":\"build-finished\"}";
        let found = executables(messages);
        assert_eq!(found, [PathBuf::from("/t/deps/kernel_probes-01ab"), PathBuf::from("/t/synfin")]);
        let wanted = ["kernel_probes".to_owned()];
        assert_eq!(found.iter().map(|path| is_one_of(path, &wanted)).collect::<Vec<_>>(), [true, false]);
    }
}
