//! `synfin completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

/// Prints the completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  synfin completions bash > /usr/share/bash-completion/completions/synfin")]
pub struct CompletionsArgs {
    /// The shell that will read them
    shell: Shell,
}

pub fn run(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "synfin", &mut script);
    super::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
