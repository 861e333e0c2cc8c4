//! `synfin record`: the raw events into a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use synfin_ebpf::abi::ABI_VERSION;

use crate::config::{self, CommonFlags, Flags, KernelFlags, NetnsScope, parse_duration};
use crate::core::Observer;
use crate::host::read_release;
use crate::input::Input;
use crate::session::foreground::{Foreground, Until};
use crate::session::{Session, clock};
use crate::trace::{Head, TraceWriter};
use crate::{daemon, logging};

/// Saves the raw events of the probes, to be replayed elsewhere
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin record --for 30s incident.synfin
  synfin record --for 10s - | synfin replay --metrics -
  synfin record incident.synfin")]
pub struct RecordArgs {
    /// Where to write; - is stdout
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Stop after this long, such as 30s or 5m [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    pub kernel: KernelFlags,
}

/// Attaches probes of its own and saves every input of the core.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        args.file.as_os_str() != "-" || !io::stdout().is_terminal(),
        "stdout is a terminal and the record is binary; name a file, or pipe it into `synfin replay -`"
    );
    let flags = Flags { common: args.common.clone(), kernel: args.kernel.clone(), ..Flags::default() };
    let until = Until::signal()?;
    let settings = config::load(&flags)?;
    logging::init(&settings.log)?;
    let writer = Arc::new(Mutex::new(Writer::default()));
    let tap = writer.clone();
    let (session, waker, _) = daemon::open_session(&settings, Some(Box::new(move |input| lock(&tap).write(input))))?;
    let head = Head {
        abi: ABI_VERSION,
        synfin: env!("CARGO_PKG_VERSION").into(),
        kernel: read_release().unwrap_or_default(),
        wall_offset_ns: clock::wall_offset_ns(),
        max_connections: settings.tracker.max_connections.get() as u64,
        synack_probe: session.probes().sees_synack_retransmits(),
        all_namespaces: settings.kernel.netns == NetnsScope::All,
    };
    lock(&writer).open(&args.file, &head)?;
    let (core, _) = until.run(session, &waker, args.duration, Recorder(writer.clone()))?;
    lock(&writer).finish()?;
    let lost = core.lost();
    tracing::info!(events = core.events(), ring_full = lost.ring_full, probe_missed = lost.probe_missed, "recorded");
    Ok(ExitCode::SUCCESS)
}

/// A record whose writer is killed lacks this much at most, beside what the last frame lacks.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The file, and the first error of writing to it.
#[derive(Default)]
struct Writer {
    out: Option<Out>,
    error: Option<io::Error>,
}

/// An open file and its name.
struct Out {
    trace: TraceWriter<BufWriter<Box<dyn Write + Send>>>,
    name: String,
    flushed: Instant,
}

impl Writer {
    fn open(&mut self, path: &Path, head: &Head) -> anyhow::Result<()> {
        let (to, name): (Box<dyn Write + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(io::stdout()), "to stdout".into())
        } else {
            let name = path.display().to_string();
            (Box::new(File::create(path).with_context(|| format!("cannot write {name}"))?), name)
        };
        let begun = TraceWriter::new(BufWriter::with_capacity(1 << 20, to), head).and_then(|mut trace| {
            trace.flush()?;
            Ok(trace)
        });
        let trace = begun.with_context(|| format!("cannot write {name}"))?;
        self.out = Some(Out { trace, name, flushed: Instant::now() });
        Ok(())
    }

    fn write(&mut self, input: &Input<'_>) {
        if let (Some(out), None) = (&mut self.out, &self.error) {
            self.error = out.trace.write(input).err();
        }
    }

    /// Between two inputs: whoever reads the file now finds whole frames.
    fn look_after(&mut self, now: Instant) -> anyhow::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let result = match self.error.take() {
            Some(error) => Err(error),
            None if now.duration_since(out.flushed) < FLUSH_EVERY => Ok(()),
            None => {
                out.flushed = now;
                out.trace.flush()
            }
        };
        result.with_context(|| format!("cannot write {}", out.name))
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let (error, out) = (self.error.take(), self.out.take());
        let Some(Out { trace, name, .. }) = out else { return Ok(()) };
        let result = error.map_or(Ok(()), Err).and_then(|()| trace.finish().map(drop));
        result.with_context(|| format!("cannot write {name}"))
    }
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the session when the file cannot take more.
struct Recorder(Arc<Mutex<Writer>>);

impl Observer for Recorder {}

impl Foreground for Recorder {
    fn after_round(&mut self, _session: &mut Session) -> anyhow::Result<bool> {
        lock(&self.0).look_after(Instant::now())?;
        Ok(true)
    }
}
