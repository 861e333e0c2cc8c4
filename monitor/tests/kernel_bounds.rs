//! Bounds hold: of the connection table, of memory, of what strangers may do to the HTTP port.

mod lab;

use lab::daemon::{ADDRESS, Daemon, Scraper, after_next_census};
use lab::expect::{CLIENT_FOLLOWS, Expect, LISTENER, SERVER_CLOSES};
use lab::netns::Netns;
use lab::place::{self, Family};
use lab::sockets::*;
use lab::tables;
use lab::tun::Tun;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const RESIDENT_LIMIT_KIB: u64 = 64 * 1024;

#[test]
fn a_full_table_costs_detail_that_is_counted_and_no_totals() {
    const PAIRS: u64 = 5_000;
    const TABLE: f64 = 100.0;
    allow_descriptors(2 * PAIRS + 1_000);
    let netns = Netns::new();
    netns.sysctl("net.core.somaxconn", "4096");
    let daemon = Daemon::start(&netns, &["--max-connections", "100"]);
    let mut scraper = Scraper::connect(&netns);
    let before = scraper.scrape();
    let check_bound = |page: &lab::page::Page| {
        let tracked = page.value("synfin_tracked_connections");
        assert!(tracked <= TABLE, "{tracked} connections tracked in a table of {TABLE}");
    };
    assert_eq!(before.value("synfin_tracked_connections_limit"), TABLE);

    let listener = netns.run(|| listen_with(Family::V4.loopback(1, 4000), 4096));
    let mut pairs = Vec::new();
    for _ in 0..10 {
        netns.run(|| pairs.extend((0..PAIRS / 10).map(|_| pair(&listener))));
        check_bound(&scraper.scrape());
    }
    let page = after_next_census(&mut scraper);
    check_bound(&page);
    // Each socket beyond the table pushed one out; the listener and the scraper's own may be among them.
    let evicted = page.since(&before).sum("synfin_events_lost_total", &["reason=\"table_full\""]);
    let beyond = 2.0 * PAIRS as f64 - TABLE;
    assert!(beyond <= evicted && evicted <= beyond + TABLE + 10.0, "{evicted} evictions for {beyond} sockets too many");
    assert_eq!(tables::gauges(&page), tables::ss(&netns), "populations after a census against ss");
    let resident = daemon.resident_kib();
    assert!(resident < RESIDENT_LIMIT_KIB, "{resident} KiB resident");

    for (client, server) in pairs {
        drop(server);
        read_to_end(&client);
    }
    drop(listener);
    let one = Expect::nothing().transitions(CLIENT_FOLLOWS).transitions(SERVER_CLOSES);
    let expected = one.times(PAIRS).transitions(LISTENER).only_transitions();
    let mut wrong = Vec::new();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let delta = scraper.scrape().since(&before);
        let transitions = delta.0.into_iter().filter(|(series, _)| series.starts_with("synfin_tcp_transitions_total"));
        wrong = lab::expect::differences(&expected, &transitions.collect());
        if wrong.is_empty() {
            break;
        }
    }
    assert!(wrong.is_empty(), "transitions with a full table:\n{}", wrong.join("\n"));
    daemon.stop();
}

#[test]
fn a_connect_that_a_full_table_lets_go_of_is_one_attempt() {
    const CONNECTS: u8 = 250;
    let netns = Netns::new();
    let tun = Tun::new(&netns);
    // Nobody answers behind the device. Each destination once: the kernel would not send two alike to wait together.
    let connect = |port| {
        let to = (2..2 + CONNECTS).map(|host| SocketAddr::from((place::tun_peer(host), port)));
        netns.run(|| to.map(connect_nonblocking).collect::<Vec<_>>())
    };
    let older = connect(4000);
    let daemon = Daemon::start(&netns, &["--max-connections", "100"]);
    let mut scraper = Scraper::connect(&netns);
    let before = scraper.scrape();
    // The lab's own, until the daemon was ready.
    let attempts = before.value("synfin_tcp_connect_attempts_total");
    assert!(attempts < 50.0, "{attempts} attempts: connects older than the daemon are among them");
    let younger = connect(4001);
    after_next_census(&mut scraper);
    let page = after_next_census(&mut scraper).since(&before);
    assert_eq!(page.value("synfin_tcp_connect_attempts_total"), f64::from(CONNECTS));
    drop((older, younger));
    let mut failures = 0.0;
    lab::wait_until("the failure of each", Duration::from_secs(5), || {
        let page = scraper.scrape().since(&before);
        assert_eq!(page.value("synfin_tcp_connect_attempts_total"), f64::from(CONNECTS));
        failures = page.sum("synfin_tcp_connect_failures_total", &[]);
        failures >= 2.0 * f64::from(CONNECTS)
    });
    assert_eq!(failures, 2.0 * f64::from(CONNECTS), "those older than the daemon fail too");
    drop(tun);
    daemon.stop();
}

fn dial(netns: &Netns) -> TcpStream {
    let address = ADDRESS.parse().expect("a constant");
    let stream = netns.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)));
    let stream = stream.unwrap_or_else(|error| panic!("connecting to the daemon at {ADDRESS}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a constant time");
    stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a constant time");
    stream
}

#[test]
fn garbage_on_the_http_port_harms_nobody() {
    let netns = Netns::new();
    let daemon = Daemon::start(&netns, &[]);
    let mut scraper = Scraper::connect(&netns);
    let cases: [(&str, Vec<u8>); 9] = [
        ("nothing", Vec::new()),
        ("zero bytes", vec![0; 4096]),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(30)),
        ("a line without end", vec![b'A'; 4 << 20]),
        ("headers without end", [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(200_000)].concat()),
        ("an unknown version", b"GET /metrics HTTP/9.9\r\n\r\n".to_vec()),
        ("a path of a megabyte", [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat()),
        ("a length that lies", b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nx".to_vec()),
        ("half a request", b"GET /metr".to_vec()),
    ];
    for (name, bytes) in &cases {
        let mut stream = dial(&netns);
        // The daemon may close at any point: what it must not do is end, or stop to serve others.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read(&mut [0; 4096]);
        drop(stream);
        assert!(!daemon.has_ended(), "it ended on {name}:\n{}", daemon.log());
        let page = scraper.scrape();
        assert!(page.value("synfin_census_success") == 1.0, "after {name}");
    }
    let resident = daemon.resident_kib();
    assert!(resident < RESIDENT_LIMIT_KIB, "{resident} KiB resident");
    daemon.stop();
}

#[test]
fn a_thousand_idle_connections_do_not_delay_a_scrape() {
    allow_descriptors(3_000);
    let netns = Netns::new();
    let daemon = Daemon::start(&netns, &[]);
    let idle: Vec<TcpStream> = (0..1_000).map(|_| dial(&netns)).collect();
    for _ in 0..20 {
        let start = Instant::now();
        // A new connection each: with so many, the daemon may part with one that has been idle for longest.
        Scraper::connect(&netns).scrape();
        let time = start.elapsed();
        assert!(time < Duration::from_secs(1), "a scrape beside {} idle connections took {time:?}", idle.len());
    }
    // A newcomer is served or refused at once, never left waiting.
    let start = Instant::now();
    let status = lab::daemon::status(&netns, "/-/healthy");
    assert!(start.elapsed() < Duration::from_secs(1), "a newcomer waited {:?} for {status:?}", start.elapsed());
    let resident = daemon.resident_kib();
    assert!(resident < RESIDENT_LIMIT_KIB, "{resident} KiB resident");
    drop(idle);
    daemon.stop();
}
