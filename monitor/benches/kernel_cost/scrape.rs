//! How long a scrape takes, at rest and under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::Bench;
use crate::child::Monitor;
use crate::median;
use crate::page;
use crate::report::Report;

const SCRAPES: usize = 50;
/// Between two.
const PAUSE: Duration = Duration::from_millis(20);
/// The load goes on in slices of this length.
const SLICE: Duration = Duration::from_millis(100);

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let daemon = Monitor::daemon(&bench.daemon)?;
    let idle = scrapes()?;
    let done = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        let load = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                bench.hammer.run(SLICE, u64::MAX)?;
            }
            Ok(())
        });
        let busy = scrapes();
        done.store(true, Ordering::Relaxed);
        load.join().map_err(|_| anyhow!("the load ended early"))??;
        busy
    })?;
    let bytes = page::fetch()?.len();
    daemon.stop()?;
    report.row(
        &format!("a scrape of {:.0} KiB", bytes as f64 / 1024.0),
        format!("{idle:.1} ms at rest"),
        format!("{busy:.1} ms under load"),
        String::new(),
    );
    Ok(())
}

/// Milliseconds, the median.
fn scrapes() -> Result<f64> {
    let mut took = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        let started = Instant::now();
        page::fetch()?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        thread::sleep(PAUSE);
    }
    Ok(median(took))
}
