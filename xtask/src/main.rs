//! The verbs of this repository: `cargo xtask <verb>`. A verb is one file and one variant here.

mod bench;
mod build;
mod check;
mod environment;
mod run;
mod setup;
mod step;
mod system;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The verbs of the synfin repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Xtask {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Args),
    Build(build::Args),
    Run(run::Args),
    Check(check::Args),
    Test(test::Args),
    Vm(vm::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    TestRunner(test::runner::Args),
}

fn main() -> ExitCode {
    let done = match Xtask::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Vm(args) => vm::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::TestRunner(args) => test::runner::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            step::say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
