//! Rules of `synfin diagnose` provoked one by one: each finding whole, its query and its command proven to show the thing.

mod lab;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use lab::diagnosis::*;
use lab::netns::{Inhabitant, Netns};
use lab::packet::{ACK, RST, SYN, Segment, number};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::sockets::*;
use lab::tun::Tun;
use socket2::SockAddr;

/// A thousand ports, so that a share of them is quickly made.
const RANGE: (&str, &str) = ("net.ipv4.ip_local_port_range", "40000 40999");
const NO_REUSE: (&str, &str) = ("net.ipv4.tcp_tw_reuse", "0");

fn service(host: u8) -> SocketAddr {
    Family::V4.loopback(host, 4000)
}

/// Connections that the client closes first.
fn clients_close(netns: &Netns, service: SocketAddr, connections: usize) {
    netns.run(|| {
        let listener = listen(service);
        for _ in 0..connections {
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
        }
    });
}

/// Connections that the server closes first.
fn server_closes(netns: &Netns, service: SocketAddr, connections: usize) {
    netns.run(|| {
        let listener = listen(service);
        for _ in 0..connections {
            let (client, server) = pair(&listener);
            drop(server);
            read_to_end(&client);
        }
    });
}

/// Findings beyond `expected`.
fn others<'a>(said: &'a Said, expected: &str) -> Vec<&'a str> {
    said.ids().into_iter().filter(|id| *id != expected).collect()
}

#[test]
fn many_sockets_spread_over_destinations_are_harmless() {
    let rig = Rig::new("harmless", &[RANGE, NO_REUSE]);
    (1..=5).for_each(|host| clients_close(&rig.netns, service(host), 100));
    let said = rig.find("TW-001", "info", &["harmless", "(client) ->", "in TIME_WAIT", "tcp_fin_timeout"], 500);
    assert_eq!((said.status, others(&said, "TW-001")), (0, vec![]), "{:#}", said.report);
    rig.daemon.stop();
}

#[test]
fn one_endpoint_without_a_pool_is_named_with_the_unit() {
    let rig = Rig::new("pool", &[RANGE, NO_REUSE]);
    clients_close(&rig.netns, service(1), 300);
    let to = format!("-> {}: 30", service(1));
    let said = rig.find("TW-008", "warning", &[&to, "connection pool", "SO_LINGER"], 300);
    assert_eq!(others(&said, "TW-008"), [""; 0], "{:#}", said.report);
    rig.daemon.stop();
}

#[test]
fn ports_bound_before_connect_are_told_from_those_that_connect_picked() {
    let rig = Rig::new("bound", &[RANGE, NO_REUSE]);
    let connect_all = |bound: bool, each: usize, port: u16| {
        let mut open = Vec::new();
        for host in 1..=12 {
            let service = SocketAddr::from((service(host).ip(), port));
            let listener = listen(service);
            for _ in 0..each {
                let client = socket(service);
                if bound {
                    client.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("a free port");
                }
                client.connect(&SockAddr::from(service)).expect("the listener has room");
                open.push((client, listener.accept().expect("accept")));
            }
        }
        open
    };
    let picked = rig.netns.run(|| connect_all(false, 36, 4000));
    let said = ask(&rig.netns, &rig.socket, &rig.root);
    assert!(!said.ids().contains(&"TW-004"), "{:#}", said.report);
    // Aborted, so that nothing is left of them.
    picked.into_iter().for_each(|(client, (server, _))| {
        reset(client.into());
        drop(server);
    });
    let bound = rig.netns.run(|| connect_all(true, 36, 4000));
    let said = rig.find("TW-004", "warning", &["none shared between", "IP_BIND_ADDRESS_NO_PORT", "127.0.0.1"], 432);
    // The connection over which the page was read has a port too.
    assert!((432.0..=434.0).contains(&said.measured("TW-004", "ports in use")), "{:#}", said.report);
    // Some that connect() picks beside them share a few ports by chance.
    let beside = rig.netns.run(|| connect_all(false, 6, 4001));
    let sockets = || ask(&rig.netns, &rig.socket, &rig.root).measured("TW-004", "sockets on them");
    lab::wait_until("a census of all of them", Duration::from_secs(30), || sockets() >= 504.0);
    drop(beside);
    drop(bound);
    rig.daemon.stop();
}

