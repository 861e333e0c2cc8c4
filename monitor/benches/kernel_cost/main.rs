//! What synfin costs, as ratios from one run: `cargo xtask bench` builds what this needs and runs it as root.
//!
//! It works in a network namespace of its own, so that the host's ports and TIME_WAIT sockets are left alone. Nothing here
//! fails on a number: the machine decides, the reader judges.

mod census;
mod child;
mod floor;
mod hammer;
mod holder;
mod kernel_side;
mod load;
mod memory;
mod namespace;
mod page;
mod programs;
mod report;
mod scrape;
mod user_side;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use hammer::Hammer;
use report::Report;

/// What the sections need.
struct Bench {
    /// The release daemon (`SYNFIN_BIN`).
    daemon: PathBuf,
    /// The object of the yardstick (`SYNFIN_FLOOR_OBJECT`).
    floor: PathBuf,
    hammer: Hammer,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, connections] = &arguments[..]
        && verb == holder::VERB
        && let Ok(connections) = connections.parse()
    {
        return match holder::hold(connections) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    match run() {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("bench: error: {error:#}");
    ExitCode::from(2)
}

fn run() -> Result<Report> {
    namespace::enter()?;
    let bench = Bench { daemon: path("SYNFIN_BIN")?, floor: path("SYNFIN_FLOOR_OBJECT")?, hammer: Hammer::start()? };
    let mut report = Report::default();
    let sections: [(&str, fn(&Bench, &mut Report) -> Result<()>); 6] = [
        ("memory with 100,000 tracked sockets", memory::measure),
        ("user side, from a recorded trace", user_side::measure),
        ("kernel side, by the kernel's own statistics", kernel_side::measure),
        ("monitored load", load::measure),
        ("scrapes", scrape::measure),
        ("census of TIME_WAIT sockets", census::measure),
    ];
    for (name, measure) in sections {
        eprintln!("bench: {name}");
        measure(&bench, &mut report).context(name)?;
    }
    Ok(report)
}

fn path(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).with_context(|| format!("{variable} is not set; use `cargo xtask bench`"))?;
    Ok(path.into())
}

/// The middle of some figures; of two middles the upper.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
