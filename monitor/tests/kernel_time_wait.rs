//! TIME_WAIT by maker, its flows, ports, listeners and CLOSE_WAIT, beside `ss`, `sockstat` and the kernel's own counters.

mod lab;

use lab::cgroup::{Cgroup, alone};
use lab::daemon::{Daemon, Scraper};
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use lab::tables::{self, netstat};
use lab::time_wait::*;
use lab::wait_until;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Outside every range that connect() chooses from here.
const PORT: u16 = 4000;

fn address(port: u16) -> SocketAddr {
    Family::V4.loopback(1, port)
}

fn start(netns: &Netns) -> (Daemon, Scraper) {
    let daemon = Daemon::start(netns, &[]);
    let scraper = Scraper::connect(netns);
    (daemon, scraper)
}

#[test]
fn every_socket_has_its_maker_even_when_client_and_server_share_a_host() {
    let _alone = alone();
    let netns = Netns::new();
    let (a, b) = (Cgroup::new("a"), Cgroup::new("b"));
    let (_daemon, mut scraper) = start(&netns);
    netns.run(|| {
        // A serves what B's client closes, and the other way round: owners are those who created the sockets.
        let (of_a, of_b) = (a.inside(|| listen(address(PORT))), b.inside(|| listen(address(PORT + 1))));
        b.inside(|| connections(&of_a, First::Client, 30));
        a.inside(|| connections(&of_b, First::Server, 20));
        a.inside(|| connections(&of_b, First::Client, 5));
    });
    let page = settled(&mut scraper);
    check_total(&netns, &page);
    let (to_a, to_b) = (address(PORT).to_string(), address(PORT + 1).to_string());
    let check = |role, endpoint: &str, unit: &str, sockets| {
        assert_eq!(time_wait(&page, role, endpoint, unit), sockets, "{role} {endpoint} {unit}");
        let entered =
            page.sum("synfin_time_wait_entered_total", &[&format!("role=\"{role}\""), &format!("unit=\"{unit}\"")]);
        assert_eq!(entered as u64, sockets, "entered: {role} {unit}");
        // Whoever waits has closed first, and the other end of each is here too.
        let labels = [format!("role=\"{role}\""), format!("endpoint=\"{endpoint}\""), format!("unit=\"{unit}\"")];
        let closes = |close: &str| {
            let close = format!("close=\"{close}\"");
            page.sum("synfin_tcp_endpoint_closes_total", &[&labels[0], &labels[1], &labels[2], &close]) as u64
        };
        assert_eq!(closes("local"), sockets, "closed first: {role} {endpoint} {unit}");
    };
    assert_eq!(page.unequal_sums(), [""; 0]);
    check("client", &to_a, &b.unit, 30);
    check("server", &to_b, &b.unit, 20);
    check("client", &to_b, &a.unit, 5);
}

#[test]
fn sockets_older_than_the_daemon_have_a_role_where_it_is_certain_and_no_unit() {
    let netns = Netns::new();
    let _listeners = netns.run(|| {
        let (here, there) = (listen(address(PORT)), listen(address(PORT + 1)));
        connections(&here, First::Client, 7);
        connections(&there, First::Server, 4);
        (here, there)
    });
    let (_daemon, mut scraper) = start(&netns);
    let page = settled(&mut scraper);
    check_total(&netns, &page);
    assert_eq!(time_wait(&page, "client", &address(PORT).to_string(), "unknown"), 7);
    assert_eq!(time_wait(&page, "server", &address(PORT + 1).to_string(), "unknown"), 4);
}

#[test]
fn beyond_the_limit_nothing_enters_and_each_refusal_is_counted() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.tcp_max_tw_buckets", "50");
    let (_daemon, mut scraper) = start(&netns);
    let before = settled(&mut scraper);
    netns.run(|| connections(&listen(address(PORT)), First::Client, 80));
    let page = settled(&mut scraper);
    let overflows = netstat(&netns, "TCPTimeWaitOverflow");
    assert!(overflows >= 30, "{overflows} overflows");
    assert_eq!(page.value("synfin_time_wait_limit_sockets"), 50.0);
    assert_eq!(page.value("synfin_time_wait_overflows_total") as u64, overflows);
    let total = check_total(&netns, &page);
    assert_eq!(total, 50);
    let (gained, grown) =
        (entered(&page) - entered(&before), total - before.sum("synfin_time_wait_sockets", &[]) as u64);
    let gone = left(&page).iter().sum::<u64>() - left(&before).iter().sum::<u64>();
    // Refusals hit ends into TIME_WAIT and into FIN_WAIT2, of which a slow processor has many: they are shared out in proportion. Where
    // what left is counted by cause it does not follow from what entered.
    let by_cause = page.sum("synfin_probe_attached", &["kind=\"fentry\""]) > 0.0;
    let apart = (gained - gone).abs_diff(grown);
    assert!(apart <= if by_cause { 2 } else { 0 }, "{gained} entered, {gone} left, {grown} more are there");
    assert!(gone <= 2, "{gone} left, of {gained}");
}

