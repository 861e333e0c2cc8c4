//! Full speed: totals equal what was done, nothing is lost that is not counted, and the page stays quick.
//!
//! Exactness under load allows for what the kernel itself withholds from BPF programs, and nothing more: runs skipped by
//! the recursion guard, which the daemon must export as `probe_missed`, and events while PID 1 is current, which ftrace counts.

mod lab;

use lab::expect::{Expect, differences};
use lab::netns::Netns;
use lab::page::{Page, name};
use lab::watch::Watch;
use lab::witness::{Seen, Witness};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: u64 = 60_000;
/// ftrace's buffer for one CPU: ten events a connection, each a little over 100 bytes, all on one CPU at worst.
const WITNESS_KIB: u32 = 96 * 1024;

struct Load {
    done: Expect,
    seen: Seen,
    /// Change of the page; `None` without a daemon.
    delta: Option<Page>,
    after: Option<Page>,
    slowest_scrape: Duration,
}

fn run(arguments: &[&str]) -> Load {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    netns.sysctl("net.core.somaxconn", "4096");
    let mut watch = Watch::start_in(netns, arguments);
    watch.witness = Witness::start(WITNESS_KIB);
    let before = watch.scrape();
    watch.witness.take();
    let running = AtomicBool::new(true);
    let netns = &watch.netns;
    let observed = &mut watch.observed;
    let ((done, time), slowest_scrape) = std::thread::scope(|scope| {
        let scrapes = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while let (Some((_, scraper)), true) = (observed.as_mut(), running.load(Ordering::Relaxed)) {
                let start = Instant::now();
                scraper.scrape();
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(200));
            }
            slowest
        });
        let load = lab::load::run(netns, CONNECTIONS);
        running.store(false, Ordering::Relaxed);
        (load, scrapes.join().expect("the scraping thread"))
    });
    eprintln!("{CONNECTIONS} connections in {time:.2?}, slowest scrape {slowest_scrape:.2?}");
    let seen = watch.witness.take();
    let after = settle(&mut watch);
    let delta = before.as_ref().zip(after.as_ref()).map(|(before, after)| after.since(before));
    Load { done, seen, delta, after, slowest_scrape }
}

/// Scrapes until the daemon has read all that the kernel handed over.
fn settle(watch: &mut Watch) -> Option<Page> {
    let mut last = watch.scrape()?;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(100));
        let page = watch.scrape()?;
        if page.tcp_counters() == last.tcp_counters()
            && page.value("synfin_events_total") == last.value("synfin_events_total")
        {
            return Some(page);
        }
        last = page;
    }
    panic!("the counters still move 20 s after the load");
}

/// What is wrong with a load, line by line, so that one run shows all of it.
struct Verdict(Vec<String>);

impl Verdict {
    fn require(&mut self, holds: bool, line: impl FnOnce() -> String) {
        if !holds {
            self.0.push(line());
        }
    }

    fn pronounce(self) {
        assert!(self.0.is_empty(), "under load:\n    {}", self.0.join("\n    "));
    }

    /// Sum of what is missing of a metric, and a line for anything that was counted too often.
    fn missing(&mut self, load: &Load, delta: &Page, metric: &str) -> f64 {
        let mut missing = 0.0;
        for (series, want) in load.done.0.iter().filter(|(series, _)| name(series) == metric) {
            let got = delta.0.get(series).copied().unwrap_or(0.0);
            self.require(got <= *want, || format!("{series}: {got} counted, {want} done"));
            if got < *want {
                eprintln!("{series}: {} of {want} absent", want - got);
            }
            missing += want - got;
        }
        missing
    }

    /// The kernel's own trace must be what was done, or the rest proves nothing.
    fn witness(&mut self, load: &Load) {
        self.0.extend(differences(&load.done.only_transitions(), &load.seen.transitions));
    }

    /// Transitions equal what was done, less what the kernel withheld; returns how many are absent.
    ///
    /// `probe_missed` bounds them from above: the kernel counts skipped runs, also of a program that would have left the
    /// transition to another one.
    fn transitions(&mut self, load: &Load, delta: &Page) -> f64 {
        let missed = delta.sum("synfin_events_lost_total", &["reason=\"probe_missed\""]);
        let absent = self.missing(load, delta, "synfin_tcp_transitions_total");
        let pid1 = load.seen.under_pid1;
        eprintln!("{absent} transitions absent; probe_missed {missed}, under PID 1 {pid1}");
        self.require(absent <= missed + pid1 as f64, || {
            format!(
                "{absent} transitions absent; the kernel skipped {missed} by its own count, and {pid1} came under PID 1"
            )
        });
        absent
    }

    /// Each record handed over or lost stands for one transition or one retransmitted SYN-ACK.
    fn records(&mut self, delta: &Page) {
        let transitions = delta.sum("synfin_tcp_transitions_total", &[]);
        let synacks = delta.sum("synfin_tcp_handshake_retransmits_total", &["role=\"server\""]);
        let ring_full = delta.sum("synfin_events_lost_total", &["reason=\"ring_full\""]);
        let records = delta.sum("synfin_events_total", &[]) + ring_full;
        eprintln!("{transitions} transitions, {synacks} SYN-ACKs again, {records} records of which {ring_full} lost");
        // Of lost records it is not known how many were SYN-ACKs; over loopback there are next to none.
        let most = transitions + synacks + ring_full.min(10.0);
        self.require(transitions + synacks <= records && records <= most, || {
            format!("{records} records (of them {ring_full} lost) for {transitions} transitions and {synacks} SYN-ACKs")
        });
    }