#[test]
fn a_lowered_bucket_limit_overflows() {
    let rig = Rig::new("buckets", &[("net.ipv4.tcp_max_tw_buckets", "100")]);
    clients_close(&rig.netns, service(1), 300);
    let words = ["TIME_WAIT table full", "below the kernel's default", "lowering tcp_max_tw_buckets", "256 bytes"];
    let said = rig.find("TW-005", "critical", &words, 0);
    let destroyed = said.measured("TW-005", "TIME_WAIT sockets destroyed at once");
    let counter = rig.netns.command("nstat -asz TcpExtTCPTimeWaitOverflow");
    let counted: f64 = counter
        .lines()
        .last()
        .and_then(|line| line.split_whitespace().nth(1))
        .map_or(0.0, |n| n.parse().expect("a number"));
    assert!((200.0..=counted).contains(&destroyed), "{destroyed} destroyed, the kernel counts {counted}");
    // The limit itself is folklore.
    assert!(said.ids().contains(&"TW-010"), "{:#}", said.report);
    rig.daemon.stop();
}

#[test]
fn a_service_that_closes_first_on_one_busy_client_is_named_and_the_client_has_its_ports_back() {
    let rig = Rig::new("inbound", &[]);
    let clients = Netns::new();
    rig.netns.veth("10.77.0.1/24", &clients, "10.77.0.2/24");
    let address: SocketAddr = "10.77.0.1:4000".parse().expect("an address");
    let listener = rig.netns.run(|| listen_with(address, 1024));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A port may be used twice, so the sockets that wait are what counts.
            let waiting = || {
                rig.netns.proc("net/sockstat").split("tw ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok())
            };
            for _ in 0..100 {
                (0..300).for_each(|_| drop(listener.accept().expect("accept")));
                if waiting().unwrap_or(0) > 11_600 {
                    break;
                }
            }
            drop(listener);
        });
        clients.run(|| {
            while let Ok(mut client) = std::net::TcpStream::connect(address) {
                // The last ones are reset with their listener.
                let _ = std::io::Read::read(&mut client, &mut [0; 8]);
            }
        });
    });
    let on = format!("on {address}");
    let words = [on.as_str(), "closes first", "1 address", "keep-alive", "only for outgoing"];
    let said = rig.find("TW-006", "warning", &words, 11_300);
    assert!(said.ids().iter().all(|id| ["TW-006", "RS-001"].contains(id)), "{:#}", said.report);
    rig.daemon.stop();
}

#[test]
fn a_client_address_that_holds_many_ports_is_named() {
    // 40 % of the default range, and some.
    const HELD: usize = 11_300;
    allow_descriptors(HELD as u64 + 1000);
    let rig = Rig::new("held", &[("net.core.somaxconn", "20000")]);
    let clients = Netns::new();
    rig.netns.veth("10.79.0.1/24", &clients, "10.79.0.2/24");
    let address: SocketAddr = "10.79.0.1:4000".parse().expect("an address");
    // What waits for accept() takes no descriptor; the queue is little more than half full.
    let listener = rig.netns.run(|| listen_with(address, 20_000));
    let held: Vec<_> = clients.run(|| (0..HELD).map(|_| connect(address)).collect());
    let on = format!("on {address}");
    let words = ["client 10.79.0.2", &on, "11,300 sockets that the client holds too", "the ports are the client's"];
    let said = rig.find("TW-007", "warning", &words, HELD as u64);
    assert_eq!(others(&said, "TW-007"), [""; 0], "{:#}", said.report);
    drop((held, listener));
    rig.daemon.stop();
}

#[test]
fn reuse_without_effect_is_explained_by_its_reason() {
    let on = ("net.ipv4.tcp_tw_reuse", "1");
    let rig = Rig::new("inbound-reuse", &[RANGE, on]);
    server_closes(&rig.netns, service(1), 150);
    let said = rig.find("TW-009", "info", &["inbound connections", "(server) on"], 0);
    assert_eq!(said.status, 0, "{:#}", said.report);
    rig.daemon.stop();

    let rig = Rig::new("no-timestamps", &[RANGE, on, ("net.ipv4.tcp_timestamps", "0")]);
    clients_close(&rig.netns, service(1), 150);
    let said = rig.find("TW-009", "info", &["timestamps are off", "(client) ->"], 0);
    said.check("TW-010", "warning", &["the running kernel: tcp_timestamps = 0", "sysctl -w net.ipv4.tcp_timestamps=1"]);
    rig.daemon.stop();
}

