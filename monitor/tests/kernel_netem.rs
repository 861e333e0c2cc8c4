//! Handshakes over a network that delays and loses packets, beside a packet capture of the same connections on both hosts.
//!
//! No tolerance is chosen: what the daemon says must lie between two times that are on the wire. At least, a handshake took
//! from the first SYN (SYN-ACK) that left to the SYN-ACK (ACK) that ended it; at most, from what came before the kernel began
//! to count to what the kernel sent after it had ended. Needs `sch_netem`; `cargo xtask vm` runs it on kernels that have it.

mod lab;

use lab::capture::{self, Capture, Seen};
use lab::daemon::{Daemon, Scraper};
use lab::expect::Role;
use lab::network::{DEVICE, Network};
use lab::packet::{ACK, SYN};
use lab::page::Page;
use lab::sockets::{listen, read_to_end, send, socket};
use lab::trace::Trace;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

const PORT: u16 = 4000;
/// Connections at a time, and how many each thread makes in a row.
const CLIENTS: usize = 30;
const EACH: usize = 10;
const COOKIES: usize = 20;
/// Of 300 handshakes some 12 lose one of their packets; that none does on a side happens once in 100,000 runs.
const LOSSY: &str = "delay 50ms loss 2%";
const LATE: &str = "delay 50ms";
/// The kernel's own sample of a round trip is in whole microseconds.
const ROUNDING_NS: u64 = 1_000;
/// The kernel skips a probe that would interrupt itself on its processor, which an emulated one makes likelier: so many
/// connections may lack a figure, and must be counted as unmeasured.
const WITHHELD: usize = CLIENTS * EACH / 50;
/// A quarter of the delay: the two bounds must be closer together than that for half of the handshakes.
const SHARP_NS: u64 = 25_000_000;

/// A handshake as one host saw it; nanoseconds.
#[derive(Debug)]
struct Handshake {
    at_least: u64,
    at_most: u64,
    /// SYNs or SYN-ACKs after the first.
    repeated: u64,
    /// Segments of any kind that this host sent again.
    retransmits: u64,
}

/// One side of the comparison: a host, what watched it, and what passed its device.
struct Side {
    role: Role,
    daemon: Daemon,
    scraper: Scraper,
    before: Page,
    trace: Trace,
    capture: Capture,
}

impl Side {
    fn start(role: Role, network: &Network) -> Self {
        let netns = if role == Role::Client { &network.client } else { &network.server };
        let trace = Trace::start(netns, PORT);
        let daemon = Daemon::start(netns, &["--socket", ""]);
        let mut scraper = Scraper::connect(netns);
        let before = scraper.scrape();
        Self { role, daemon, scraper, before, trace, capture: Capture::start(netns, DEVICE) }
    }

    /// Compares all there is about `count` connections; `begun` says when connect() was called, by the client's port.
    fn judge(mut self, count: usize, begun: &BTreeMap<u16, u64>) {
        let delta = self.await_opened(count);
        let role = self.role;
        let lines = self.trace.settled(PORT, count);
        let wire = handshakes(role, &self.capture.finish(), begun);
        assert_eq!(wire.len(), count, "{role:?}: connections in the capture");

        let mut excess = Vec::new();
        for line in &lines {
            let port = if role == Role::Client { &line["sport"] } else { &line["dport"] };
            let seen = &wire[&(port.as_u64().expect("a port") as u16)];
            let Some(measured) = line["handshake_ns"].as_u64() else { continue };
            assert!(
                seen.at_least <= measured + ROUNDING_NS && measured <= seen.at_most,
                "{role:?}: {measured} ns, and on the wire {seen:?}: {line}"
            );
            assert_eq!(line["retransmits"], seen.retransmits, "{role:?}: on the wire {seen:?}: {line}");
            excess.push(measured.saturating_sub(seen.at_least));
        }
        assert!(excess.len() + WITHHELD >= count, "{role:?}: {} of {count} in the trace, measured", excess.len());
        compare_page(role, &delta, &self.before, &self.scraper.scrape(), &wire);

        let mut width: Vec<u64> = wire.values().map(|seen| seen.at_most - seen.at_least).collect();
        let repeated: u64 = wire.values().map(|seen| seen.repeated).sum();
        let slowest = wire.values().map(|seen| seen.at_least).max().unwrap_or_default();
        say(&format!(
            "{role:?}: {count} handshakes, {} of them in the trace, {repeated} SYNs or SYN-ACKs again, slowest {:.3} s; \
             the trace over the capture: {:.3} ms (median), {:.3} ms (most); bounds {:.3} ms apart (median)",
            excess.len(),
            slowest as f64 / 1e9,
            median(&mut excess) as f64 / 1e6,
            excess.last().copied().unwrap_or_default() as f64 / 1e6,
            median(&mut width) as f64 / 1e6,
        ));
        assert!(repeated > 0, "{role:?}: nothing was lost, so nothing is proven");
        assert!(median(&mut width) < SHARP_NS, "{role:?}: the machine is too slow for sharp bounds: {width:?}");
        self.daemon.stop();
    }

