//! How small sockets end before their time, and what of that a daemon keeps track that came late or lost records.

mod lab;

use lab::cgroup::own_unit;
use lab::daemon::{Daemon, Scraper, after_next_census};
use lab::netns::{Inhabitant, Netns};
use lab::page::Page;
use lab::place::Family;
use lab::sockets::*;
use lab::time_wait::*;
use lab::{tables, wait_until};
use socket2::SockAddr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Outside every range that connect() chooses from here.
const PORT: u16 = 4000;

fn address(port: u16) -> SocketAddr {
    Family::V4.loopback(1, port)
}

fn start(netns: &Netns, arguments: &[&str]) -> (Daemon, Scraper) {
    let daemon = Daemon::start(netns, &[&["--socket", ""], arguments].concat());
    let scraper = Scraper::connect(netns);
    (daemon, scraper)
}

/// Of small sockets on the lab's port.
fn towards_us(page: &Page, role: &str, unit: &str) -> u64 {
    time_wait(page, role, &address(PORT).to_string(), unit)
}

/// A connection from a port of the caller's choice: (client, server).
fn pair_from(listener: &TcpListener, port: u16) -> (TcpStream, TcpStream) {
    let client = socket(address(port));
    client.set_reuse_address(true).expect("SO_REUSEADDR");
    client.bind(&SockAddr::from(address(port))).unwrap_or_else(|error| panic!("bind {port}: {error}"));
    client.connect(&SockAddr::from(address(PORT))).unwrap_or_else(|error| panic!("connect from {port}: {error}"));
    (client.into(), listener.accept().expect("accept").0)
}

#[test]
fn what_a_new_syn_replaces_has_left() {
    const PORTS: std::ops::Range<u16> = 20_000..20_050;
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns, &[]);
    let listener = netns.run(|| listen(address(PORT)));
    let round = || {
        netns.run(|| {
            for port in PORTS {
                let (client, server) = pair_from(&listener, port);
                drop(server);
                read_to_end(&client);
            }
        });
    };
    let empty = settled(&mut scraper);
    round();
    let first = settled(&mut scraper);
    let total = check_total(&netns, &first);
    assert_eq!(entered(&first) - entered(&empty), 50);
    let check = |page: &Page, entries, ends, total| {
        assert_eq!(check_total(&netns, page), total);
        assert_eq!(entered(page) - entered(&first), entries, "entries");
        // No counter of the kernel tells a new SYN from a reset.
        assert_eq!(left_since(page, &first), [0, 0, ends], "ends");
    };

    round();
    check(&settled(&mut scraper), 50, 50, total);
    // Within one census: nobody looks between the two.
    round();
    round();
    check(&settled(&mut scraper), 150, 150, total);

    let held: Vec<_> = netns.run(|| PORTS.map(|port| pair_from(&listener, port)).collect());
    let page = settled(&mut scraper);
    check(&page, 150, 200, total - 50);
    assert_eq!(tables::gauges(&page)["established"], tables::ss(&netns)["established"]);
    drop(held);
}

/// `ss -K`; `None` when the kernel was built without CONFIG_INET_DIAG_DESTROY.
fn kill_sockets(netns: &Netns, filter: &str) -> Option<()> {
    let output = netns.try_command(&format!("ss -tanHK {filter}"));
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not supported") {
        eprintln!("not run: this kernel refuses ss -K: {}", said.trim());
        return None;
    }
    assert!(output.status.success() && said.is_empty(), "ss -K {filter}: {said}");
    Some(())
}

