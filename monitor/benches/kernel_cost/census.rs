//! The walk over all sockets, with many of them in TIME_WAIT, beside `ss`.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use synfin::kernel::{self, LoadOptions};

use crate::Bench;
use crate::median;
use crate::namespace;
use crate::report::Report;

const SOCKETS: u64 = 100_000;
const ROUNDS: usize = 7;
const FILL_WITHIN: Duration = Duration::from_secs(40);
const SLICE: Duration = Duration::from_secs(1);
const RING_BYTES: u32 = 1 << 20;

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let options = LoadOptions { ring_bytes: RING_BYTES, netns: None, only: None, btf: LoadOptions::kernel_btf() };
    let (probes, _ring, _counters) = kernel::load(&options)?;
    let link = probes.census_link().context("this kernel has no iterator over TCP sockets")??;
    let started = Instant::now();
    while namespace::time_wait()? < SOCKETS {
        ensure!(started.elapsed() < FILL_WITHIN, "cannot make {SOCKETS} TIME_WAIT sockets in time");
        bench.hammer.run(SLICE, 2 * (SOCKETS - namespace::time_wait()?.min(SOCKETS)))?;
    }
    let (mut ours, mut theirs, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = 0u64;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        found = 0;
        let odd = synfin::census::read(kernel::create_census(link.as_fd())?, |_| found += 1)?;
        let took = started.elapsed().as_secs_f64();
        ensure!(odd == 0, "{odd} sockets could not be decoded");
        ours.push(took * 1e3);
        let started = Instant::now();
        let status = Command::new("ss").args(["-tan", "state", "time-wait"]).stdout(Stdio::null()).status();
        ensure!(status.context("cannot start ss")?.success(), "ss failed");
        theirs.push(started.elapsed().as_secs_f64() * 1e3);
        ratio.push(theirs[theirs.len() - 1] / (took * 1e3));
    }
    report.row(
        &format!("census of {found} sockets, nearly all in TIME_WAIT"),
        format!("{:.0} ms, read and decoded", median(ours)),
        format!("`ss -tan state time-wait` {:.0} ms", median(theirs)),
        format!("{:.1} × faster", median(ratio)),
    );
    Ok(())
}
