//! Resident memory of the daemon with 100,000 sockets that are really open.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Bench;
use crate::child::Monitor;
use crate::holder::Holders;
use crate::page;
use crate::report::Report;

/// Both ends are here.
const CONNECTIONS: usize = 50_000;
/// Two walks over the socket tables are a minute apart at most.
const PATIENCE: Duration = Duration::from_secs(130);

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let daemon = Monitor::daemon(&bench.daemon)?;
    let before = daemon.status_bytes("VmRSS:")?;
    let held = Holders::open(CONNECTIONS)?;
    let tracked = wait_for_walk()?;
    let (resident, most) = (daemon.status_bytes("VmRSS:")?, daemon.status_bytes("VmHWM:")?);
    daemon.stop()?;
    drop(held);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.row(
        &format!("resident memory with {tracked:.0} tracked sockets"),
        format!("{:.0} MiB, at most {:.0} MiB", mib(resident), mib(most)),
        format!("{:.0} MiB with none", mib(before)),
        String::new(),
    );
    Ok(())
}

/// Waits until the daemon has walked over the sockets; gives how many connections it follows.
fn wait_for_walk() -> Result<f64> {
    let started = Instant::now();
    let last_walk = || -> Result<f64> { Ok(page::sum(&page::fetch()?, "synfin_census_timestamp_seconds")) };
    let before = last_walk()?;
    while last_walk()? == before {
        ensure!(started.elapsed() < PATIENCE, "the daemon did not look at the socket tables");
        thread::sleep(Duration::from_millis(200));
    }
    Ok(page::sum(&page::fetch()?, "synfin_tracked_connections"))
}
