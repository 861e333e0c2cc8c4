//! The walk over the kernel's socket tables, socket by socket beside `/proc/net/tcp` and `/proc/net/tcp6`.

mod lab;

use lab::netns::Netns;
use lab::packet::{ACK, SYN};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::record::Recorder;
use lab::sockets::*;
use lab::tun::Tun;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use synfin::census::{Found, Kind};
use synfin::event::{Endpoint, TcpState, mapped};
use synfin::kernel::Way;

const PORT: u16 = 4000;
/// TIME_WAIT, and the default of tcp_fin_timeout (include/net/tcp.h, TCP_TIMEWAIT_LEN).
const MINUTE_MS: u32 = 60_000;

/// One socket as both sources can tell it: state by the kernel's number, a request as SYN_RECV.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    source: Endpoint,
    destination: Endpoint,
    state: u8,
}

fn row_of(found: &Found) -> Row {
    let state = match found.kind {
        Kind::Full { state, .. } => state,
        Kind::Waiting { substate, .. } => substate,
        Kind::Request { .. } => TcpState::SynRecv,
    };
    Row { source: found.tuple.source(), destination: found.tuple.destination(), state: state as u8 }
}

/// The lines of `/proc/net/tcp` and `tcp6`, and for each what is left of its timer in milliseconds.
fn read_proc(netns: &Netns) -> Vec<(Row, u32)> {
    let text = netns.proc("net/tcp") + &netns.proc("net/tcp6");
    text.lines().filter(|line| !line.contains("local_address")).map(parse_line).collect()
}

/// `sl local remote st tx:rx timer:when …`, addresses as words of this machine's order, `when` in hundredths of a second.
fn parse_line(line: &str) -> (Row, u32) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let hex = |text: &str| u32::from_str_radix(text, 16).unwrap_or_else(|_| panic!("a number in hex: {line}"));
    let endpoint = |text: &str| {
        let (addr, port) = text.split_once(':').expect("address:port");
        let bytes: Vec<u8> = (0..addr.len() / 8).flat_map(|word| hex(&addr[word * 8..][..8]).to_ne_bytes()).collect();
        let addr = match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(v6) => v6,
            Err(_) => mapped(<[u8; 4]>::try_from(bytes.as_slice()).expect("four bytes").into()),
        };
        Endpoint { addr, port: hex(port) as u16 }
    };
    let (_, when) = words[5].split_once(':').expect("timer:when");
    (Row { source: endpoint(words[1]), destination: endpoint(words[2]), state: hex(words[3]) as u8 }, hex(when) * 10)
}

/// Sockets of every shape that stays as it is without help.
struct Population {
    _held: Vec<std::net::TcpStream>,
    _listeners: Vec<std::net::TcpListener>,
    waiting: SocketAddrV4,
    half_open: SocketAddrV4,
}

fn populate(netns: &Netns, tun: &Tun) -> Population {
    let (mut held, mut listeners) = (Vec::new(), Vec::new());
    let waiting = SocketAddrV4::new(Ipv4Addr::new(127, place::octet(), 0, 1), PORT + 8);
    let half_open = SocketAddrV4::new(place::tun_here(), PORT);
    netns.run(|| {
        for family in [Family::V4, Family::V6, Family::Mapped] {
            // One port a family, since a mapped listener takes the IPv4 port.
            let listener = listen(family.loopback(1, PORT + family as u16));
            let (client, server) = pair(&listener);
            held.extend([client, server]);
            let (client, server) = pair(&listener);
            half_close(&client);
            wait_state(&client, FIN_WAIT2);
            held.extend([client, server]);
            let (client, server) = pair(&listener);
            drop(client);
            held.push(server);
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
            listeners.push(listener);
        }
        listeners.push(listen_with(waiting.into(), 5));
        held.extend([(); 2].map(|()| connect(waiting.into())));
        listeners.push(listen(half_open.into()));
    });
    for host in 2..5 {
        let mut peer = Peer::new(tun, host, 5000, PORT);
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
    }
    Population { _held: held, _listeners: listeners, waiting, half_open }
}

#[test]
fn the_walk_finds_what_proc_shows_and_more_of_each() {
    let netns = Netns::new();
    netns.ip(&format!("-6 addr add {}/128 dev lo", Family::V6.loopback(1, 0).ip()));
    let tun = Tun::new(&netns);
    let recorder = Recorder::start(&netns, Way::Btf);
    let population = populate(&netns, &tun);
    // Closed connections settle, and the first retransmissions of SYN-ACKs are seconds away.
    std::thread::sleep(Duration::from_millis(300));
    let found = recorder.census(&netns);
    let proc = read_proc(&netns);

    let mut walked: Vec<Row> = found.iter().map(row_of).collect();
    let mut shown: Vec<Row> = proc.iter().map(|(row, _)| row.clone()).collect();
    walked.sort();
    shown.sort();
    assert_eq!(walked, shown);
    let count = |wanted: u8| walked.iter().filter(|row| row.state == wanted).count();
    // Of three families each; the server of a whole life is gone, its client waits.
    assert_eq!([1, 5, 6, 8, 10, 3].map(count), [6 + 4, 3 + 3, 3, 3 + 3, 5, 3], "{walked:#?}");

    check_remaining(&found, &proc);
    check_listeners(&found, &population);
}

/// What is left of TIME_WAIT, beside what proc says and beside a whole minute.
fn check_remaining(found: &[Found], proc: &[(Row, u32)]) {
    let mut waiting = 0;
    for socket in found {
        let Kind::Waiting { remaining_ms, .. } = socket.kind else { continue };
        let row = row_of(socket);
        let (_, shown) = proc.iter().find(|(shown, _)| *shown == row).expect("compared above");
        assert!(remaining_ms.abs_diff(*shown) <= 1000, "{row:?}: {remaining_ms} ms, proc {shown} ms");
        assert!((MINUTE_MS - 20_000..=MINUTE_MS + 1000).contains(&remaining_ms), "{row:?}: {remaining_ms} ms");
        waiting += 1;
    }
    assert!(waiting >= 3, "{found:#?}");
}

fn check_listeners(found: &[Found], population: &Population) {
    let listener = |address: SocketAddrV4| {
        let at = Endpoint { addr: mapped(*address.ip()), port: address.port() };
        let of_address = |socket: &&Found| {
            matches!(socket.kind, Kind::Full { state: TcpState::Listen, .. }) && socket.tuple.source() == at
        };
        *found.iter().find(of_address).expect("the listener")
    };
    let Kind::Full { backlog, backlog_limit, .. } = listener(population.waiting).kind else { unreachable!() };
    assert_eq!((backlog, backlog_limit), (2, 5));
    let half_open = listener(population.half_open).socket;
    let requests = found.iter().filter(|socket| match socket.kind {
        Kind::Request { listener, retransmits } => listener == half_open && retransmits == 0,
        Kind::Full { .. } | Kind::Waiting { .. } => false,
    });
    assert_eq!(requests.count(), 3, "{found:#?}");
    let unheld = found
        .iter()
        .filter(|socket| matches!(socket.kind, Kind::Full { state: TcpState::Established, unheld: true, .. }));
    assert_eq!(unheld.count(), 2, "not accepted yet");
}
