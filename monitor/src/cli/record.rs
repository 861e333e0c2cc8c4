//! `synfin record`: the raw events into a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use synfin_ebpf::abi::ABI_VERSION;

use crate::config::{self, CommonFlags, Flags, KernelFlags, NetnsScope, parse_duration};
use crate::core::Observer;
use crate::host::read_release;
use crate::input::Input;
use crate::session::foreground::{self, Foreground};
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
    let (core, _) = foreground::run(session, &waker, args.duration, Recorder(writer.clone()))?;
    lock(&writer).finish()?;
    let lost = core.lost();
    tracing::info!(events = core.events(), ring_full = lost.ring_full, probe_missed = lost.probe_missed, "recorded");
    Ok(ExitCode::SUCCESS)
}

/// The file, and the first error of writing to it.
#[derive(Default)]
struct Writer {
    trace: Option<TraceWriter<BufWriter<Box<dyn Write + Send>>>>,
    error: Option<io::Error>,
}

impl Writer {
    fn open(&mut self, path: &Path, head: &Head) -> anyhow::Result<()> {
        let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        };
        self.trace = Some(TraceWriter::new(BufWriter::with_capacity(1 << 20, out), head)?);
        Ok(())
    }

    fn write(&mut self, input: &Input<'_>) {
        if let (Some(trace), None) = (&mut self.trace, &self.error) {
            self.error = trace.write(input).err();
        }
    }

    fn check(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.check()?;
        if let Some(trace) = self.trace.take() {
            trace.finish()?;
        }
        Ok(())
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
        lock(&self.0).check()?;
        Ok(true)
    }
}
