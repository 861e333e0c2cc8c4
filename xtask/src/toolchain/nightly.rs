//! The first way: a rustup nightly that builds `core` from `rust-src`.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::plan::Nightly;
use crate::environment;
use crate::step::{self, Step};

/// The channel that is installed when there is no nightly.
pub const CHANNEL: &str = "nightly";
/// What `-Z build-std` reads first, below the toolchain's root.
const SOURCE: &str = "lib/rustlib/src/rust/library/Cargo.lock";
/// `rust-src` is 5 MB; rustup without a network retries, and the other way is waiting.
const COMPONENT_LIMIT: Duration = Duration::from_secs(60);
/// A minimal nightly is 150 MB.
const TOOLCHAIN_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Looks for a nightly: rather one with `rust-src`, rather the channel than a dated one.
pub fn look() -> Nightly {
    let list = step::output(environment::clean("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let names = parse_nightlies(&list);
    match names.iter().find(|name| has_source(name)).or(names.first()) {
        None => Nightly::Absent,
        Some(name) if has_source(name) => Nightly::WithSource { toolchain: name.clone() },
        Some(name) => Nightly::Bare { toolchain: name.clone() },
    }
}

/// The nightlies of `rustup toolchain list`, undated ones first.
fn parse_nightlies(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let mut nightlies: Vec<String> = names.filter(|name| name.starts_with(CHANNEL)).map(str::to_owned).collect();
    nightlies.sort_by_key(|name| name.starts_with("nightly-20"));
    nightlies
}

fn has_source(toolchain: &str) -> bool {
    let mut command = environment::clean("rustup");
    let sysroot = step::output(command.args(["run", toolchain, "rustc", "--print", "sysroot"]));
    sysroot.is_ok_and(|path| Path::new(path.trim()).join(SOURCE).exists())
}

/// Adds `rust-src`.
///
/// # Errors
/// rustup cannot, for instance without a network; ended after a minute.
pub fn add_source(toolchain: &str) -> Result<()> {
    if has_source(toolchain) {
        return Ok(());
    }
    let mut command = environment::clean("rustup");
    command.args(["component", "add", "rust-src", "--toolchain", toolchain]);
    Step { what: "adding rust-src to the nightly (some seconds)", log: "rustup-rust-src", limit: COMPONENT_LIMIT }
        .run(&mut command)
}

/// Installs a minimal nightly with `rust-src`.
///
/// # Errors
/// rustup cannot; names its log.
pub fn install() -> Result<()> {
    let mut command = environment::clean("rustup");
    command.args(["toolchain", "install", CHANNEL, "--profile", "minimal", "--component", "rust-src"]);
    Step { what: "installing a nightly from rustup (a minute or two)", log: "rustup-nightly", limit: TOOLCHAIN_LIMIT }
        .run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expected: &[&str]) {
        assert_eq!(parse_nightlies(list), expected);
    }

    #[test]
    fn nightlies_are_found_and_the_channel_goes_first() {
        check("stable-x86_64-unknown-linux-gnu (active, default)\n", &[]);
        check("nightly-x86_64-unknown-linux-gnu (default)\n", &["nightly-x86_64-unknown-linux-gnu"]);
        check("nightly-2026-05-01-x86_64\nnightly-x86_64\n", &["nightly-x86_64", "nightly-2026-05-01-x86_64"]);
        check("no installed toolchains\n", &[]);
    }
}
