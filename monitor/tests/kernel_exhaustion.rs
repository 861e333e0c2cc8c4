//! One destination driven past the knee and on until connect() fails: named before it hurts, foretold, and named when it does.

mod lab;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::diagnosis::*;
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use socket2::SockAddr;

/// Ports of the range. With [`RATE`] it lasts 15 s.
const PORTS: u64 = 3000;
/// Connections a second.
const RATE: u32 = 200;
/// A prediction may be off by so much of itself, and by [`SLACK`]: a census a second, and the time that the question takes.
const TOLERANCE: f64 = 0.15;
const SLACK: f64 = 1.5;

/// Opens and closes connections at a steady rate, the client first, until one finds no port; gives the moment.
fn drive(netns: &Netns, service: SocketAddr, stop: &AtomicBool) -> Option<Instant> {
    netns.run(|| {
        let listener = listen(service);
        let start = Instant::now();
        for number in 0..u32::MAX {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let due = start + Duration::from_secs(1) * number / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let client = socket(service);
            if let Err(error) = client.connect(&SockAddr::from(service)) {
                assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
                return Some(Instant::now());
            }
            let (server, _) = listener.accept().expect("accept");
            drop(client);
            read_to_end(&server);
        }
        None
    })
}

/// What was said while it grew.
struct Glance {
    at: Instant,
    ids: Vec<String>,
    used: Option<f64>,
    predicted: Option<f64>,
}

fn glance(rig: &Rig) -> Glance {
    let said = ask(&rig.netns, &rig.socket, &rig.root);
    let at = Instant::now();
    let ids: Vec<String> = said.ids().into_iter().map(String::from).collect();
    let number = |name: &str| {
        let of_ports = |id: &serde_json::Value| id == "TW-002" || id == "TW-003";
        let findings = said.findings().iter().filter(|finding| of_ports(&finding["id"]));
        let mut numbers = findings.flat_map(|finding| finding["measured"].as_array().expect("numbers"));
        numbers.find(|number| number["name"] == name).and_then(|number| number["value"].as_f64())
    };
    Glance { at, used: number("ports in use"), predicted: number("time to exhaustion"), ids }
}

#[test]
fn exhaustion_is_named_before_it_hurts_foretold_and_named_when_it_comes() {
    let range = ("net.ipv4.ip_local_port_range", "40000 42999");
    let rig = Rig::new("exhaustion", &[range, ("net.ipv4.tcp_tw_reuse", "0")]);
    let service = Family::V4.loopback(1, 4000);
    let stop = AtomicBool::new(false);
    let mut glances = Vec::new();
    let exhausted = std::thread::scope(|scope| {
        let driver = scope.spawn(|| drive(&rig.netns, service, &stop));
        let give_up = Instant::now() + Duration::from_secs(40);
        while !driver.is_finished() {
            glances.push(glance(&rig));
            if Instant::now() > give_up {
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(700));
        }
        driver.join().expect("the driver")
    });
    let exhausted = exhausted.expect("EADDRNOTAVAIL within 40 s");
    let until = |at: Instant| match exhausted.checked_duration_since(at) {
        Some(left) => left.as_secs_f64(),
        None => -(at - exhausted).as_secs_f64(),
    };

    eprintln!("before it came | ports in use | foretold | findings");
    for glance in &glances {
        let (used, foretold) = (glance.used.unwrap_or(0.0), glance.predicted.unwrap_or(f64::NAN));
        eprintln!("{:12.1} s | {used:12} | {foretold:6.1} s | {}", until(glance.at), glance.ids.join(" "));
    }
    let first = |id: &str| glances.iter().find(|glance| glance.ids.iter().any(|found| found == id));
    let (slow, out) = (first("TW-002").expect("TW-002"), first("TW-003").expect("TW-003 before the last port is gone"));
    assert!(slow.at < out.at, "TW-002 comes first");
    assert!(slow.used.is_some_and(|used| used < 0.5 * PORTS as f64), "before the knee: {:?}", slow.used);
    assert!(glances[0].ids.iter().all(|id| id != "TW-002" && id != "TW-003"), "silent at first: {:?}", glances[0].ids);
    let foretold: Vec<_> = glances.iter().filter_map(|glance| Some((until(glance.at), glance.predicted?))).collect();
    assert!(foretold.len() >= 5, "foretold at {} moments", foretold.len());
    for (left, predicted) in foretold {
        let off = (predicted - left).abs();
        assert!(off <= SLACK + TOLERANCE * predicted, "{predicted:.1} s were foretold, {left:.1} s it took");
    }

    rig.netns.run(|| (0..7).for_each(|_| connect_fails(service, libc::EADDRNOTAVAIL)));
    // The failing ones of the driver and these.
    let title = format!("no local port left: 8 connects to {service} failed");
    let give_up = Instant::now() + Duration::from_secs(10);
    let is_told = |said: &Said| said.finding("TW-003")["title"] == title.as_str();
    while !is_told(&ask(&rig.netns, &rig.socket, &rig.root)) {
        assert!(Instant::now() < give_up, "{:#}", ask(&rig.netns, &rig.socket, &rig.root).report);
    }
    let said = rig.find("TW-003", "critical", &[&title, "EADDRNOTAVAIL", "tcp_fin_timeout: does not"], PORTS);
    assert_eq!(said.measured("TW-003", "connects without a local port"), 8.0);
    assert_eq!(said.findings()[0]["id"], "TW-003", "the worst comes first: {:#}", said.report);
    let (status, text) = rig.text();
    assert_eq!(status, 1, "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.starts_with("critical TW-003")), "{text}");
    rig.daemon.stop();
}

#[test]
fn once_there_is_room_again_it_is_told_as_over() {
    const FEW: usize = 1000;
    allow_descriptors(2 * FEW as u64 + 1000);
    let rig = Rig::new("over", &[("net.ipv4.ip_local_port_range", "40000 40999")]);
    let service = Family::V4.loopback(1, 4000);
    let open: Vec<_> = rig.netns.run(|| {
        let listener = listen(service);
        let open = (0..FEW).map(|_| pair(&listener)).collect();
        (0..7).for_each(|_| connect_fails(service, libc::EADDRNOTAVAIL));
        open
    });
    let title = format!("no local port left: 7 connects to {service} failed");
    // Open connections hold the ports, and no sysctl frees those.
    let ask = || ask_for("60s", &rig.netns, &rig.socket, &rig.root);
    let is_told = |said: &Said| said.findings().iter().any(|finding| finding["title"] == title.as_str());
    lab::wait_until("the failures", Duration::from_secs(30), || is_told(&ask()));
    ask().check("TW-003", "critical", &[&title, "a pool of fixed size"]);
    open.into_iter().for_each(|(client, server)| {
        reset(client);
        drop(server);
    });
    let title = format!("ports free again: 7 connects to {service} failed in the last ");
    lab::wait_until("room again", Duration::from_secs(30), || ask().finding("TW-003")["severity"] == "warning");
    let said = ask();
    said.check("TW-003", "warning", &[&title, "; now ", " of 1,000 ports in use"]);
    let fixes = said.finding("TW-003")["fixes"].to_string();
    assert!(!fixes.contains("at once"), "{fixes}");
    rig.daemon.stop();
}
