//! The command line: one variant and one file a subcommand. stdout is data, stderr is talk.
//!
//! Exit status: 0 done and nothing wrong; 1 found what it was asked to find wrong; 2 could not do it.

mod check;
mod completions;
mod diagnose;
mod lines;
mod man;
mod output;
mod record;
mod replay;
mod run;
mod trace;
mod trace_filter;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub use output::{is_broken_pipe, print};
pub use record::RecordArgs;
pub use replay::ReplayArgs;
pub use run::RunArgs;
pub use trace::TraceArgs;
pub use trace_filter::{Cidr, PortSpan, Subject, TraceFilter};

/// Exit status of "could not do it", as clap's own for mistaken flags.
pub const COULD_NOT: u8 = 2;
/// Exit status of "found what it was asked to find wrong".
pub const FOUND: u8 = 1;

/// Watches the life of every TCP connection of a host through eBPF: state changes, handshakes, and where TIME_WAIT comes from
#[derive(Debug, Parser)]
#[command(name = "synfin", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit status: 0 done and nothing wrong, 1 found what it was asked to find wrong, 2 could not do it.

Example: what does this host support, and what would be lost?
  synfin check";

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    Check(check::CheckArgs),
    Diagnose(diagnose::DiagnoseArgs),
    Trace(TraceArgs),
    Record(RecordArgs),
    Replay(ReplayArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => run::run(args),
            Self::Check(args) => check::run(args),
            Self::Diagnose(args) => diagnose::run(args),
            Self::Trace(args) => trace::run(args),
            Self::Record(args) => record::run(args),
            Self::Replay(args) => replay::run(args),
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
        }
    }
}

/// The whole command line as clap sees it, for completions, man pages and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program: parses the arguments, runs the subcommand, says what went wrong in one line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and go to stdout; a reader that left early is no trouble.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(COULD_NOT));
        }
    };
    match cli.command.run() {
        Ok(status) => status,
        // `synfin trace | head`: the reader has what it wanted.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("synfin: {}", output::one_line(&error));
            ExitCode::from(COULD_NOT)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULT_PORT;

    fn help_of(command: &mut clap::Command) -> String {
        command.render_long_help().to_string()
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn every_help_ends_in_an_example() {
        let mut all = command();
        assert!(help_of(&mut all).contains("Example"), "synfin");
        for sub in all.get_subcommands_mut() {
            let name = sub.get_name().to_owned();
            let help = help_of(sub);
            let (_, example) = help.rsplit_once("Example").unwrap_or_else(|| panic!("{name} has no example"));
            let last = example.trim_end().lines().last().unwrap_or_default();
            let call = last.split_once("synfin ").unwrap_or_else(|| panic!("{name} ends in `{last}`")).1;
            assert!(call.starts_with(&name), "{name} ends in `{last}`");
        }
    }

    #[test]
    fn every_example_parses() {
        let mut all = command();
        for sub in all.get_subcommands_mut() {
            let help = help_of(sub);
            let (_, examples) = help.split_once("Example").unwrap();
            for line in examples.lines().filter(|line| line.starts_with("  ")) {
                for call in line.split(['|', '>']).map(str::trim).filter(|call| call.starts_with("synfin ")) {
                    if let Err(error) = Cli::try_parse_from(call.split_ascii_whitespace()) {
                        panic!("`{call}`: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_port_in_the_help_is_the_constant() {
        let mut all = command();
        let help = help_of(all.find_subcommand_mut("run").unwrap());
        assert!(help.contains(&format!("[default: :{DEFAULT_PORT}]")), "{help}");
    }

    #[test]
    fn the_flags_are_the_contract() {
        let all = command();
        let check = |sub: &str, flags: &[&str]| {
            let sub = all.find_subcommand(sub).unwrap();
            let has = |flag: &str| sub.get_arguments().any(|arg| arg.get_long() == Some(flag));
            for flag in flags {
                assert!(has(flag), "{} --{flag}", sub.get_name());
            }
        };
        check("run", &["web.listen-address", "web.telemetry-path", "web.config.file", "config.file", "log.level"]);
        check("run", &["log.format", "ring-bytes", "max-connections", "netns"]);
        check("check", &["json"]);
        check("trace", &["json", "transitions", "port", "local-port", "remote-port", "addr", "role", "close", "unit"]);
        check("trace", &["pid", "min-lifetime", "slower-than", "count", "for"]);
        check("diagnose", &["json", "details", "explain", "for", "socket", "root", "netns"]);
        check("run", &["socket"]);
        check("record", &["for"]);
        check("replay", &["metrics"]);
    }
}