#[test]
fn what_connect_takes_over_left_as_reused() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.tcp_tw_reuse", "1");
    netns.sysctl("net.ipv4.ip_local_port_range", "40000 40019");
    let (_daemon, mut scraper) = start(&netns);
    let before = settled(&mut scraper);
    let recycled_before = netstat(&netns, "TWRecycled");
    netns.run(|| {
        let listener = listen(address(PORT));
        for _ in 0..3 {
            connections(&listener, First::Client, 15);
            // A second must pass before the kernel gives a port away.
            std::thread::sleep(Duration::from_millis(1200));
        }
    });
    let page = settled(&mut scraper);
    let recycled = netstat(&netns, "TWRecycled") - recycled_before;
    assert!(recycled >= 10, "{recycled} reused");
    check_total(&netns, &page);
    assert_eq!(left_since(&page, &before), [0, recycled, 0], "at first {:?}", left(&before));
    assert_eq!(entered(&page) - entered(&before), 45);
}

#[test]
fn a_closed_socket_in_fin_wait2_enters_when_its_peer_closes() {
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns);
    let (listener, servers): (_, Vec<TcpStream>) = netns.run(|| {
        let listener = listen(address(PORT));
        let servers = (0..6).map(|_| pair(&listener).1).collect();
        (listener, servers)
    });
    let waiting = settled(&mut scraper);
    check_total(&netns, &waiting);
    assert_eq!(tables::gauges(&waiting)["fin_wait2"], 6);
    drop(servers);
    let turned = settled(&mut scraper);
    check_total(&netns, &turned);
    assert_eq!(entered(&turned) - entered(&waiting), 6);
    assert_eq!(tables::gauges(&turned)["fin_wait2"], 0);
    drop(listener);
}

#[test]
fn after_a_minute_all_of_them_have_expired() {
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns);
    netns.run(|| connections(&listen(address(PORT)), First::Client, 300));
    let full = settled(&mut scraper);
    let total = check_total(&netns, &full);
    assert_eq!(full.value("synfin_time_wait_remaining_sockets{remaining=\"60s\"}") as u64, total);
    wait_until("all TIME_WAIT sockets are gone", Duration::from_secs(80), || tables::sockstat_tw(&netns) == 0);
    let empty = settled(&mut scraper);
    assert_eq!(check_total(&netns, &empty), 0);
    assert_eq!(left(&empty), [entered(&empty), 0, 0]);
    let gone = full.0.keys().filter(|series| series.starts_with("synfin_time_wait") && !empty.0.contains_key(*series));
    assert_eq!(gone.count(), 0, "rows that emptied must read 0");
}

#[test]
fn between_two_censuses_the_sum_follows_the_kernel() {
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns);
    let listener = netns.run(|| listen(address(PORT)));
    let endpoint = address(PORT).to_string();
    for round in 1..=20_u64 {
        netns.run(|| connections(&listener, First::Client, 10));
        let page = scraper.scrape();
        let sum = page.sum("synfin_time_wait_sockets", &[]) as u64;
        assert_eq!(sum, tables::gauges(&page)["time_wait"], "round {round}");
        let of_us = page.sum("synfin_time_wait_sockets", &[&format!("endpoint=\"{endpoint}\"")]) as u64;
        // The rest are the daemon's own: the lab asked it whether it is ready.
        assert!(of_us + 10 >= sum, "round {round}: {of_us} of {sum} sockets have their maker");
        // What a census met in FIN_WAIT2 is taken to stay there for a second.
        let small = sum + tables::gauges(&page)["fin_wait2"];
        assert!(small >= 10 * round, "round {round}: {small} small sockets");
        std::thread::sleep(Duration::from_millis(70));
    }
}

