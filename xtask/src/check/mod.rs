//! `cargo xtask check`: everything that is wrong without running anything.

mod tree;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::environment;
use crate::step::{output, say, shown};
use crate::workspace;

/// Check format, lints, documentation and the shape of the tree. Needs no BPF toolchain.
///
/// Exit status 1 when something is wrong; all checks run, whatever the first ones say.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask check")]
pub struct Args {}

/// The verb.
///
/// # Errors
/// A check could not run.
pub fn run(_: &Args) -> Result<ExitCode> {
    let mut wrong = Vec::new();
    for mut command in [format(), clippy(), documentation()] {
        let name = shown(&command);
        say(&name);
        if !command.status().with_context(|| format!("cannot start {name}"))?.success() {
            wrong.push(name);
        }
    }
    say("the shape of the tree");
    let faults = tree::faults(&read_tree()?);
    for fault in &faults {
        println!("{fault}");
    }
    if !faults.is_empty() {
        wrong.push(format!("the shape of the tree ({} faults)", faults.len()));
    }
    if wrong.is_empty() {
        say("check: nothing wrong");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("check: wrong: {}", wrong.join("; ")));
    Ok(ExitCode::FAILURE)
}

fn format() -> Command {
    let mut command = environment::host_cargo();
    command.args(["fmt", "--all", "--check"]);
    command
}

fn clippy() -> Command {
    let mut command = environment::host_cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

fn documentation() -> Command {
    let mut command = environment::host_cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// Every file that git has or would add, with its text; what is not text has none.
fn read_tree() -> Result<Vec<tree::Source>> {
    let mut command = environment::clean("git");
    let list = output(command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let root = workspace::root();
    let present = list.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file());
    Ok(present
        .map(|path| tree::Source { path: path.to_owned(), text: std::fs::read_to_string(root.join(path)).ok() })
        .collect())
}