#[test]
fn what_an_administrator_kills_is_gone_from_every_figure() {
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns, &[]);
    let listener = netns.run(|| listen(address(PORT)));
    let (waiting_on, half_closed, open) = netns.run(|| {
        connections(&listener, First::Client, 20);
        // Closed with the peer's FIN to come: small FIN_WAIT2 sockets. Half closed: whole ones.
        let waiting_on: Vec<TcpStream> = (0..6).map(|_| pair(&listener).1).collect();
        let half_closed: Vec<_> = (0..4).map(|_| pair(&listener)).collect();
        half_closed.iter().for_each(|(client, _)| half_close(client));
        let open: Vec<_> = (0..5).map(|_| pair(&listener)).collect();
        (waiting_on, half_closed, open)
    });
    let before = settled(&mut scraper);
    let total = check_total(&netns, &before);
    assert_eq!((towards_us(&before, "client", &own_unit()), tables::gauges(&before)["fin_wait2"]), (20, 10));

    let ours = format!("dst {}", address(PORT));
    let killed = kill_sockets(&netns, &format!("state time-wait {ours}"))
        .and_then(|()| kill_sockets(&netns, &format!("state fin-wait-2 {ours}")))
        .and_then(|()| kill_sockets(&netns, &format!("state established {ours}")));
    if killed.is_none() {
        return;
    }
    let page = settled(&mut scraper);
    assert_eq!(check_total(&netns, &page), total - 20);
    assert_eq!(tables::gauges(&page), tables::ss(&netns));
    assert_eq!(towards_us(&page, "client", &own_unit()), 0);
    assert_eq!(tables::gauges(&page)["fin_wait2"], 0);
    assert_eq!(left_since(&page, &before), [0, 0, 20]);
    assert_eq!(entered(&page), entered(&before));
    let resets = |page: &Page| page.sum("synfin_tcp_connections_closed_total", &["close=\"reset\""]);
    // Both ends of the whole ones: the peer is told by a reset. A small socket goes without a word.
    assert_eq!(resets(&page) - resets(&before), 2.0 * (5.0 + 4.0));
    drop((waiting_on, half_closed, open));
}

#[test]
fn a_namespace_takes_its_sockets_with_it() {
    const SOCKETS: u64 = 10_000;
    let (here, other, doomed) = (Netns::new(), Netns::new(), Netns::new());
    let inhabitants = (Inhabitant::of(&other), Inhabitant::of(&doomed));
    let (_all, mut all) = start(&here, &["--netns", "all"]);
    let (_own, mut own) = start(&other, &[]);
    doomed.sysctl("net.ipv4.tcp_max_tw_buckets", "100000");
    let of_other = settled(&mut own);
    doomed.run(|| {
        let listener = listen(address(PORT));
        connections(&listener, First::Client, SOCKETS as usize);
    });
    assert_eq!(tables::ss(&doomed)["time_wait"], SOCKETS);
    let full = settled(&mut all);
    // The whole host is watched: on a busy one a record may be lost, and then only the ports tell whose a socket was.
    let ours = |page: &Page| [own_unit().as_str(), "unknown"].map(|unit| towards_us(page, "client", unit));
    let lost = full.sum("synfin_events_lost_total", &[]);
    assert_eq!(ours(&full).iter().sum::<u64>(), SOCKETS);
    assert!(ours(&full)[1] as f64 <= lost, "{:?}, {lost} records lost", ours(&full));
    assert_eq!(makers(&full), tables::gauges(&full)["time_wait"]);

    drop((doomed, inhabitants.1));
    let mut page = full.clone();
    wait_until("the sockets of the deleted namespace are gone", Duration::from_secs(20), || {
        page = after_next_census(&mut all);
        makers(&page) == tables::gauges(&page)["time_wait"] && ours(&page) == [0, 0]
    });
    let [_, reused, unknown] = left_since(&page, &full);
    assert_eq!(reused, 0);
    // Other namespaces of the host may have lost some too.
    assert!(unknown >= SOCKETS, "{unknown} of {SOCKETS} ended early for an unknown reason");
    let untouched = settled(&mut own);
    assert_eq!(check_total(&other, &untouched), check_total(&other, &of_other));
    assert_eq!((entered(&untouched), left(&untouched)), (entered(&of_other), left(&of_other)));
    drop(inhabitants.0);
}

