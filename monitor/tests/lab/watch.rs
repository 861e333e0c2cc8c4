//! Daemon, scraper and witness over one namespace, and the comparison of a life with what all of them saw.

use super::daemon::{Daemon, Scraper};
use super::expect::{Expect, differences};
use super::netns::Netns;
use super::page::Page;
use super::witness::{Seen, Witness};
use std::time::{Duration, Instant};

/// How long counters may take to arrive: the reader of the ring may be woken late on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(4);
/// How long they must then stay as they are.
const STILL: Duration = Duration::from_millis(150);

pub struct Watch {
    pub netns: Netns,
    pub witness: Witness,
    /// `None` only under `SYNFIN_LAB=witness`.
    pub observed: Option<(Daemon, Scraper)>,
}

impl Watch {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(Netns::new(), arguments)
    }

    pub fn start_in(netns: Netns, arguments: &[&str]) -> Self {
        let witness = Witness::start(16 * 1024);
        let observed = (!witness_only()).then(|| {
            let daemon = Daemon::start(&netns, arguments);
            let scraper = Scraper::connect(&netns);
            (daemon, scraper)
        });
        Self { netns, witness, observed }
    }

    pub fn scrape(&mut self) -> Option<Page> {
        self.observed.as_mut().map(|(_, scraper)| scraper.scrape())
    }

    /// Plays a life in the namespace; returns in one line each what was seen otherwise than the life says.
    /// A life in which PID 1 was current during an event is played again, as some kernels then skip every BPF program.
    pub fn play(&mut self, life: impl Fn(&Netns) -> Expect) -> Vec<String> {
        self.play_measuring(life).0
    }

    /// The same, and what the life did to the whole page (`None` without a daemon).
    pub fn play_measuring(&mut self, life: impl Fn(&Netns) -> Expect) -> (Vec<String>, Option<Page>) {
        for _ in 0..5 {
            let before = self.settled_page();
            self.witness.take();
            let expected = life(&self.netns);
            let seen = self.await_witness(&expected);
            if seen.under_pid1 > 0 {
                continue;
            }
            let mut wrong = prefixed("kernel", differences(&expected.only_transitions(), &seen.transitions));
            if let Some(before) = before {
                let (differences, delta) = self.compare(&expected, &before);
                wrong.extend(prefixed("daemon", differences));
                return (wrong, Some(delta));
            }
            return (wrong, None);
        }
        let hopeless =
            "PID 1 was current during each of five attempts: BPF programs cannot be compared on this machine now";
        (vec![hopeless.to_owned()], None)
    }

    /// Scrapes until two pages in a row agree: nothing of an earlier life is under way any more.
    pub fn settled_page(&mut self) -> Option<Page> {
        let mut last = self.scrape()?;
        loop {
            std::thread::sleep(Duration::from_millis(60));
            let page = self.scrape()?;
            if page.tcp_counters() == last.tcp_counters() {
                return Some(page);
            }
            last = page;
        }
    }

    fn await_witness(&mut self, expected: &Expect) -> Seen {
        let wanted: f64 = expected.only_transitions().values().sum();
        let start = Instant::now();
        let mut seen = self.witness.take();
        while seen.transitions.values().sum::<f64>() < wanted && start.elapsed() < ARRIVAL {
            std::thread::sleep(Duration::from_millis(5));
            seen.add(self.witness.take());
        }
        std::thread::sleep(Duration::from_millis(20));
        seen.add(self.witness.take());
        seen
    }

    fn compare(&mut self, expected: &Expect, before: &Page) -> (Vec<String>, Page) {
        let start = Instant::now();
        let mut right_since = None;
        loop {
            let after = self.scrape().expect("only called with a daemon");
            let delta = after.since(before);
            let mut wrong = expected.differences(&delta.tcp_counters());
            wrong.extend(losses(&delta));
            wrong.extend(delta.unequal_sums());
            match (wrong.is_empty(), right_since) {
                (true, None) => right_since = Some(Instant::now()),
                (true, Some(since)) if since.elapsed() >= STILL => return (wrong, delta),
                (true, Some(_)) => {}
                (false, _) if start.elapsed() >= ARRIVAL => return (wrong, delta),
                (false, _) => right_since = None,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether the daemon is left out; said on standard error, once.
pub fn witness_only() -> bool {
    static SAID: std::sync::Once = std::sync::Once::new();
    let only = std::env::var("SYNFIN_LAB").is_ok_and(|value| value == "witness");
    if only {
        SAID.call_once(|| {
            eprintln!("SYNFIN_LAB=witness: the daemon is NOT under test, scenarios are compared with ftrace")
        });
    }
    only
}

/// Plays all cases and panics once with every difference.
pub fn check_all<L: Fn(&Netns) -> Expect>(watch: &mut Watch, cases: impl IntoIterator<Item = (String, L)>) {
    let mut wrong = Vec::new();
    for (name, life) in cases {
        let lines = watch.play(life);
        if !lines.is_empty() {
            wrong.push(format!("{name}\n    {}", lines.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} of the lives were seen otherwise:\n{}", wrong.len(), wrong.join("\n"));
}

/// Losses and self-repairs that a quiet life must not cause.
fn losses(delta: &Page) -> Vec<String> {
    let guarded = ["synfin_events_lost_total", "synfin_census_resyncs_total"];
    let lost = delta.0.iter().filter(|(series, _)| guarded.contains(&super::page::name(series)));
    lost.map(|(series, value)| format!("{series}: moved by {value} in a quiet life")).collect()
}

fn prefixed(source: &str, lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{source}: {line}")).collect()
}

impl Seen {
    pub fn add(&mut self, later: Self) {
        for (series, count) in later.transitions {
            *self.transitions.entry(series).or_default() += count;
        }
        self.under_pid1 += later.under_pid1;
        self.other_protocol += later.other_protocol;
    }
}