    fn scrapes(&mut self, load: &Load) {
        let slowest = load.slowest_scrape;
        self.require(slowest < Duration::from_secs(1) || !is_optimized(), || {
            format!("a scrape under load took {slowest:?}")
        });
    }
}

#[test]
fn sixty_thousand_connections_are_counted_and_nothing_is_lost() {
    let load = run(&[]);
    let mut verdict = Verdict(Vec::new());
    verdict.witness(&load);
    if let Some(delta) = &load.delta {
        let absent = verdict.transitions(&load, delta);
        verdict.records(delta);
        verdict.scrapes(&load);
        for reason in ["undecodable", "table_full"] {
            let lost = delta.sum("synfin_events_lost_total", &[&format!("reason=\"{reason}\"")]);
            verdict.require(lost == 0.0, || format!("{lost} lost with reason {reason}"));
        }
        let ring_full = delta.sum("synfin_events_lost_total", &["reason=\"ring_full\""]);
        if is_optimized() {
            verdict.require(ring_full == 0.0, || format!("{ring_full} records lost with the default ring"));
        } else {
            eprintln!("the daemon is built without optimization: {ring_full} records lost are not held against it");
        }
        details(&mut verdict, &load, delta, absent + ring_full);
    }
    verdict.pronounce();
}

/// Each connection of which a record is absent may lack in one metric of detail, and none may be counted twice.
fn details(verdict: &mut Verdict, load: &Load, delta: &Page, absent: f64) {
    for metric in ["synfin_tcp_connections_opened_total", "synfin_tcp_connect_attempts_total"] {
        let lacking = verdict.missing(load, delta, metric);
        verdict.require(lacking <= absent, || format!("{metric}: {lacking} lacking with {absent} records absent"));
    }
    let closed = delta.sum("synfin_tcp_connections_closed_total", &[]);
    let wanted = 2.0 * CONNECTIONS as f64;
    verdict.require((wanted - closed).abs() <= absent, || {
        format!("synfin_tcp_connections_closed_total: {closed} counted, {wanted} done, {absent} records absent")
    });
    if absent == 0.0 {
        verdict.0.extend(load.done.differences(&delta.tcp_counters()));
    }
}

#[test]
fn with_a_ring_of_one_page_totals_are_exact_and_every_loss_is_counted() {
    let load = run(&["--ring-bytes", "4096"]);
    let mut verdict = Verdict(Vec::new());
    verdict.witness(&load);
    if let (Some(delta), Some(after)) = (&load.delta, &load.after) {
        let ring = after.value("synfin_ring_size_bytes");
        // A page is the least that a lane can be: three programs on each CPU, or one ring for all.
        let cpus = std::thread::available_parallelism().expect("the number of CPUs").get();
        let least = [4096, 4096 * 3 * cpus].map(|bytes| bytes as f64);
        verdict.require(least.contains(&ring), || format!("a ring of {ring} bytes with --ring-bytes 4096"));
        verdict.transitions(&load, delta);
        verdict.records(delta);
        verdict.scrapes(&load);
        let attempts = after.value("synfin_tcp_connect_attempts_total");
        let counted = after.sum("synfin_tcp_transitions_total", &["from=\"close\"", "to=\"syn_sent\""]);
        let lost = delta.sum("synfin_events_lost_total", &["reason=\"ring_full\""]);
        verdict.require(lost > 0.0 && attempts == counted, || {
            format!("{attempts} connect attempts, {counted} transitions to SYN_SENT, {lost} records lost")
        });
    }
    verdict.pronounce();
}

/// Whether losses at full speed say something about the daemon: not if it was built for debugging.
fn is_optimized() -> bool {
    std::env::var_os("SYNFIN_BIN").is_some() || !cfg!(debug_assertions)
}

#[test]
fn censuses_in_the_middle_of_a_load_invent_nothing() {
    let settings = std::env::temp_dir().join(format!("synfin-lab-{}.toml", std::process::id()));
    std::fs::write(&settings, "[census]\ninterval = \"100ms\"\n").expect("a file in the directory for temporary files");
    let load = run(&["--ring-bytes", "134217728", "--config.file", settings.to_str().expect("a path in UTF-8")]);
    std::fs::remove_file(&settings).expect("our own file");
    let mut verdict = Verdict(Vec::new());
    verdict.witness(&load);
    if let Some(delta) = &load.delta {
        verdict.transitions(&load, delta);
        let censuses = delta.sum("synfin_census_timestamp_seconds", &[]);
        verdict.require(censuses > 0.5, || format!("the last census is {censuses} s after the first"));
        let lost = delta.sum("synfin_events_lost_total", &[]) + load.seen.under_pid1 as f64;
        let unknown = delta.sum("synfin_tcp_connections_closed_total", &["close=\"unknown\""]);
        let resyncs = delta.sum("synfin_census_resyncs_total", &[]);
        eprintln!("{lost} events lost, {unknown} closed in an unknown way, {resyncs} resyncs");
        verdict
            .require(unknown <= lost, || format!("{unknown} connections closed in an unknown way, {lost} events lost"));
        verdict.require(resyncs <= lost, || format!("{resyncs} censuses found drift, {lost} events lost"));
    }
    verdict.pronounce();
}
