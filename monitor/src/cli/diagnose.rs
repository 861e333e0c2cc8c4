//! `synfin diagnose`: what is wrong with TIME_WAIT, ports, closes and handshakes here, and what to do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::columns;
use super::print;
use crate::config::{self, CommonFlags, Flags, KernelFlags, Settings, SocketFlags, TrackerFlags, parse_duration};
use crate::core::Observer;
use crate::diagnose::report::{self, Extent};
use crate::diagnose::{Evidence, RULES, diagnose, text};
use crate::history::History;
use crate::host::{count_netns, sysctl_files::read_sysctl_files};
use crate::session::Session;
use crate::session::foreground::{Foreground, Until};
use crate::socket::{Answer, AskError, Question, ask};
use crate::{daemon, logging};

/// How long to watch without a daemon.
const WATCH: Duration = Duration::from_secs(10);
/// How far to look back in a daemon's history.
const LOOK_BACK: Duration = Duration::from_secs(300);

/// Of lines that go to no terminal.
const COLUMNS: usize = 80;

/// In the letters of the table, however they were typed.
fn rule_ids() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(RULES.map(|(id, _)| id)).map(|id| id.to_ascii_uppercase())
}

/// Explains TIME_WAIT build-up, port pressure, CLOSE_WAIT leaks and handshake trouble, and what to do first
///
/// Asks the running daemon, which remembers half an hour; without one it attaches probes of its own and watches for a while.
/// Exit status: 0 nothing that needs doing; 1 a warning or worse; 2 it could not look.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  synfin diagnose --for 30s
  synfin diagnose --explain TW-003
  synfin diagnose --json
  synfin diagnose")]
pub struct DiagnoseArgs {
    /// One JSON object with stable ids and fields
    #[arg(long, conflicts_with_all = ["details", "explain"])]
    json: bool,
    /// Each finding whole: whose, why, numbers, limit, what to do and what not, how to verify; not only what fits on a screen
    #[arg(long, conflicts_with = "explain")]
    details: bool,
    /// One finding whole
    #[arg(long, value_name = "ID", value_parser = rule_ids(), hide_possible_values = true, ignore_case = true)]
    explain: Option<String>,
    /// How far to look back in the daemon's history [default: 5m]; without a daemon, how long to watch [default: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Where the host's root is mounted, for its sysctl files
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    socket: SocketFlags,
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    kernel: KernelFlags,
    #[command(flatten)]
    tracker: TrackerFlags,
}

pub fn run(args: DiagnoseArgs) -> anyhow::Result<ExitCode> {
    let flags = Flags {
        common: args.common,
        kernel: args.kernel,
        tracker: args.tracker,
        socket: args.socket,
        ..Flags::default()
    };
    let settings = config::load(&flags)?;
    let asked = match &settings.socket.path {
        Some(path) => ask_daemon(path, args.duration.unwrap_or(LOOK_BACK))?,
        None => None,
    };
    let mut evidence = match asked {
        Some(evidence) => evidence,
        None => watch(&settings, args.duration.unwrap_or(WATCH))?,
    };
    evidence.sysctl_files = Some(read_sysctl_files(&args.root));
    if let Some(namespaces) = &mut evidence.namespaces {
        namespaces.count = namespaces.count.max(count_netns());
    }
    let diagnosis = diagnose(&evidence);
    print(&if args.json {
        report::json(&diagnosis)?
    } else {
        let extent = match &args.explain {
            Some(id) => Extent::Finding(id),
            None if args.details => Extent::Details,
            None => Extent::Summary,
        };
        report::text(&diagnosis, extent, columns().unwrap_or(COLUMNS))
    })?;
    Ok(ExitCode::from(match &args.explain {
        Some(id) => diagnosis.exit_status_of(id),
        None => diagnosis.exit_status(),
    }))
}

/// The daemon's evidence; `None` without a daemon. One that has just started is given the time to see something.
fn ask_daemon(path: &Path, window: Duration) -> anyhow::Result<Option<Evidence>> {
    let enough = window.min(WATCH);
    let question = Question::Diagnose { window: format!("{}ms", window.as_millis()) };
    // Twice is enough for a daemon that was ready at the first question.
    for _ in 0..2 {
        let evidence = match ask(path, question.clone()) {
            Ok(Answer::Evidence(evidence)) => evidence,
            Ok(Answer::Status(_) | Answer::Error(_)) => {
                bail!("the daemon at {} answers something else", path.display())
            }
            Err(error @ AskError::NoDaemon(_)) => {
                eprintln!("synfin: {error}; attaching probes of its own");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let seen = Duration::try_from_secs_f64(evidence.window_seconds.unwrap_or(0.0)).unwrap_or_default();
        let Some(wait) = enough.checked_sub(seen).filter(|wait| !wait.is_zero()) else {
            return Ok(Some(*evidence));
        };
        eprintln!("synfin: the daemon has just started; waiting {} for it to see enough", seconds(wait));
        thread::sleep(wait + Duration::from_millis(10));
    }
    bail!("the daemon at {} keeps restarting; its log says why", path.display())
}

fn seconds(duration: Duration) -> String {
    text::duration(duration.as_secs_f64())
}

/// Attaches probes, watches, and says what was seen meanwhile.
fn watch(settings: &Settings, window: Duration) -> anyhow::Result<Evidence> {
    let mut log = settings.log.clone();
    if log.filter == config::LogFilter::default() {
        // What a daemon tells at its start is of no interest here.
        log.filter = "warn".parse().context("the level of the log")?;
    }
    logging::init(&log)?;
    let until = Until::signal()?;
    let (session, waker, _) = daemon::open_session(settings, None)?;
    eprintln!("synfin: watching for {}; what was before is not known", seconds(window));
    let watch = Watch { history: History::default(), began: None, window, evidence: None };
    let (_, watch) = until.run(session, &waker, None, watch)?;
    watch.evidence.context("interrupted before the time was over, so there is nothing to diagnose")
}

/// From the first census on, for the time of the window.
struct Watch {
    history: History,
    began: Option<Instant>,
    window: Duration,
    evidence: Option<Evidence>,
}

impl Observer for Watch {}

impl Foreground for Watch {
    fn after_round(&mut self, session: &mut Session) -> anyhow::Result<bool> {
        session.remember(&mut self.history, &mut ());
        if self.history.oldest().is_none() {
            return Ok(true);
        }
        let over = *self.began.get_or_insert_with(Instant::now) + self.window;
        if Instant::now() < over || !session.is_fresh(over) {
            return Ok(true);
        }
        self.evidence = session.evidence(self.window, &self.history, &mut ());
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DiagnoseArgs,
    }

    #[test]
    fn one_finding_is_asked_for_by_the_id_of_a_rule() {
        let check = |typed, id: Option<&str>| {
            let line = Line::try_parse_from(["diagnose", "--explain", typed]).ok();
            assert_eq!(line.and_then(|line| line.args.explain).as_deref(), id, "{typed}");
        };
        check("TW-003", Some("TW-003"));
        check("tw-003", Some("TW-003"));
        check("TW-099", None);
    }
}