#[test]
fn a_daemon_that_comes_late_counts_what_was_there_before() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.tcp_fin_timeout", "6");
    let listener = netns.run(|| listen(address(PORT)));
    let (waiting_on, closing, open) = netns.run(|| {
        connections(&listener, First::Client, 7);
        connections(&listener, First::Server, 4);
        let waiting_on: Vec<TcpStream> = (0..6).map(|_| pair(&listener).1).collect();
        let closing: Vec<_> = (0..3).map(|_| pair(&listener)).collect();
        closing.iter().for_each(|(client, _)| half_close(client));
        let open: Vec<_> = (0..5).map(|_| pair(&listener)).collect();
        (waiting_on, closing, open)
    });
    let (_daemon, mut scraper) = start(&netns, &[]);
    let own = own_unit();
    let check = |page: &Page, rows: [(&str, &str, u64); 4]| {
        check_makers(&netns, page);
        assert_eq!(tables::gauges(page), tables::ss(&netns));
        for (role, unit, sockets) in rows {
            let unit = if unit == "ours" { &own } else { unit };
            assert_eq!(towards_us(page, role, unit), sockets, "{role} {unit}");
        }
    };
    check_makers(&netns, &scraper.scrape());
    // A walk under which sockets move (the lab asks whether the daemon is ready) knows them to within that.
    let first = settled(&mut scraper);
    assert_eq!(tables::gauges(&first)["fin_wait2"], 9);
    check(&first, [("client", "unknown", 7), ("client", "ours", 0), ("server", "unknown", 4), ("server", "ours", 0)]);

    // Three of the six small FIN_WAIT2 sockets turn without a word, the rest run out of time; no owner was ever seen.
    let mut waiting_on = waiting_on;
    drop(waiting_on.split_off(3));
    let turned = settled(&mut scraper);
    check(&turned, [("client", "unknown", 10), ("client", "ours", 0), ("server", "unknown", 4), ("server", "ours", 0)]);
    wait_until("the rest ran out of time", Duration::from_secs(10), || tables::ss(&netns)["fin_wait2"] == 3);
    drop(waiting_on);

    // Whole sockets of before have a cgroup, and their role is told by their port.
    for (client, server) in closing {
        drop(server);
        read_to_end(&client);
    }
    for (client, server) in open {
        drop(server);
        read_to_end(&client);
    }
    let last = settled(&mut scraper);
    check(&last, [("client", "unknown", 10), ("client", "ours", 3), ("server", "unknown", 4), ("server", "ours", 5)]);
    assert_eq!(entered(&last) - entered(&first), 3 + 3 + 5);
    assert_eq!(left(&last), [0, 0, 0]);
}

#[test]
fn a_ring_of_one_page_loses_records_and_no_socket() {
    const SOCKETS: usize = 6_000;
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns, &["--ring-bytes", "4096"]);
    let before = settled(&mut scraper);
    let listener = netns.run(|| {
        let listener = listen(address(PORT));
        let call = lab::storm::Call { source: None, destination: address(PORT), server_first: false };
        lab::storm::play(&listener, std::iter::repeat_n(call, SOCKETS));
        listener
    });
    let at_once = scraper.scrape();
    let (page, ss) = (tables::gauges(&at_once), tables::ss(&netns));
    assert_eq!(tables::small(&page), tables::small(&ss), "before a census: the kernel's own total");
    assert_eq!(makers(&at_once), tables::gauges(&at_once)["time_wait"]);

    let page = settled(&mut scraper);
    let total = check_total(&netns, &page);
    let lost = page.since(&before).value("synfin_events_lost_total{reason=\"ring_full\"}");
    assert!(lost > 0.0, "a storm of {SOCKETS} went through a ring of one page");
    let of_us = [own_unit().as_str(), "unknown"].map(|unit| towards_us(&page, "client", unit));
    assert_eq!(of_us.iter().sum::<u64>(), SOCKETS as u64, "without a record the port tells the role");
    assert!(of_us[1] as f64 <= lost, "{} without a unit, {lost} records lost", of_us[1]);
    // Entries without a record are known once a second census still meets their sockets.
    assert_eq!(entered(&page) - entered(&before), total - makers(&before));
    assert_eq!(left(&page), [0, 0, 0]);
    eprintln!("{lost} records lost, {} sockets without a unit", of_us[1]);
    drop(listener);
}
