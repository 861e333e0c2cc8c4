//! Lives that need a peer with a will of its own: late, lost and crossing segments, cookies, floods, ICMP.
// Longer than 400 lines: each peer is a script of its own, and they share what stands above them.

mod lab;

use lab::expect::{CLIENT_CLOSES, CLIENT_RESET, Expect, NO_CONNECTION, Role, SERVER_FOLLOWS, SERVER_RESET};
use lab::netns::Netns;
use lab::packet::{ACK, FIN, RST, SYN, Segment, number};
use lab::peer::Peer;
use lab::place;
use lab::sockets::*;
use lab::tun::Tun;
use lab::watch::{Watch, check_all};
use socket2::Socket;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PORT: u16 = 4000;
const LATE: Duration = Duration::from_millis(80);

/// A life of the table; boxed because each closure has a type of its own.
type Life<'a> = Box<dyn Fn(&Netns) -> Expect + 'a>;

fn tun(watch: &Watch) -> Tun {
    Tun::new(&watch.netns)
}

fn listener(netns: &Netns) -> TcpListener {
    netns.run(|| listen(SocketAddr::from((place::tun_here(), PORT))))
}

/// connect() of the kernel to address number `host` behind the device, under way.
fn connecting(netns: &Netns, host: u8) -> Socket {
    netns.run(|| connect_nonblocking(SocketAddr::from((place::tun_peer(host), PORT))))
}

/// A socket of the kernel connected to a peer at `host`.
fn connected<'a>(netns: &Netns, tun: &'a Tun, host: u8) -> (TcpStream, Peer<'a>) {
    let socket = connecting(netns, host);
    let mut peer = Peer::new(tun, host, PORT, 0);
    peer.answer();
    (blocking(socket), peer)
}

fn blocking(socket: Socket) -> TcpStream {
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    let stream = TcpStream::from(socket);
    wait_state(&stream, ESTABLISHED);
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a constant time");
    stream
}

/// A server-side connection that its application ends by a reset: the shortest way out.
fn accepted_and_reset(listener: &TcpListener) {
    reset(listener.accept().expect("accept").0);
}

/// The server side of the shortest life, its handshake left open.
fn server_opened_and_reset() -> Expect {
    Expect::nothing().listener().opened(Role::Server, SERVER_RESET).ended(Role::Server, "reset")
}

fn client_opened_and_reset() -> Expect {
    Expect::nothing().opened(Role::Client, CLIENT_RESET).ended(Role::Client, "reset")
}

