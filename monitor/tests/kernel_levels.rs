//! Numbers of sockets between censuses, which are far apart here: what a walk under load leaves open must not stay on the page.

mod lab;

use lab::daemon::{Daemon, Scraper, program};
use lab::netns::Netns;
use lab::page::Page;
use lab::place::Family;
use lab::sockets::*;
use lab::{tables, wait_until};
use std::io::Read;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Outside every range that connect() chooses from here.
const PORT: u16 = 4000;
/// States of which `sockstat` says nothing.
const FULL: [&str; 8] =
    ["established", "syn_sent", "syn_recv", "fin_wait1", "close_wait", "last_ack", "listen", "closing"];

fn address(n: u8) -> SocketAddr {
    Family::V4.loopback(n, PORT)
}

/// Starts a daemon that walks once and then no more unless something happens.
fn start(netns: &Netns) -> Daemon {
    let file = std::env::temp_dir().join(format!("synfin-levels-{}-{}.toml", std::process::id(), netns.inum()));
    std::fs::write(&file, "[census]\ninterval = \"10m\"\n").expect("a file for the configuration");
    let mut command = Command::new(program());
    command.args(["run", "--web.listen-address", lab::daemon::ADDRESS, "--socket", "", "--config.file"]).arg(&file);
    let daemon = Daemon::spawn(netns, command);
    daemon.wait_ready(netns);
    std::fs::remove_file(&file).expect("the file just written");
    daemon
}

fn walked_at(page: &Page) -> f64 {
    page.value("synfin_census_timestamp_seconds")
}

/// Connections to `address` until told to stop; the client closes first.
fn churn(netns: &Netns, address: SocketAddr, running: &AtomicBool) {
    let listener = netns.run(|| listen_with(address, 1024));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((mut server, _)) = listener.accept() {
                let mut byte = [0];
                // The last connection says so.
                if matches!(server.read(&mut byte), Ok(1)) {
                    return;
                }
            }
        });
        netns.enter();
        while running.load(Ordering::Relaxed) {
            drop(connect(address));
        }
        std::io::Write::write_all(&mut connect(address), b".").expect("the last word");
    });
}

#[test]
fn a_daemon_that_starts_under_load_has_no_phantoms() {
    for round in 0..4 {
        let netns = Netns::new();
        netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        let running = AtomicBool::new(true);
        let (daemon, first) = std::thread::scope(|scope| {
            for n in 1..=3 {
                let (netns, running) = (&netns, &running);
                scope.spawn(move || churn(netns, address(n), running));
            }
            std::thread::sleep(Duration::from_millis(700));
            let daemon = start(&netns);
            let first = Scraper::connect(&netns).scrape();
            std::thread::sleep(Duration::from_millis(300));
            running.store(false, Ordering::Relaxed);
            (daemon, first)
        });
        let mut scraper = Scraper::connect(&netns);
        let mut told = (Page::default(), Vec::new());
        // The last FINs are on their way.
        wait_until("the page says what ss says", Duration::from_secs(5), || {
            let page = scraper.scrape();
            let (gauges, ss) = (tables::gauges(&page), tables::ss(&netns));
            let wrong: Vec<_> = FULL.into_iter().filter(|state| gauges[state] != ss[state]).collect();
            told = (page, wrong);
            if !told.1.is_empty() {
                eprintln!("round {round}: {:?} differ: {gauges:?}, ss {ss:?}", told.1);
            }
            told.1.is_empty()
        });
        let lost = told.0.sum("synfin_events_lost_total", &[]);
        assert!(lost > 0.0 || walked_at(&told.0) == walked_at(&first), "no walk was needed for it");
        drop(daemon);
    }
}
