//! The table, in Markdown, and what must be known to read it.

use std::fmt;
use std::fs;

/// Rows and notes as they come.
#[derive(Default)]
pub struct Report {
    rows: Vec<[String; 4]>,
    notes: Vec<String>,
}

impl Report {
    /// One row: what was measured, of synfin, what of the thing beside it, and how they compare.
    pub fn row(&mut self, what: &str, synfin: String, beside: String, ratio: String) {
        eprintln!("bench:   {what}: {synfin} | {beside} | {ratio}");
        self.rows.push([what.to_owned(), synfin, beside, ratio]);
    }

    /// A sentence under the table.
    pub fn note(&mut self, note: String) {
        eprintln!("bench:   {note}");
        self.notes.push(note);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measured | synfin | beside it | ratio |\n|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        writeln!(f, "\n{}", machine())?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

/// Kernel, processor, cores, and how busy it was.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "Linux {}, {} cores ({}), load average {} at the end. A shared machine is noisy: compare within one run only.",
        release.trim(),
        cores,
        model.map_or("unknown processor", |(_, model)| model.trim()),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}
