//! CPU time that the core takes for an event, decode to aggregate, from a recorded trace.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use synfin::config::EndpointDetail;
use synfin::core::{Core, CoreOptions, OWNERS_DEFAULT};
use synfin::input::Input;
use synfin::trace::TraceReader;

use crate::Bench;
use crate::child::Monitor;
use crate::median;
use crate::report::Report;

/// A million events, ten a connection, and some more.
const CONNECTIONS: u64 = 105_000;
const RECORD_WITHIN: Duration = Duration::from_secs(60);
const REPEATS: usize = 9;

/// The records of a trace, one after the other.
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    options: CoreOptions,
}

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench.synfin");
    let records = record(bench, &file).and_then(|()| read(&file));
    // Absent when recording failed, which is then the error that counts.
    let _ = fs::remove_file(&file);
    let records = records?;
    let events = records.ends.len() as f64;
    ensure!(events > 0.0, "nothing was recorded");
    let figures: Vec<f64> = (0..REPEATS).map(|_| replay(&records).as_nanos() as f64 / events).collect();
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    report.row(
        "user side, an event, decode to aggregate (thread CPU time)",
        format!("{:.0} ns, at best {least:.0} ns", median(figures)),
        format!("{events:.0} recorded events"),
        String::new(),
    );
    Ok(())
}

fn record(bench: &Bench, file: &Path) -> Result<()> {
    let mut command = Command::new(&bench.daemon);
    command.args(["record", "--config.file=/dev/null", "--log.level=error"]).arg(file);
    let recorder = Monitor::other(command, "synfin record")?;
    bench.hammer.run(RECORD_WITHIN, CONNECTIONS)?;
    recorder.stop()
}

fn read(file: &Path) -> Result<Records> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut reader = TraceReader::new(BufReader::with_capacity(1 << 20, opened))?;
    let head = reader.head();
    let options = CoreOptions {
        max_connections: usize::try_from(head.max_connections)?,
        units: 60,
        top: 30,
        endpoints: EndpointDetail::Full,
        owners: OWNERS_DEFAULT,
        synack_probe: head.synack_probe,
        namespaces: None,
    };
    let mut records = Records { bytes: Vec::new(), ends: Vec::new(), options };
    let keep = |records: &mut Records, input: &Input<'_>| {
        if let Input::Record(record) = input {
            records.bytes.extend_from_slice(record);
            records.ends.push(records.bytes.len());
        }
    };
    while reader.next(|input| keep(&mut records, &input))?.is_some() {}
    Ok(records)
}

/// CPU time of this thread for all records.
fn replay(records: &Records) -> Duration {
    let mut core = Core::new(&records.options);
    let mut start = 0;
    let before = thread_time();
    for &end in &records.ends {
        core.handle(&Input::Record(&records.bytes[start..end]), &mut ());
        start = end;
    }
    let took = thread_time() - before;
    std::hint::black_box(core.lost());
    took
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into our own variable; every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
