//! What the probes themselves log: into the daemon's own log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};

/// Hands records of the probes to the daemon's log, under the target `synfin::probes`.
#[derive(Clone, Copy, Debug)]
pub struct ProbeLog;

impl ProbeLog {
    /// The reader of the object's log; `None`, and a line that says why, when there is none to be had: nothing else depends on it.
    pub fn of(ebpf: &mut Ebpf) -> Option<EbpfLogger<Self>> {
        EbpfLogger::init_with_logger(ebpf, Self)
            .inspect_err(|error| tracing::debug!("the probes\u{2019} own log is not read: {error}"))
            .ok()
    }
}

impl Log for ProbeLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let said = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "synfin::probes", "{said}"),
            Level::Warn => tracing::warn!(target: "synfin::probes", "{said}"),
            Level::Info => tracing::info!(target: "synfin::probes", "{said}"),
            Level::Debug => tracing::debug!(target: "synfin::probes", "{said}"),
            Level::Trace => tracing::trace!(target: "synfin::probes", "{said}"),
        }
    }

    fn flush(&self) {}
}