#[test]
fn segments_that_cross_and_errors_are_counted_exactly() {
    let mut watch = Watch::start(&[]);
    let tun = &tun(&watch);
    let cases: [(&str, Life); 13] = [
        (
            "simultaneous open",
            Box::new(move |netns| {
                let socket = connecting(netns, 10);
                let mut peer = Peer::new(tun, 10, PORT, 0);
                peer.expect_flags("SYN", SYN);
                peer.say(SYN);
                peer.expect_flags("SYN-ACK", SYN | ACK);
                peer.say(ACK);
                reset(blocking(socket));
                let path = "close syn_sent syn_recv established close";
                Expect::nothing().connection(Role::Client, path, "reset")
            }),
        ),
        (
            "simultaneous close",
            Box::new(move |netns| {
                let (client, mut peer) = connected(netns, tun, 11);
                drop(client);
                peer.expect("FIN", |segment| segment.has(FIN));
                peer.say_acknowledging_less(FIN | ACK, 1);
                peer.expect_flags("ACK of the crossing FIN", ACK);
                peer.say(ACK);
                let path = "close syn_sent established fin_wait1 closing close";
                Expect::nothing().connection(Role::Client, path, "simultaneous")
            }),
        ),
        (
            "the peer acknowledges our FIN, and sends its own later",
            Box::new(move |netns| {
                let (client, mut peer) = connected(netns, tun, 12);
                drop(client);
                peer.follow();
                Expect::nothing().connection(Role::Client, CLIENT_CLOSES, "local")
            }),
        ),
        (
            "the peer closes first",
            Box::new(move |netns| {
                let listener = listener(netns);
                let mut peer = Peer::new(tun, 13, 2001, PORT);
                peer.open();
                let (server, _) = listener.accept().expect("accept");
                peer.say(FIN | ACK);
                read_to_end(&server);
                drop(server);
                peer.expect("FIN", |segment| segment.has(FIN));
                peer.say(ACK);
                Expect::nothing().listener().connection(Role::Server, SERVER_FOLLOWS, "remote")
            }),
        ),
        (
            "the peer resets an open connection",
            Box::new(move |netns| {
                let (client, mut peer) = connected(netns, tun, 14);
                peer.reset();
                read_reset(&client);
                client_opened_and_reset().measured(Role::Client)
            }),
        ),
        (
            "the peer resets instead of acknowledging our FIN",
            Box::new(move |netns| {
                let (client, mut peer) = connected(netns, tun, 15);
                drop(client);
                peer.expect("FIN", |segment| segment.has(FIN));
                peer.reset();
                let path = "close syn_sent established fin_wait1 close";
                Expect::nothing().connection(Role::Client, path, "reset")
            }),
        ),
        (
            "refused by the peer",
            Box::new(move |netns| {
                let socket = connecting(netns, 16);
                let mut peer = Peer::new(tun, 16, PORT, 0);
                peer.expect_flags("SYN", SYN);
                peer.reset();
                wait_state(&socket.into(), CLOSE);
                Expect::nothing().failed(NO_CONNECTION, "refused")
            }),
        ),
        (
            "reset in the middle of a simultaneous open",
            Box::new(move |netns| {
                let socket = connecting(netns, 17);
                let mut peer = Peer::new(tun, 17, PORT, 0);
                peer.expect_flags("SYN", SYN);
                peer.say(SYN);
                peer.expect_flags("SYN-ACK", SYN | ACK);
                peer.say(RST | ACK);
                wait_state(&socket.into(), CLOSE);
                Expect::nothing().failed("close syn_sent syn_recv close", "reset")
            }),
        ),
        (
            "ICMP host unreachable",
            Box::new(move |netns| {
                let socket = connecting(netns, 18);
                let syn = Peer::new(tun, 18, PORT, 0).expect_flags("SYN", SYN);
                tun.send(&syn.unreachable(1));
                wait_state(&socket.into(), CLOSE);
                Expect::nothing().failed(NO_CONNECTION, "unreachable")
            }),
        ),
        (
            "closed while connecting",
            Box::new(move |netns| {
                drop(connecting(netns, 19));
                Expect::nothing().failed(NO_CONNECTION, "cancelled")
            }),
        ),
        (
            "shut down while connecting",
            Box::new(move |netns| {
                let socket = connecting(netns, 20);
                socket.shutdown(Shutdown::Both).expect("shutdown while connecting");
                Expect::nothing().failed(NO_CONNECTION, "cancelled")
            }),
        ),
        (
            "a half-open request that the peer resets never becomes a socket",
            Box::new(move |netns| {
                let _listener = listener(netns);
                let mut peer = Peer::new(tun, 21, 2002, PORT);
                peer.say(SYN);
                peer.expect_flags("SYN-ACK", SYN | ACK);
                peer.say(RST);
                Expect::nothing().listener()
            }),
        ),
        (
            "data that nobody acknowledges times out",
            Box::new(move |netns| {
                let (client, _peer) = connected(netns, tun, 22);
                let socket = socket2::SockRef::from(&client);
                socket.set_tcp_user_timeout(Some(Duration::from_millis(300))).expect("TCP_USER_TIMEOUT");
                send(&client, b"lost");
                wait_state(&client, CLOSE);
                Expect::nothing().connection(Role::Client, CLIENT_RESET, "timeout")
            }),
        ),
    ];
    check_all(&mut watch, cases.map(|(name, life)| (name.to_owned(), life)));
}

/// Bounds of a handshake's duration as the peer saw it, and what the daemon's histogram must have added.
struct Timed {
    role: Role,
    /// From the last look before the first segment to the first look after the last one; seconds.
    at_least: f64,
    at_most: f64,
}

/// Plays a life whose handshake was timed from outside, and compares counts and duration.
fn check_timed(watch: &mut Watch, name: &str, life: impl Fn(&Netns) -> (Expect, Timed)) {
    let timed = std::sync::Mutex::new(None);
    let (wrong, delta) = watch.play_measuring(|netns| {
        let (expected, figures) = life(netns);
        *timed.lock().expect("no panic while locked") = Some(figures);
        expected
    });
    assert!(wrong.is_empty(), "{name}:\n    {}", wrong.join("\n    "));
    let Some(delta) = delta else { return };
    let timed = timed.into_inner().expect("no panic while locked").expect("played");
    let seconds = delta.sum("synfin_tcp_handshake_seconds_sum", &[&format!("role=\"{}\"", timed.role.label())]);
    // The kernel's sample is in whole microseconds.
    let (least, most) = (timed.at_least - 2e-6, timed.at_most + 2e-6);
    assert!(
        least <= seconds && seconds <= most,
        "{name}: {seconds} s, where the peer saw between {least} and {most} s"
    );
}

