//! `synfin man`: the manual, as one page with every subcommand or as one file for each.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_mangen::Man;

/// Prints the manual page, every subcommand included
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin man --out-dir /usr/share/man/man1
  synfin man | man -l -
  synfin man")]
pub struct ManArgs {
    /// Write synfin.1 and one page a subcommand into this directory instead
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

pub fn run(args: ManArgs) -> anyhow::Result<ExitCode> {
    match args.out_dir {
        Some(directory) => clap_mangen::generate_to(super::command(), &directory)
            .with_context(|| format!("cannot write manual pages into {}", directory.display()))?,
        None => super::print(&page()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The main page, then each subcommand's synopsis, description and options under a heading of its own.
fn page() -> anyhow::Result<String> {
    let mut command = super::command();
    // Gives each subcommand its full name for the synopsis.
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    let mut page = String::from_utf8(page)?;
    for sub in command.get_subcommands() {
        let mut section = Vec::new();
        let man = Man::new(sub.clone());
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        man.render_extra_section(&mut section)?;
        page.push_str(&format!(".SH \"SYNFIN {}\"\n", sub.get_name().to_uppercase()));
        // Sections of a subcommand are parts of its heading here.
        page.push_str(&String::from_utf8(section)?.replace(".SH ", ".SS "));
    }
    Ok(page)
}
