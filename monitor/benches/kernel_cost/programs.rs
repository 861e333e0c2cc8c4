//! BPF programs of a process, as the kernel counts their runs: /proc/PID/fdinfo has them, whoever loaded them.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use anyhow::{Context, Result};

/// Runs and time of one program, since it was loaded, while statistics were on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub runs: u64,
    pub time_ns: u64,
}

/// By the kernel's number of the program.
pub type Programs = BTreeMap<u32, Figures>;

/// The programs that a process holds.
pub fn of_process(pid: u32) -> Result<Programs> {
    let folder = format!("/proc/{pid}/fdinfo");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    // A descriptor may be closed meanwhile.
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    Ok(texts.filter_map(|text| parse(&text)).collect())
}

fn parse(fdinfo: &str) -> Option<(u32, Figures)> {
    let fields: HashMap<&str, &str> = fdinfo.lines().filter_map(|line| line.split_once(":\t")).collect();
    let number = |key: &str| fields.get(key)?.trim().parse::<u64>().ok();
    let figures = Figures { runs: number("run_cnt")?, time_ns: number("run_time_ns")? };
    Some((u32::try_from(number("prog_id")?).ok()?, figures))
}

/// Names of all programs, cut to 15 characters by the kernel.
pub fn names() -> HashMap<u32, String> {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    programs.map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned())).collect()
}

/// What was added from `before` to `after` by programs whose number is wanted.
pub fn added(before: &Programs, after: &Programs, wanted: impl Fn(u32) -> bool) -> Figures {
    let mut sum = Figures::default();
    for (id, after) in after.iter().filter(|(id, _)| wanted(**id)) {
        let before = before.get(id).copied().unwrap_or_default();
        sum.runs += after.runs - before.runs;
        sum.time_ns += after.time_ns - before.time_ns;
    }
    sum
}