#[test]
fn a_late_final_ack_is_the_servers_handshake_time() {
    let mut watch = Watch::start(&[]);
    let tun = tun(&watch);
    check_timed(&mut watch, "final ACK 80 ms late", |netns| {
        let listener = listener(netns);
        let mut peer = Peer::new(&tun, 10, 2000, PORT);
        let outer = Instant::now();
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
        let inner = Instant::now();
        std::thread::sleep(LATE);
        let at_least = inner.elapsed().as_secs_f64();
        peer.say(ACK);
        let at_most = outer.elapsed().as_secs_f64();
        accepted_and_reset(&listener);
        (server_opened_and_reset().measured(Role::Server), Timed { role: Role::Server, at_least, at_most })
    });
}

#[test]
fn a_late_syn_ack_is_the_clients_handshake_time() {
    let mut watch = Watch::start(&[]);
    let tun = tun(&watch);
    check_timed(&mut watch, "SYN-ACK 80 ms late", |netns| {
        let outer = Instant::now();
        let socket = connecting(netns, 10);
        let mut peer = Peer::new(&tun, 10, PORT, 0);
        peer.expect_flags("SYN", SYN);
        let inner = Instant::now();
        std::thread::sleep(LATE);
        let at_least = inner.elapsed().as_secs_f64();
        peer.say(SYN | ACK);
        peer.expect_flags("final ACK", ACK);
        let at_most = outer.elapsed().as_secs_f64();
        reset(blocking(socket));
        (client_opened_and_reset().measured(Role::Client), Timed { role: Role::Client, at_least, at_most })
    });
}

#[test]
fn a_lost_syn_is_part_of_the_clients_handshake_time() {
    let mut watch = Watch::start(&[]);
    let tun = tun(&watch);
    check_timed(&mut watch, "first SYN lost", |netns| {
        let outer = Instant::now();
        let socket = connecting(netns, 10);
        let mut peer = Peer::new(&tun, 10, PORT, 0);
        peer.expect_flags("SYN", SYN);
        let inner = Instant::now();
        peer.expect_flags("second SYN", SYN);
        let at_least = inner.elapsed().as_secs_f64();
        peer.say(SYN | ACK);
        peer.expect_flags("final ACK", ACK);
        let at_most = outer.elapsed().as_secs_f64();
        assert!(at_least > 0.9, "the second SYN came after {at_least} s");
        reset(blocking(socket));
        let expected = client_opened_and_reset().measured(Role::Client).retransmits(Role::Client, 1);
        (expected, Timed { role: Role::Client, at_least, at_most })
    });
}

#[test]
fn a_lost_syn_ack_is_part_of_the_servers_handshake_time() {
    let mut watch = Watch::start(&[]);
    let tun = tun(&watch);
    check_timed(&mut watch, "first SYN-ACK lost", |netns| {
        let listener = listener(netns);
        let mut peer = Peer::new(&tun, 10, 2000, PORT);
        let outer = Instant::now();
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
        let inner = Instant::now();
        peer.expect_flags("second SYN-ACK", SYN | ACK);
        let at_least = inner.elapsed().as_secs_f64();
        peer.say(ACK);
        let at_most = outer.elapsed().as_secs_f64();
        assert!(at_least > 0.9, "the second SYN-ACK came after {at_least} s");
        accepted_and_reset(&listener);
        let expected = server_opened_and_reset().measured(Role::Server).retransmits(Role::Server, 1);
        (expected, Timed { role: Role::Server, at_least, at_most })
    });
}

#[test]
fn a_repeated_syn_makes_a_second_syn_ack_but_no_second_start() {
    let mut watch = Watch::start(&[]);
    let tun = tun(&watch);
    check_timed(&mut watch, "SYN repeated after 80 ms", |netns| {
        let listener = listener(netns);
        let mut peer = Peer::new(&tun, 10, 2000, PORT);
        let outer = Instant::now();
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
        let inner = Instant::now();
        std::thread::sleep(LATE);
        peer.say_syn_again();
        peer.expect_flags("second SYN-ACK", SYN | ACK);
        let at_least = inner.elapsed().as_secs_f64();
        peer.say(ACK);
        let at_most = outer.elapsed().as_secs_f64();
        accepted_and_reset(&listener);
        let expected = server_opened_and_reset().measured(Role::Server).retransmits(Role::Server, 1);
        (expected, Timed { role: Role::Server, at_least, at_most })
    });
}