#[test]
fn ports_towards_one_destination_are_counted_in_all_states() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.ip_local_port_range", "41000 41999");
    netns.sysctl("net.ipv4.ip_local_reserved_ports", "41000-41099,50000");
    let (_daemon, mut scraper) = start(&netns);
    let listener = netns.run(|| listen(address(PORT)));
    let _held: Vec<_> = netns.run(|| {
        connections(&listener, First::Client, 5);
        connections(&listener, First::Server, 3);
        (0..25).map(|_| pair(&listener)).collect()
    });
    let page = settled(&mut scraper);
    assert_eq!(page.value("synfin_ephemeral_ports_available"), 900.0);
    let towards = format!("destination=\"{}\"", address(PORT));
    assert_eq!(page.sum("synfin_ephemeral_ports_used", &[&towards]), 30.0);
    check_total(&netns, &page);
}

#[test]
fn listeners_show_their_queue_and_the_kernel_counts_what_they_refuse() {
    let netns = Netns::new();
    let (_daemon, mut scraper) = start(&netns);
    let (_listener, _clients) = netns.run(|| {
        let listener = listen_with(address(PORT), 3);
        let clients: Vec<_> = (0..8).map(|_| connect_nonblocking(address(PORT))).collect();
        (listener, clients)
    });
    let page = settled(&mut scraper);
    let of = |metric: &str| page.value(&format!("synfin_listener_{metric}{{listener=\"{}\"}}", address(PORT)));
    assert_eq!(
        (of("backlog_sockets"), of("backlog_limit_sockets")),
        (4.0, 3.0),
        "the kernel takes one more than asked"
    );
    assert!(page.value("synfin_listen_overflows_total") >= 1.0);
    assert!(page.value("synfin_listen_overflows_total") as u64 <= netstat(&netns, "ListenOverflows"));
    assert!(page.value("synfin_listen_drops_total") as u64 <= netstat(&netns, "ListenDrops"));
}

#[test]
fn the_oldest_close_wait_is_dated() {
    let _alone = alone();
    let netns = Netns::new();
    let leak = Cgroup::new("leak");
    let (_daemon, mut scraper) = start(&netns);
    let unix = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let before = unix();
    let _held = netns.run(|| {
        let listener = leak.inside(|| listen(address(PORT)));
        let (client, server) = pair(&listener);
        drop(client);
        wait_state(&server, CLOSE_WAIT);
        (listener, server)
    });
    let after = unix();
    let page = settled(&mut scraper);
    let at = page.value(&format!("synfin_close_wait_oldest_timestamp_seconds{{unit=\"{}\"}}", leak.unit));
    assert!((before - 0.01..=after + 0.01).contains(&at), "{at} is not in {before}..{after}");
}

#[test]
fn a_hundred_thousand_sockets_are_counted_and_attributed() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    netns.sysctl("net.ipv4.tcp_max_tw_buckets", "400000");
    // By default connect() takes TIME_WAIT sockets over on loopback.
    netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
    let daemon = Daemon::start(&netns, &[]);
    let begin = Instant::now();
    netns.run(|| {
        // Few enough towards each that connect() need not search for a port.
        for listener in (0..5).map(|n| listen(address(500 + n))) {
            connections(&listener, First::Client, 20_000);
        }
    });
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(50), "the machine is too slow: {took:?}, the first have expired");
    // Not before: an idle connection would be closed meanwhile on a slow machine.
    let page = settled(&mut Scraper::connect(&netns));
    let of_ours = |unit: &[&str]| -> f64 {
        let endpoint = |n: u16| format!("endpoint=\"{}\"", address(500 + n));
        (0..5).map(|n| page.sum("synfin_time_wait_sockets", &[&[endpoint(n).as_str()], unit].concat())).sum()
    };
    let (attributed, without_unit) = (of_ours(&[]), of_ours(&["unit=\"unknown\""]));
    let (sum, lost) = (page.sum("synfin_time_wait_sockets", &[]), page.sum("synfin_events_lost_total", &[]));
    eprintln!(
        "made in {took:?}; {sum} sockets, {attributed} attributed, {without_unit} without a unit, {lost} records lost; \
         census {} s every {} s; resident {} KiB",
        page.value("synfin_census_duration_seconds"),
        page.value("synfin_census_interval_seconds"),
        daemon.resident_kib(),
    );
    assert_eq!(sum, tables::gauges(&page)["time_wait"] as f64);
    assert_eq!(attributed, 100_000.0, "of {sum}: without a record the ports tell the role");
    // On a machine without a free CPU a record may be lost; then that is counted.
    assert!(without_unit <= lost, "{without_unit} sockets without a unit, {lost} records lost");
}
