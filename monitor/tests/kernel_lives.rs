//! Scripted lives over loopback: what the daemon counted of each is exactly what was done.

mod lab;

use lab::expect::{CLIENT_CLOSES, Expect, NO_CONNECTION, Role, SERVER_CLOSES, SERVER_FOLLOWS};
use lab::life;
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use lab::watch::{Watch, check_all};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn check_family(family: Family) {
    let mut watch = Watch::start(&[]);
    add_addresses(&watch.netns);
    let cases =
        life::ALL.map(|(name, life)| (format!("{family:?}: {name}"), move |netns: &Netns| netns.run(|| life(family))));
    check_all(&mut watch, cases);
}

/// IPv6 has no network of loopback addresses: the lab's are added. IPv4 has them already.
fn add_addresses(netns: &Netns) {
    netns.ip(&format!("-6 addr add {}/128 dev lo nodad", Family::V6.loopback(1, 0).ip()));
}

#[test]
fn lives_over_ipv4_are_counted_exactly() {
    check_family(Family::V4);
}

#[test]
fn lives_over_ipv6_are_counted_exactly() {
    check_family(Family::V6);
}

#[test]
fn lives_over_ipv4_mapped_addresses_are_counted_exactly() {
    check_family(Family::Mapped);
}

#[test]
fn a_connect_without_a_free_local_port_is_counted_by_its_reason() {
    let mut watch = Watch::start(&[]);
    watch.netns.sysctl("net.ipv4.ip_local_port_range", "40000 40001");
    let life = |netns: &Netns| {
        netns.run(|| {
            let address = Family::V4.loopback(1, 4000);
            let listener = listen(address);
            let pairs = [(); 2].map(|()| pair(&listener));
            connect_fails(address, libc::EADDRNOTAVAIL);
            // The server closes first, so that no local port of a client stays in TIME_WAIT.
            for (client, server) in pairs {
                drop(server);
                read_to_end(&client);
            }
        });
        let one = Expect::nothing().connection(Role::Client, lab::expect::CLIENT_FOLLOWS, "remote").connection(
            Role::Server,
            SERVER_CLOSES,
            "local",
        );
        one.times(2).listener().failed(NO_CONNECTION, "no_local_port")
    };
    check_all(&mut watch, [("no local port".to_owned(), life)]);
    if let Some(page) = watch.settled_page() {
        let destination = format!("destination=\"{}\"", Family::V4.loopback(1, 4000));
        assert_eq!(page.sum("synfin_ephemeral_port_failures_total", &[&destination]), 1.0);
    }
}

#[test]
fn a_destination_without_a_route_never_enters_syn_sent() {
    let mut watch = Watch::start(&[]);
    let octet = lab::place::octet();
    watch.netns.ip(&format!("route add unreachable 10.{octet}.9.0/24"));
    let life = |netns: &Netns| {
        netns.run(|| connect_fails(SocketAddr::from(([10, octet, 9, 9], 80)), libc::EHOSTUNREACH));
        Expect::nothing()
    };
    check_all(&mut watch, [("no route".to_owned(), life)]);
}

#[test]
fn connections_older_than_the_daemon_close_with_an_unknown_role() {
    let netns = Netns::new();
    let address = Family::V4.loopback(1, 4000);
    let open = |netns: &Netns| netns.run(|| (listen(address), [(); 4].map(|()| connect(address))));
    let (listener, clients) = open(&netns);
    let servers = [(); 4].map(|()| listener.accept().expect("accept").0);
    let mut watch = Watch::start_in(netns, &[]);
    let parts = std::sync::Mutex::new(Some((listener, clients, servers)));
    let life = |_: &Netns| {
        let (listener, clients, servers): (TcpListener, [TcpStream; 4], [TcpStream; 4]) =
            parts.lock().expect("no panic while locked").take().expect("played once");
        for (client, server) in clients.into_iter().zip(servers) {
            drop(client);
            read_to_end(&server);
        }
        drop(listener);
        let one = Expect::nothing()
            .found_open("established fin_wait1 fin_wait2 close", "local")
            .found_open("established close_wait last_ack close", "remote");
        one.times(4).transitions("listen close")
    };
    check_all(&mut watch, [("older than the daemon".to_owned(), life)]);
}