#[test]
fn a_handshake_from_a_syn_cookie_has_no_duration() {
    let mut watch = Watch::start(&[]);
    let tun = &tun(&watch);
    watch.netns.sysctl("net.ipv4.tcp_syncookies", "2");
    let life = |port: u16, timestamps: bool| {
        move |netns: &Netns| {
            let listener = listener(netns);
            let peer = Peer::new(tun, 10, port, PORT);
            let mut peer = if timestamps { peer.with_timestamps() } else { peer };
            peer.open();
            accepted_and_reset(&listener);
            server_opened_and_reset().unmeasured(Role::Server, "syn_cookie")
        }
    };
    check_all(
        &mut watch,
        [
            ("cookie without timestamps".to_owned(), life(2000, false)),
            ("cookie with timestamps".to_owned(), life(2001, true)),
        ],
    );
}

#[test]
fn a_connect_that_nobody_answers_times_out_with_its_retransmissions() {
    let mut watch = Watch::start(&[]);
    let tun = &tun(&watch);
    watch.netns.sysctl("net.ipv4.tcp_syn_retries", "1");
    let life = |netns: &Netns| {
        let socket = connecting(netns, 10);
        let start = Instant::now();
        let stream = TcpStream::from(socket);
        while state(&stream) != CLOSE {
            assert!(start.elapsed() < Duration::from_secs(15), "the kernel still tries after 15 s");
            std::thread::sleep(Duration::from_millis(10));
        }
        let to_host_10 = |segment: &Segment| segment.is(SYN) && segment.destination.0 == number(place::tun_peer(10));
        let syns = std::iter::from_fn(|| tun.receive(Duration::ZERO)).filter(to_host_10).count() as u64;
        assert!(syns >= 2, "tcp_syn_retries=1 sent {syns} SYNs");
        Expect::nothing().failed(NO_CONNECTION, "timeout").retransmits(Role::Client, syns - 1)
    };
    check_all(&mut watch, [("nobody answers".to_owned(), life)]);
}

#[test]
fn a_flood_of_half_open_requests_is_in_the_gauge_as_ss_counts_it() {
    const SENDERS: u32 = 40;
    const PORTS: u16 = 250;
    // Requests last a minute: on a slow processor the flood must end before the first of them.
    const AT_MOST: Duration = Duration::from_secs(12);
    let netns = Netns::new();
    netns.sysctl("net.core.somaxconn", "30000");
    netns.sysctl("net.ipv4.tcp_max_syn_backlog", "30000");
    netns.sysctl("net.ipv4.tcp_syncookies", "0");
    let watch = Watch::start_in(netns, &[]);
    let tun = tun(&watch);
    let octet = place::octet();
    tun.route(&watch.netns, &format!("10.{octet}.1.0/24"));
    let here = SocketAddr::from((place::tun_here(), PORT));
    let _listener = watch.netns.run(|| listen_with(here, 30_000));
    let (start, mut sent) = (Instant::now(), 0);
    for sender in (0..SENDERS).take_while(|_| start.elapsed() < AT_MOST) {
        for port in 0..PORTS {
            let source = u32::from(std::net::Ipv4Addr::new(10, octet, 1, 0)) + 1 + sender;
            let destination = (number(place::tun_here()), PORT);
            let syn = Segment { source: (source, 1024 + port), destination, seq: 1, flags: SYN, ..Segment::default() };
            tun.send(&syn.encode());
        }
        tun.drain();
        sent += usize::from(PORTS);
    }
    assert_eq!(half_open(&watch.netns), sent, "the kernel keeps every request of the flood");
    if watch.observed.is_none() {
        return;
    }
    // A new connection: one that was idle during the flood may be closed.
    let page = lab::daemon::after_next_census(&mut lab::daemon::Scraper::connect(&watch.netns));
    let gauge = page.value("synfin_tcp_sockets{state=\"syn_recv\"}");
    assert_eq!(gauge as usize, half_open(&watch.netns), "synfin_tcp_sockets{{state=\"syn_recv\"}} against ss");
}

/// Half-open requests as `ss` counts them.
fn half_open(netns: &Netns) -> usize {
    netns.command("ss -tanH state syn-recv").lines().count()
}