    /// What the page gained, once it has all connections.
    fn await_opened(&mut self, count: usize) -> Page {
        let (before, scraper) = (&self.before, &mut self.scraper);
        let opened = format!("synfin_tcp_connections_opened_total{{role=\"{}\"}}", self.role.label());
        let mut delta = Page::default();
        lab::wait_until("all connections on the page", Duration::from_secs(20), || {
            delta = scraper.scrape().since(before);
            delta.0.get(&opened).is_some_and(|opened| *opened >= count as f64)
        });
        assert_eq!(delta.value(&opened), count as f64);
        delta
    }
}

/// Sum, buckets, retransmissions and the count of what was not measured, beside the wire.
fn compare_page(role: Role, delta: &Page, before: &Page, after: &Page, wire: &BTreeMap<u16, Handshake>) {
    let label = role.label();
    let gained = |metric: &str| delta.sum(metric, &[&format!("role=\"{label}\"")]);
    let unmeasured = gained("synfin_tcp_handshake_unmeasured_total");
    let lost = delta.sum("synfin_tcp_handshake_unmeasured_total", &[&format!("role=\"{label}\""), "\"event_lost\""]);
    assert!(unmeasured == lost && lost <= WITHHELD as f64, "{role:?}: {unmeasured} unmeasured, {lost} for lost events");
    assert_eq!(gained("synfin_tcp_handshake_seconds_count") + unmeasured, wire.len() as f64, "{role:?}: all counted");

    let repeated = sums(wire, unmeasured, |seen| seen.repeated);
    let retransmits = gained("synfin_tcp_handshake_retransmits_total") as u64;
    assert!(repeated.contains(&retransmits), "{role:?}: {retransmits} retransmissions, {repeated:?} on the wire");

    let (least, most) = (sums(wire, unmeasured, |seen| seen.at_least), sums(wire, 0.0, |seen| seen.at_most));
    let sum = (gained("synfin_tcp_handshake_seconds_sum") * 1e9) as u64;
    let rounding = ROUNDING_NS * wire.len() as u64;
    assert!(
        *least.start() <= sum + rounding && sum <= most.end() + rounding,
        "{role:?}: {sum} ns together, on the wire {least:?} to {most:?}"
    );

    let prefix = "synfin_tcp_handshake_seconds_bucket{le=\"";
    for (series, value) in after.0.iter().filter(|(series, _)| series.contains(&format!("role=\"{label}\""))) {
        let Some(bound) = series.strip_prefix(prefix).and_then(|rest| rest.split('"').next()) else { continue };
        let bound: f64 = bound.replace("+Inf", "inf").parse().expect("a bound in seconds");
        let below =
            |of: fn(&Handshake) -> u64| wire.values().filter(|seen| of(seen) as f64 / 1e9 <= bound).count() as f64;
        let (least, most) = (below(|seen| seen.at_most), below(|seen| seen.at_least.saturating_sub(ROUNDING_NS)));
        let bucket = value - before.value(series);
        assert!(least - unmeasured <= bucket && bucket <= most, "{series}: {bucket}, on the wire {least} to {most}");
    }
}

/// The sum over all connections, and from what on it is right when so many of them are missing.
fn sums(wire: &BTreeMap<u16, Handshake>, missing: f64, of: fn(&Handshake) -> u64) -> RangeInclusive<u64> {
    let mut each: Vec<u64> = wire.values().map(of).collect();
    each.sort_unstable();
    each[..each.len() - missing as usize].iter().sum()..=each.iter().sum()
}

/// Every handshake of the capture, by the client's port.
fn handshakes(role: Role, seen: &[Seen], begun: &BTreeMap<u16, u64>) -> BTreeMap<u16, Handshake> {
    let mut flows: BTreeMap<u16, Vec<&Seen>> = BTreeMap::new();
    for one in seen {
        let (here, there) = (one.segment.source.1, one.segment.destination.1);
        let port = if here == PORT { there } else { here };
        flows.entry(port).or_default().push(one);
    }
    flows.iter().map(|(port, flow)| (*port, handshake(role, *port, flow, begun))).collect()
}