#[test]
fn the_same_tuple_in_another_namespace_is_not_counted() {
    let mut watch = Watch::start(&[]);
    let other = Netns::new();
    let client_address = Family::V4.loopback(2, 5000);
    let open = |netns: &Netns| {
        netns.run(|| {
            let listener = listen(Family::V4.loopback(1, 4000));
            let client = socket(client_address);
            client.set_reuse_address(true).expect("SO_REUSEADDR");
            client.bind(&client_address.into()).expect("bind");
            client.connect(&Family::V4.loopback(1, 4000).into()).expect("connect");
            let server = listener.accept().expect("accept").0;
            (listener, TcpStream::from(client), server)
        })
    };
    let expected = Expect::nothing().listener().connection(Role::Client, CLIENT_CLOSES, "local").connection(
        Role::Server,
        SERVER_FOLLOWS,
        "remote",
    );

    let before = watch.settled_page();
    watch.witness.take();
    // Both alive at once, then closed in the order other, own.
    let own = open(&watch.netns);
    let foreign = open(&other);
    for (listener, client, server) in [foreign, own] {
        drop(client);
        read_to_end(&server);
        drop((listener, server));
    }
    let twice = expected.clone().times(2).only_transitions();
    let mut seen = lab::witness::Seen::default();
    lab::wait_until("both lives in the kernel's own trace", Duration::from_secs(3), || {
        seen.add(watch.witness.take());
        lab::expect::differences(&twice, &seen.transitions).is_empty()
    });
    let (Some(before), Some(after)) = (before, watch.settled_page()) else { return };
    let wrong = expected.differences(&after.since(&before).tcp_counters());
    let pid1 = seen.under_pid1;
    assert!(wrong.is_empty(), "one of two namespaces ({pid1} events under PID 1):\n{}", wrong.join("\n"));
}

#[test]
fn mptcp_is_not_counted_as_tcp_but_its_subflows_are() {
    const IPPROTO_MPTCP: i32 = 262;
    let mut watch = Watch::start(&[]);
    let address = Family::V4.loopback(1, 4000);
    let mptcp = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(IPPROTO_MPTCP.into()));
    if let Err(error) = watch.netns.run(mptcp) {
        eprintln!("skipped: this kernel makes no MPTCP sockets ({error})");
        return;
    }
    let before = watch.scrape();
    watch.witness.take();
    watch.netns.run(|| {
        let listener = mptcp().expect("as above");
        listener.bind(&address.into()).expect("bind");
        listener.listen(8).expect("listen");
        let client = mptcp().expect("as above");
        client.connect(&address.into()).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        drop(client);
        read_to_end(&TcpStream::from(server));
    });
    // The kernel closes subflows from a worker: wait until its own trace is still.
    let mut seen = watch.witness.take();
    let mut quiet = 0;
    while quiet < 10 {
        std::thread::sleep(Duration::from_millis(50));
        let more = watch.witness.take();
        quiet = if more.total() + more.other_protocol == 0 { quiet + 1 } else { 0 };
        seen.add(more);
    }
    assert!(seen.other_protocol > 0, "the scenario made no MPTCP events: {seen:?}");
    assert!(seen.total() > 0, "the scenario made no TCP subflows: {seen:?}");
    let (Some(before), Some(after)) = (before, watch.scrape()) else { return };
    let mut delta = after.since(&before).tcp_counters().0;
    delta.retain(|series, _| series.starts_with("synfin_tcp_transitions_total"));
    let wrong = lab::expect::differences(&seen.transitions, &delta);
    assert!(wrong.is_empty(), "MPTCP, against the TCP events of ftrace:\n{}", wrong.join("\n"));
}

#[test]
fn sctp_is_not_counted_as_tcp() {
    let mut watch = Watch::start(&[]);
    let sctp = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(libc::IPPROTO_SCTP.into()));
    let life = |netns: &Netns| {
        netns.run(|| {
            let address = Family::V4.loopback(1, 4000);
            let listener = sctp().expect("as before");
            listener.bind(&address.into()).expect("bind");
            listener.listen(8).expect("listen");
            let client = sctp().expect("as before");
            client.connect(&address.into()).expect("connect");
        });
        Expect::nothing()
    };
    match watch.netns.run(sctp) {
        Err(error) => eprintln!("skipped: this kernel makes no SCTP sockets ({error})"),
        Ok(_) => check_all(&mut watch, [("SCTP".to_owned(), life)]),
    }
}

/// The lab's own proof: a wrong expectation, by one transition or by one label, must be noticed.
#[test]
fn the_lab_notices_a_wrong_expectation() {
    let mut watch = Watch::start(&[]);
    let mut check = |name: &str, wrong: Expect, source: &str| {
        let lines = watch.play(|netns| {
            netns.run(|| connect_fails(Family::V4.loopback(1, 4001), libc::ECONNREFUSED));
            wrong.clone()
        });
        assert!(lines.iter().any(|line| line.starts_with(source)), "{name} was not noticed by the {source}: {lines:?}");
    };
    let right = || Expect::nothing().failed(NO_CONNECTION, "refused");
    check("a transition too many", right().transitions("close listen"), "kernel");
    check("a transition too few", Expect::nothing(), "kernel");
    if !lab::watch::witness_only() {
        check("a transition too many", right().transitions("close listen"), "daemon");
        check("another reason", Expect::nothing().failed(NO_CONNECTION, "timeout"), "daemon");
        check("a retransmission too many", right().retransmits(Role::Client, 1), "daemon");
    }
}