#[test]
fn ports_that_are_reused_are_no_alarm() {
    let rig = Rig::new("reused", &[RANGE, ("net.ipv4.tcp_tw_reuse", "2")]);
    // Slower than the range lasts within the second after which a port may be taken over.
    let start = Instant::now();
    rig.netns.run(|| {
        let listener = listen(service(1));
        for number in 0..1500 {
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
            let due = start + Duration::from_secs(1) * number / 300;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    let said = rig.find("TW-002", "info", &["reused: no harm", "TWRecycled"], 400);
    assert_eq!(said.status, 0, "{:#}", said.report);
    rig.daemon.stop();
}

#[test]
fn peers_that_do_not_close_are_told_from_time_wait() {
    let rig = Rig::new("fin-wait2", &[RANGE]);
    let peers = Netns::new();
    rig.netns.veth("10.78.0.1/24", &peers, "10.78.0.2/24");
    let address: SocketAddr = "10.78.0.2:4000".parse().expect("an address");
    let listener = peers.run(|| listen(address));
    // Accepted and never closed.
    let held: Vec<_> = (0..60)
        .map(|_| {
            let client = rig.netns.run(|| connect(address));
            let server = listener.accept().expect("accept");
            close_in_fin_wait2(client);
            server
        })
        .collect();
    let to = format!("(client) -> {address}: 60 in FIN_WAIT2");
    let words = [to.as_str(), "peers do not close", "here it is the right knob", "tcp_tw_reuse: it is for TIME_WAIT"];
    let said = rig.find("FW-001", "warning", &words, 0);
    assert_eq!(said.measured("FW-001", "of them closed by the application"), 60.0);
    assert_eq!(others(&said, "FW-001"), [""; 0], "{:#}", said.report);
    drop(held);
    rig.daemon.stop();
}

/// Three seconds until a connect gives up: a SYN, another after 1 s, the end after 2 s more.
fn give_up_soon(netns: &Netns) {
    netns.sysctl("net.ipv4.tcp_syn_retries", "1");
    // Since Linux 6.5 the first retransmissions come each second.
    let linear = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";
    netns.run(|| {
        if std::path::Path::new(linear).exists() {
            std::fs::write(linear, "0").expect("a sysctl of our own")
        }
    });
}

#[test]
fn a_silent_peer_and_one_with_a_stale_socket_are_told_apart() {
    let rig = Rig::new("silent", &[("net.ipv4.tcp_fin_timeout", "60")]);
    give_up_soon(&rig.netns);
    let tun = Tun::new(&rig.netns);
    let silent = SocketAddr::from((place::tun_peer(9), 80));
    let connects: Vec<_> = (0..3).map(|_| rig.netns.run(|| connect_nonblocking(silent))).collect();
    // 3 s each, and the kernel ends its timers up to an eighth later.
    std::thread::sleep(Duration::from_millis(3600));
    let words = [
        format!("nothing answers at {silent}: 3 connects timed out"),
        format!("(client) -> {silent}: 3 connects timed out, 0 succeeded"),
    ];
    let said = rig.find("HS-001", "warning", &[&words[0], &words[1], "tcp_syn_retries"], 0);
    assert_eq!(said.measured("HS-001", "SYNs sent again before they gave up"), 3.0);
    assert_eq!(others(&said, "HS-001"), [""; 0], "{:#}", said.report);
    drop(connects);
    rig.daemon.stop();

    // The peer never closes; ours is gone at once (SO_LINGER2), and the port is used again.
    let rig = Rig::new("stale", &[]);
    drop(tun);
    give_up_soon(&rig.netns);
    let tun = Tun::new(&rig.netns);
    let stale = SocketAddr::from((place::tun_peer(9), 80));
    let from = SocketAddr::from((place::tun_here(), 55_555));
    let connect_from = || {
        let client = socket(stale);
        client.set_reuse_address(true).expect("SO_REUSEADDR");
        client.bind(&SockAddr::from(from)).expect("the port is free");
        client.set_nonblocking(true).expect("O_NONBLOCK");
        let _ = client.connect(&SockAddr::from(stale));
        client
    };
    let client = rig.netns.run(connect_from);
    let mut peer = Peer::new(&tun, 9, 80, 0);
    peer.answer();
    // Closed by a reset that the peer does not get.
    reset(client.into());
    let again = rig.netns.run(connect_from);
    let give_up = Instant::now() + Duration::from_millis(3600);
    let mut challenged = 0;
    while let Some(segment) = tun.receive(give_up.saturating_duration_since(Instant::now())) {
        if segment.is(SYN) {
            // It answers with the numbers of the old connection (RFC 5961), and a filter keeps the kernel's reset from it.
            peer.say(ACK);
            challenged += 1;
        } else {
            assert!(segment.has(RST), "{segment:?}");
        }
    }
    assert_eq!(challenged, 2);
    let words =
        [format!("1 connect to {stale} timed out"), format!("(client) -> {stale}: 1 connect timed out, 1 succeeded")];
    // Told, but a single one is no alarm.
    rig.find("HS-001", "info", &[&words[0], &words[1], "half-closed socket", "look for sockets in CLOSE_WAIT"], 0);
    drop(again);
    rig.daemon.stop();
}

#[test]
fn handshakes_that_wait_for_a_repeated_packet_have_a_tail() {
    let rig = Rig::new("tail", &[]);
    give_up_soon(&rig.netns);
    rig.netns.sysctl("net.ipv4.tcp_syn_retries", "4");
    let tun = Tun::new(&rig.netns);
    let outgoing = |port| SocketAddr::from((place::tun_peer(9), port));
    let incoming = SocketAddr::from((place::tun_here(), 80));
    let listener = rig.netns.run(|| listen(incoming));
    // The peer at port n lets n SYNs of the kernel go by before it answers, and as many SYN-ACKs.
    let clients: Vec<_> = (1..=3).map(|port| rig.netns.run(|| connect_nonblocking(outgoing(port)))).collect();
    let mut servers: Vec<_> = (1..=3).map(|port| Peer::new(&tun, 8, port, 80)).collect();
    servers.iter_mut().for_each(|peer| peer.say(SYN));
    let (mut seen, mut done) = (std::collections::BTreeMap::new(), 0);
    let give_up = Instant::now() + Duration::from_secs(12);
    while done < 6 {
        let segment: Segment = tun.receive(give_up.saturating_duration_since(Instant::now())).expect("all within 12 s");
        let times: &mut u16 = seen.entry((segment.flags, segment.destination)).or_default();
        *times += 1;
        let (host, port) = segment.destination;
        let turn = *times == port + 1;
        if segment.is(SYN) && host == number(place::tun_peer(9)) && turn {
            let (source, destination, ack) = (segment.destination, segment.source, segment.seq + 1);
            let answer = Segment { source, destination, ack, seq: 7, flags: SYN | ACK, ..Segment::default() };
            tun.send(&answer.encode());
            done += 1;
        } else if segment.is(SYN | ACK) && turn {
            let (source, destination, ack) = (segment.destination, segment.source, segment.seq + 1);
            let last = Segment { source, destination, ack, seq: segment.ack, flags: ACK, ..Segment::default() };
            tun.send(&last.encode());
            done += 1;
        }
    }
    let accepted: Vec<_> = (0..3).map(|_| listener.accept().expect("accept")).collect();
    let said =
        rig.find("HS-002", "warning", &["No accept queue overflowed", "slow handshake", "tcp_synack_retries"], 0);
    for step in ["of them 1 to 3 s", "of them 3 to 7 s", "of them 7 s and more"] {
        assert_eq!(said.measured("HS-002", step), 1.0, "{:#}", said.report);
    }
    let finding = said.finding("HS-002").to_string();
    let named = [format!("(server) on {incoming}: 3 slow"), format!("(client) -> {}: 1 slow", outgoing(3))];
    named.iter().for_each(|line| assert!(finding.contains(line), "{line} is not in {finding}"));
    drop((clients, accepted));
    rig.daemon.stop();
}

#[test]
fn another_namespace_is_pointed_at_or_judged_by_its_own_limits() {
    let there = Netns::new();
    let _inhabitant = Inhabitant::of(&there);
    there.sysctl(RANGE.0, RANGE.1);
    there.sysctl(NO_REUSE.0, NO_REUSE.1);
    let rig = Rig::new("one", &[]);
    clients_close(&there, service(1), 30);
    let said = rig.find("NS-001", "info", &["other network namespace", "--netns all", "nsenter"], 0);
    assert_eq!((said.status, said.ids()), (0, vec![]), "{:#}", said.report);
    rig.daemon.stop();

    let name = format!("synfin-rules-{}", std::process::id());
    let named = Netns::named(&name);
    named.sysctl(RANGE.0, RANGE.1);
    named.sysctl(NO_REUSE.0, NO_REUSE.1);
    // 450 sockets there would be more than half of the limit here.
    let limit = ("net.ipv4.tcp_max_tw_buckets", "800");
    let rig = Rig::with("all", &[limit], &["--netns", "all"]);
    clients_close(&there, service(1), 420);
    let namespace = format!("in network namespace net:[{}]", there.inum());
    let to = format!("-> {}: 45", service(1));
    let said = rig.find("TW-002", "warning", &[&namespace, &to, "(45 %)", "nsenter -n -t $(lsns"], 450);
    assert_eq!(said.measured("TW-002", "local ports to choose from (P)"), 1000.0);
    rig.find("TW-008", "warning", &[&namespace, &to, "nsenter -n -t $(lsns", "sysctl -w net.ipv4.tcp_tw_reuse=1"], 420);
    assert_eq!(said.report["facts"]["all_namespaces"], true);
    assert!(said.findings().iter().all(|finding| finding["id"] != "NS-001"), "{:#}", said.report);
    assert!(!said.ids().contains(&"TW-005"), "{:#}", said.report);
    // One with a name is found by it, and needs no process.
    clients_close(&named, service(2), 470);
    let place = format!("in network namespace {name}");
    rig.find("TW-002", "warning", &[&place, "(47 %)", &format!("ip netns exec {name} ss")], 470);
    rig.daemon.stop();
}