fn handshake(role: Role, port: u16, flow: &[&Seen], begun: &BTreeMap<u16, u64>) -> Handshake {
    // What this host sends until it has the answer, and that answer.
    let (question, answer) = match role {
        Role::Client => (SYN, SYN | ACK),
        Role::Server | Role::Unknown => (SYN | ACK, ACK),
    };
    let is = |one: &Seen, flags: u8| one.segment.flags & (SYN | ACK) == flags;
    let after = |from: usize, what: &str, wanted: &dyn Fn(&Seen) -> bool| {
        let found = flow[from..].iter().position(|one| wanted(one));
        from + found.unwrap_or_else(|| panic!("{role:?}, port {port}: no {what} in {flow:#?}"))
    };
    let first = after(0, "question", &|one| one.outgoing && is(one, question));
    let end = after(first, "answer", &|one| !one.outgoing && is(one, answer));
    // The connection is open when the kernel sends anything else.
    let next = after(end, "segment after the handshake", &|one| one.outgoing && is(one, ACK));
    let start = match role {
        Role::Client => begun[&port],
        // The SYN came before its SYN-ACK was made.
        Role::Server | Role::Unknown => flow[0].at,
    };
    Handshake {
        at_least: flow[end].at - flow[first].at,
        at_most: flow[next].at - start,
        repeated: flow.iter().filter(|one| one.outgoing && is(one, question)).count() as u64 - 1,
        retransmits: retransmits(flow),
    }
}

/// Outgoing segments that repeat sequence numbers which have been sent.
fn retransmits(flow: &[&Seen]) -> u64 {
    let mut sent: Option<u32> = None;
    let mut repeated = 0;
    for one in flow.iter().filter(|one| one.outgoing && one.segment.length() > 0) {
        let end = one.segment.seq.wrapping_add(one.segment.length());
        let is_new = |sent: u32| one.segment.seq.wrapping_sub(sent) < 1 << 31;
        if sent.is_none_or(is_new) {
            sent = Some(end);
        } else {
            repeated += 1;
        }
    }
    repeated
}

/// A line that is shown though the test passes: libtest keeps back what the macros print.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn server() -> SocketAddr {
    SocketAddr::from((Network::server_address(), PORT))
}

/// Accepts, says one byte so that something follows the handshake at once, and follows the client's close.
fn serve(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        send(&stream, b".");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a constant time");
        read_to_end(&stream);
    }
}

/// Makes `each` connections in a row from each of `clients` threads; returns when connect() was called, by local port.
fn connect_all(network: &Network, clients: usize, each: usize) -> BTreeMap<u16, u64> {
    let listener = network.server.run(|| listen(server()));
    let begun = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        // Twice as many as clients: the end of one connection does not delay the next one.
        let servers: Vec<_> = (0..2 * clients).map(|_| scope.spawn(|| serve(&listener))).collect();
        let connect_some = || {
            network.client.enter();
            for _ in 0..each {
                let socket = socket(server());
                let before = capture::now();
                socket.connect(&server().into()).expect("one of the SYNs arrives");
                let stream = TcpStream::from(socket);
                let port = stream.local_addr().expect("a connected socket").port();
                let unique = begun.lock().expect("no panic while locked").insert(port, before).is_none();
                assert!(unique, "port {port} a second time");
                stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a constant time");
                assert_eq!(stream.peek(&mut [0]).expect("the server's byte"), 1);
                // Read, or the close would be a reset.
                std::io::Read::read_exact(&mut &stream, &mut [0]).expect("what was peeked at");
            }
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(connect_some)).collect();
        clients.into_iter().for_each(|client| client.join().expect("a client"));
        // accept() of the servers fails from now on.
        socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both).expect("shutdown of a listener");
        servers.into_iter().for_each(|server| server.join().expect("a server"));
    });
    begun.into_inner().expect("no panic while locked")
}

#[test]
fn handshakes_over_a_lossy_network_last_as_long_as_on_the_wire() {
    let network = Network::new();
    if let Err(why) = network.impair(LOSSY) {
        say(&format!("not applicable: {why}"));
        return;
    }
    let sides = [Role::Client, Role::Server].map(|role| Side::start(role, &network));
    let begun = connect_all(&network, CLIENTS, EACH);
    for side in sides {
        side.judge(CLIENTS * EACH, &begun);
    }
}

#[test]
fn handshakes_from_cookies_are_counted_as_unmeasured() {
    let network = Network::new();
    if let Err(why) = network.impair(LATE) {
        say(&format!("not applicable: {why}"));
        return;
    }
    network.server.sysctl("net.ipv4.tcp_syncookies", "2");
    let daemon = Daemon::start(&network.server, &["--socket", ""]);
    let mut scraper = Scraper::connect(&network.server);
    let before = scraper.scrape();
    connect_all(&network, COOKIES, 1);
    let mut delta = Page::default();
    lab::wait_until("all connections on the page", Duration::from_secs(20), || {
        delta = scraper.scrape().since(&before);
        delta.sum("synfin_tcp_connections_opened_total", &["role=\"server\""]) >= COOKIES as f64
    });
    let unmeasured = "synfin_tcp_handshake_unmeasured_total{reason=\"syn_cookie\",role=\"server\"}";
    assert_eq!(delta.value(unmeasured), COOKIES as f64, "{delta:#?}");
    assert_eq!(delta.sum("synfin_tcp_handshake_seconds_count", &["role=\"server\""]), 0.0);
    daemon.stop();
}
