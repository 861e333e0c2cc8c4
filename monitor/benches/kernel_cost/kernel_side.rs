//! Nanoseconds that the programs take for an event, beside the least that a program can do, and beside the peers.
//!
//! The yardstick stays attached while each of the others is, so every pair of figures is of the same events. Two programs
//! of synfin share the work and both run at each event; the time of both is what an event costs.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use synfin_ebpf::abi::names;

use crate::Bench;
use crate::child::Monitor;
use crate::floor::Floor;
use crate::median;
use crate::page;
use crate::programs::{self, Figures};
use crate::report::Report;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1200);
/// Of libbpf-tools.
pub const PEERS: [&str; 2] = ["tcplife", "tcpstates"];

/// Nanoseconds an event.
#[derive(Clone, Copy)]
struct Cost {
    subject: f64,
    /// Program runs an event.
    runs: f64,
    floor: f64,
    empty: f64,
    /// Of all events, those of our namespace.
    watched: Option<f64>,
}

impl Cost {
    /// Without what the measuring itself takes.
    fn net(&self) -> f64 {
        (self.subject - self.runs * self.empty) / (self.floor - self.empty)
    }
}

pub fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    // In force while the descriptor is open, so nothing is left behind however this ends.
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).context("cannot have the kernel measure")?;
    let floor = Floor::attach(&bench.floor)?;
    bench.hammer.run(ROUND, u64::MAX)?;
    let mut ours = Vec::new();
    let mut peers = PEERS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        ours.push(one(bench, &floor, Monitor::daemon(&bench.daemon)?, true)?);
        for (peer, costs) in PEERS.iter().zip(&mut peers) {
            costs.push(one(bench, &floor, Monitor::other(Command::new(peer), peer)?, false)?);
        }
    }
    write(report, &ours, &peers);
    Ok(())
}

fn one(bench: &Bench, floor: &Floor, monitor: Monitor, is_ours: bool) -> Result<Cost> {
    let names = programs::names();
    // The census is no event.
    let wanted = |id: u32| names.get(&id).is_none_or(|name| name != names::CENSUS);
    let transitions = || -> Result<f64> { Ok(page::sum(&page::fetch()?, "synfin_tcp_transitions_total")) };
    let page_before = is_ours.then(transitions).transpose()?;
    let before = (Floor::programs()?, monitor.programs()?);
    bench.hammer.run(ROUND, u64::MAX)?;
    let after = (Floor::programs()?, monitor.programs()?);
    let page_after = is_ours.then(transitions).transpose()?;
    monitor.stop()?;
    let subject = programs::added(&before.1, &after.1, wanted);
    let (floor, empty) = floor.added(&before.0, &after.0);
    let events = floor.runs as f64;
    let per_event = |figures: Figures| figures.time_ns as f64 / events;
    Ok(Cost {
        subject: per_event(subject),
        runs: subject.runs as f64 / events,
        floor: per_event(floor),
        empty: per_event(empty),
        watched: page_before.zip(page_after).map(|(before, after)| (after - before) / events),
    })
}

fn middle(costs: &[Cost], figure: impl Fn(&Cost) -> f64) -> f64 {
    median(costs.iter().map(figure).collect())
}

fn write(report: &mut Report, ours: &[Cost], peers: &[Vec<Cost>; 2]) {
    let to_floor = |costs: &[Cost]| middle(costs, |cost| cost.subject / cost.floor);
    let mine = to_floor(ours);
    report.row(
        "kernel side, an event, as the kernel measures it",
        format!("{:.0} ns in {:.0} programs", middle(ours, |cost| cost.subject), middle(ours, |cost| cost.runs)),
        format!("floor {:.0} ns", middle(ours, |cost| cost.floor)),
        format!("{mine:.2} × floor"),
    );
    let empty = middle(ours, |cost| cost.empty);
    report.row(
        &format!("kernel side, an event, without the {empty:.0} ns a program of an empty one"),
        format!("{:.0} ns", middle(ours, |cost| cost.subject - cost.runs * cost.empty)),
        format!("floor {:.0} ns", middle(ours, |cost| cost.floor - cost.empty)),
        format!("{:.2} × floor", middle(ours, Cost::net)),
    );
    for (peer, costs) in PEERS.iter().zip(peers) {
        report.row(
            &format!("kernel side, an event, beside {peer}"),
            format!("{mine:.2} × floor"),
            format!("{:.0} ns, {:.1} × floor", middle(costs, |cost| cost.subject), to_floor(costs)),
            format!("{:.1} × cheaper", to_floor(costs) / mine),
        );
        let net = middle(costs, Cost::net);
        report.row(
            &format!("the same without the {empty:.0} ns a program of an empty one"),
            format!("{:.2} × floor", middle(ours, Cost::net)),
            format!("{net:.1} × floor"),
            format!("{:.1} × cheaper", net / middle(ours, Cost::net)),
        );
    }
    let watched = middle(ours, |cost| cost.watched.unwrap_or(f64::NAN));
    report.note(format!(
        "Kernel side: medians of {ROUNDS} rounds of {:.1} s, interleaved; yardstick and subject see the same events, of which \
         {:.1} % were the load's own.",
        ROUND.as_secs_f64(),
        100.0 * watched,
    ));
}
