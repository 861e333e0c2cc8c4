//! The log: one line an event on stderr, as logfmt or JSON, with the same keys in both: `ts level target msg`, then the fields.
//!
//! When stderr is the journal's own stream the line carries no time of its own, which the journal adds,
//! and starts with the priority (`<6>`), which the journal takes off again.

mod format;

use std::os::fd::AsRawFd;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Log, LogFilter};
use format::{Line, LineFields};

/// Lets the level be changed while the program runs.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Puts another filter in force (SIGHUP).
    pub fn set_filter(&self, filter: &LogFilter) -> anyhow::Result<()> {
        Ok(self.0.reload(EnvFilter::try_new(filter.as_str())?)?)
    }
}

/// Sends the log of the whole program to stderr. Once a process; a second call is an error.
pub fn init(log: &Log) -> anyhow::Result<LogHandle> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(log.filter.as_str())?);
    let line = Line { format: log.format, journal: stderr_is_the_journal() };
    let layer = fmt::layer().with_writer(std::io::stderr).fmt_fields(LineFields).event_format(line);
    tracing_subscriber::registry().with(filter).with(layer).try_init()?;
    Ok(LogHandle(handle))
}

/// Whether stderr is the stream that systemd connected to the journal (`$JOURNAL_STREAM`, systemd.exec(5)), and not
/// one that a shell put in its place.
fn stderr_is_the_journal() -> bool {
    let Some(told) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    // SAFETY: `stat` is plain integers, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call and has the size that fstat expects.
    let answer = unsafe { libc::fstat(std::io::stderr().as_raw_fd(), &mut stat) };
    answer == 0 && names_stream(&told, stat.st_dev, stat.st_ino)
}

/// Whether `told`, decimal `device:inode`, names this file.
fn names_stream(told: &str, device: u64, inode: u64) -> bool {
    told.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_changes_while_the_program_runs_and_init_is_once() {
        let off: LogFilter = "off".parse().unwrap();
        let log = Log { filter: off.clone(), format: crate::config::LogFormat::Logfmt };
        let handle = init(&log).unwrap();
        assert!(!tracing::enabled!(tracing::Level::ERROR));
        handle.set_filter(&"debug".parse().unwrap()).unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG) && !tracing::enabled!(tracing::Level::TRACE));
        handle.set_filter(&off).unwrap();
        assert!(init(&log).is_err());
    }

    #[test]
    fn only_the_very_stream_that_systemd_named_is_the_journal() {
        let check = |told: &str, expected| assert_eq!(names_stream(told, 8, 42), expected, "{told}");
        check("8:42", true);
        check("8:43", false);
        check("9:42", false);
        check("8", false);
        check("", false);
    }
}
