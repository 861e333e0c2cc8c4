//! Connections a second that the hammer makes, without and with somebody watching.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::child::Monitor;
use crate::kernel_side::PEERS;
use crate::median;
use crate::page;
use crate::report::Report;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);

/// Of one subject: rates alone and watched, and their ratios, one a round.
#[derive(Default)]
struct Rates {
    alone: Vec<f64>,
    watched: Vec<f64>,
    ratio: Vec<f64>,
}

/// What the daemon says of itself, all rounds together.
#[derive(Default)]
struct Account {
    events: f64,
    lost: BTreeMap<String, f64>,
    cpu: Duration,
}

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let subjects: Vec<Option<&str>> = [None].into_iter().chain(PEERS.map(Some)).collect();
    let mut rates: Vec<Rates> = subjects.iter().map(|_| Rates::default()).collect();
    let mut account = Account::default();
    // Until TIME_WAIT sockets are as many as they may be, rates fall from round to round.
    bench.hammer.run(4 * ROUND, u64::MAX)?;
    for _ in 0..ROUNDS {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            let alone = bench.hammer.run(ROUND, u64::MAX)?.per_second();
            let watched = match subject {
                None => under_daemon(bench, &mut account)?,
                Some(peer) => under_peer(bench, peer)?,
            };
            rates.alone.push(alone);
            rates.watched.push(watched);
            rates.ratio.push(watched / alone);
        }
    }
    for (subject, rates) in subjects.iter().zip(rates) {
        let (watched, alone) = (median(rates.watched), median(rates.alone));
        let (synfin, beside) = match subject {
            None => (format!("{watched:.0}/s"), format!("unwatched {alone:.0}/s")),
            Some(peer) => ("".to_owned(), format!("{peer} {watched:.0}/s, unwatched {alone:.0}/s")),
        };
        let name = subject.unwrap_or("synfin");
        report.row(
            &format!("connections over loopback under {name}"),
            synfin,
            beside,
            format!("{:.2}", median(rates.ratio)),
        );
    }
    account.write(report);
    Ok(())
}

fn under_daemon(bench: &Bench, account: &mut Account) -> Result<f64> {
    let daemon = Monitor::daemon(&bench.daemon)?;
    let (page_before, cpu_before) = (page::fetch()?, daemon.cpu()?);
    let made = bench.hammer.run(ROUND, u64::MAX)?;
    let page = page::fetch()?;
    account.cpu += daemon.cpu()?.saturating_sub(cpu_before);
    account.events += page::sum(&page, "synfin_events_total") - page::sum(&page_before, "synfin_events_total");
    for (reason, lost) in page::samples(&page, "synfin_events_lost_total") {
        *account.lost.entry(reason.to_owned()).or_default() += lost;
    }
    daemon.stop()?;
    Ok(made.per_second())
}

fn under_peer(bench: &Bench, peer: &str) -> Result<f64> {
    let monitor = Monitor::other(Command::new(peer), peer)?;
    let made = bench.hammer.run(ROUND, u64::MAX)?;
    monitor.stop()?;
    Ok(made.per_second())
}

impl Account {
    fn write(&self, report: &mut Report) {
        let lost: Vec<String> = self.lost.iter().map(|(reason, lost)| format!("{reason} {lost:.0}")).collect();
        report.row(
            "events lost at that load, by reason",
            lost.join(", ").replace("reason=", "").replace('"', ""),
            format!("of {:.0} events", self.events),
            String::new(),
        );
        report.row(
            "CPU of the daemon at that load, an event",
            format!("{:.0} ns", self.cpu.as_nanos() as f64 / self.events),
            String::new(),
            String::new(),
        );
        report.note(format!(
            "Load: one client and one server thread, medians of {ROUNDS} rounds of {:.1} s, each right after one unwatched; the \
             ratio is the median of the pairs. The daemon's CPU is that of its whole process: ring, core, census, page.",
            ROUND.as_secs_f64()
        ));
    }
}
