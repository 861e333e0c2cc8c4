//! How TIME_WAIT ends: each cause provoked for real and counted exactly, beside the figures derived in the same run.
//!
//! Where the kernel refuses programs at its functions, the same lives prove the derived figures. Needs no daemon; `cargo
//! xtask vm` runs it on other kernels.

mod lab;

use lab::destroy::destroy;
use lab::netns::Netns;
use lab::packet::{ACK, FIN};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::session::Driven;
use lab::sockets::*;
use lab::tun::Tun;
use lab::{tables, wait_until};
use socket2::SockAddr;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synfin::aggregate::Leave;
use synfin::census::{self, Kind};
use synfin::config::{self, Flags};
use synfin::event::TcpState;
use synfin::host::read_release;
use synfin::kernel::preflight::{Verdict, assess, read_facts, read_trials};
use synfin::kernel::{self, LoadOptions, Way};
use synfin_ebpf::abi::Ends;
use synfin_ebpf::abi::ends::{cause, substate};

/// Of the first listener; each life has listeners of its own, so that none meets another's TIME_WAIT sockets.
const PORT: u16 = 4000;
/// TIME_WAIT lasts a minute; its timer may be late by an eighth of that.
const MINUTE: Duration = Duration::from_secs(75);

/// A namespace that is watched twice: by cause, and by what can be derived without.
struct Lab {
    netns: Netns,
    tun: Tun,
    by_cause: Driven,
    derived: Driven,
    port: u16,
    overflows_at_start: u64,
}

/// What has been counted up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    /// `None` where the kernel refuses the programs.
    ends: Option<Ends>,
    /// By [`Leave`].
    left: [u64; Leave::COUNT],
    derived: [u64; Leave::COUNT],
    entered: u64,
    overflows: u64,
    recycled: u64,
}

impl Lab {
    fn new() -> Self {
        let netns = Netns::new();
        netns.ip(&format!("-6 addr add {}/128 dev lo", Family::V6.loopback(1, 0).ip()));
        // By default connect() takes TIME_WAIT sockets over on loopback.
        netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
        let tun = Tun::new(&netns);
        let by_cause = Driven::start(&netns, None);
        let derived = Driven::start(&netns, Some(Way::Btf));
        let overflows_at_start = tables::netstat(&netns, "TCPTimeWaitOverflow");
        Self { netns, tun, by_cause, derived, port: PORT, overflows_at_start }
    }

    fn listener(&mut self, family: Family) -> TcpListener {
        self.port += 1;
        let address = family.loopback(1, self.port);
        self.netns.run(|| listen(address))
    }

    fn ends(&self) -> Option<Ends> {
        self.by_cause.session().probes().ends().map(|ends| ends.expect("the counts"))
    }

    fn figures(&self) -> Figures {
        let (by_cause, derived) = (self.by_cause.settled(&self.netns), self.derived.settled(&self.netns));
        let entered = &derived.figures.time_wait.entered;
        Figures {
            ends: self.ends(),
            left: by_cause.figures.time_wait.left,
            derived: derived.figures.time_wait.left,
            entered: entered.iter().flat_map(|(_, by_role)| by_role).sum(),
            overflows: by_cause.figures.time_wait.overflows.expect("TCPTimeWaitOverflow"),
            recycled: tables::netstat(&self.netns, "TWRecycled"),
        }
    }

    fn sockstat(&self) -> u64 {
        tables::sockstat_tw(&self.netns)
    }

    fn wait_small(&self, what: &str, limit: Duration, wanted: u64) {
        wait_until(what, limit, || self.sockstat() == wanted);
    }

    /// `count` connections whose clients close first and end in TIME_WAIT: the ends of the clients.
    fn time_wait(&self, listener: &TcpListener, count: usize) -> Vec<SocketAddr> {
        let one = || {
            let (client, server) = reusable_pair(listener, None);
            let here = client.local_addr().expect("a connected socket");
            enter_time_wait(client, server);
            here
        };
        self.netns.run(|| (0..count).map(|_| one()).collect())
    }

    /// `count` connections whose clients have closed and whose servers have not: the servers.
    fn fin_wait2(&self, listener: &TcpListener, count: usize) -> Vec<TcpStream> {
        let before = self.sockstat();
        let servers = self.netns.run(|| (0..count).map(|_| pair(listener).1).collect());
        self.wait_small("small sockets in FIN_WAIT2", Duration::from_secs(5), before + count as u64);
        servers
    }
}

/// A connection whose client, from `source` if that matters, lets its port be used again.
fn reusable_pair(listener: &TcpListener, source: Option<SocketAddr>) -> (TcpStream, TcpStream) {
    let destination = listener.local_addr().expect("a bound listener");
    let client = socket(destination);
    client.set_reuse_address(true).expect("SO_REUSEADDR");
    if let Some(source) = source {
        client.bind(&SockAddr::from(source)).unwrap_or_else(|error| panic!("bind {source}: {error}"));
    }
    client.connect(&SockAddr::from(destination)).unwrap_or_else(|error| panic!("connect {destination}: {error}"));
    (client.into(), listener.accept().expect("accept").0)
}

/// The first stream closes first, while its socket is still held: it goes to TIME_WAIT in one step.
fn enter_time_wait(first: TcpStream, second: TcpStream) {
    half_close(&first);
    wait_state(&first, FIN_WAIT2);
    drop(second);
    wait_state(&first, CLOSE);
}

/// What a life must have been counted as: made in FIN_WAIT2 and in TIME_WAIT, turned, and so on.
#[derive(Clone, Copy, Default)]
struct Expected(Ends);

impl Expected {
    fn made(mut self, fin_wait2: u64, time_wait: u64) -> Self {
        self.0.made = [fin_wait2, time_wait];
        self
    }

    fn turned(mut self, count: u64) -> Self {
        self.0.turned = count;
        self
    }

    fn refused(mut self, count: u64) -> Self {
        self.0.refused = count;
        self
    }

    fn left(mut self, substate: usize, cause: usize, count: u64) -> Self {
        self.0.left[substate][cause] = count;
        self
    }

    /// TIME_WAIT sockets that left, by what `Leave` the page must show.
    fn leaves(&self, by_cause: bool) -> [u64; Leave::COUNT] {
        let left = &self.0.left[substate::TIME_WAIT];
        let mut leaves = [0; Leave::COUNT];
        for (cause, count) in left.iter().enumerate() {
            let leave = match cause {
                cause::EXPIRED => Leave::Expired,
                cause::REUSED => Leave::Reused,
                _ if !by_cause => Leave::Unknown,
                cause::REPLACED => Leave::Replaced,
                cause::RESET => Leave::Reset,
                cause::EVICTED => Leave::Evicted,
                cause::PURGED => Leave::Purged,
                _ => Leave::Unknown,
            };
            leaves[leave.index()] += count;
        }
        leaves
    }
}

fn minus(now: &[u64], before: &[u64]) -> Vec<u64> {
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}

fn ends_since(now: Ends, before: Ends) -> Ends {
    let array = |now: [u64; cause::COUNT], before: [u64; cause::COUNT]| std::array::from_fn(|n| now[n] - before[n]);
    Ends {
        made: [now.made[0] - before.made[0], now.made[1] - before.made[1]],
        turned: now.turned - before.turned,
        refused: now.refused - before.refused,
        left: [array(now.left[0], before.left[0]), array(now.left[1], before.left[1])],
    }
}

/// Plays a life and compares all that was counted with what it says it did.
fn check(lab: &mut Lab, name: &str, life: impl FnOnce(&mut Lab) -> Expected) {
    let before = lab.figures();
    let started = Instant::now();
    let expected = life(lab);
    let now = lab.figures();
    eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    if let (Some(now), Some(before)) = (now.ends, before.ends) {
        assert_eq!(ends_since(now, before), expected.0, "{name}: by cause");
    }
    let left = |by_cause| expected.leaves(by_cause).to_vec();
    assert_eq!(minus(&now.left, &before.left), left(now.ends.is_some()), "{name}: on the page, {now:?}");
    assert_eq!(minus(&now.derived, &before.derived), left(false), "{name}: derived, {now:?}");
    assert_eq!(
        now.entered - before.entered,
        expected.0.made[substate::TIME_WAIT] + expected.0.turned,
        "{name}: entered"
    );
    let reused =
        expected.0.left[substate::FIN_WAIT2][cause::REUSED] + expected.0.left[substate::TIME_WAIT][cause::REUSED];
    assert_eq!(now.recycled - before.recycled, reused, "{name}: TWRecycled");
    assert_eq!(now.overflows - before.overflows, expected.0.refused, "{name}: overflows");
}

/// Whether this kernel must allow it: those that `cargo xtask vm` boots do.
fn must_count_by_cause() -> bool {
    read_release().is_ok_and(|release| release.ends_with("-amd64"))
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn each_end_counts_by_its_cause_and_the_derived_figures_agree() {
    let mut lab = Lab::new();
    let by_cause = lab.ends().is_some();
    assert!(by_cause || !must_count_by_cause(), "{:?}", lab.by_cause.session().probes().attempts());
    assert!(lab.derived.session().probes().ends().is_none(), "derived, so that there is something to compare with");
    if !by_cause {
        check_refusal(&lab);
    }
    let lab = &mut lab;
    check(lab, "nothing", |_| Expected::default());
    for family in FAMILIES {
        let name = |life: &str| format!("{life}, {family:?}");
        check(lab, &name("closed in order"), |lab| closed_in_order(lab, family));
        check(lab, &name("expired in FIN_WAIT2"), |lab| expired_in_fin_wait2(lab, family));
        check(lab, &name("reused by connect"), |lab| reused(lab, family));
        check(lab, &name("replaced by a new SYN"), |lab| replaced(lab, family));
        check(lab, &name("data after close"), |lab| data_after_close(lab, family));
        check(lab, &name("ended on request"), |lab| ended_on_request(lab, family));
        check(lab, &name("no room"), |lab| refused(lab, family));
    }
    check(lab, "a reset in TIME_WAIT", reset_in_time_wait);
    check(lab, "a reset in FIN_WAIT2", reset_in_fin_wait2);
    check_overflows(lab);
    if by_cause {
        check(lab, "after a minute", the_rest_expires);
    }
}

/// One line says that the programs are refused and why.
fn check_refusal(lab: &Lab) {
    let session = lab.by_cause.session();
    let attempts = session.probes().attempts().iter().filter(|attempt| attempt.probe == "inet_twsk_kill");
    let results: Vec<_> = attempts.map(|attempt| (attempt.kind, attempt.result.clone())).collect();
    let [("fentry", Some(Err(reason)))] = results.as_slice() else { panic!("{results:?}") };
    assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
    eprintln!("not by cause on this kernel: {reason}");
}

fn check_overflows(lab: &Lab) {
    let counted = tables::netstat(&lab.netns, "TCPTimeWaitOverflow");
    assert_eq!(lab.figures().overflows, counted, "the series is the kernel's own counter");
    if let Some(ends) = lab.ends() {
        assert_eq!(ends.refused, counted - lab.overflows_at_start, "all that were refused");
    }
}

fn closed_in_order(lab: &mut Lab, family: Family) -> Expected {
    let listener = lab.listener(family);
    drop(lab.fin_wait2(&listener, 4));
    lab.time_wait(&listener, 3);
    Expected::default().made(4, 3).turned(4)
}

fn expired_in_fin_wait2(lab: &mut Lab, family: Family) -> Expected {
    lab.netns.sysctl("net.ipv4.tcp_fin_timeout", "1");
    let listener = lab.listener(family);
    let before = lab.sockstat();
    let servers = lab.fin_wait2(&listener, 5);
    lab.wait_small("FIN_WAIT2 is over", Duration::from_secs(20), before);
    lab.netns.sysctl("net.ipv4.tcp_fin_timeout", "60");
    drop(servers);
    Expected::default().made(5, 0).left(substate::FIN_WAIT2, cause::EXPIRED, 5)
}

/// By connect() that searches for a port, and by one that has its port.
fn reused(lab: &mut Lab, family: Family) -> Expected {
    let first = 40_000 + 100 * family as u16;
    lab.netns.sysctl("net.ipv4.ip_local_port_range", &format!("{first} {}", first + 9));
    let listener = lab.listener(family);
    let mut waiting = lab.time_wait(&listener, 10);
    // A second must pass before the kernel gives a port away.
    std::thread::sleep(Duration::from_millis(1300));
    lab.netns.sysctl("net.ipv4.tcp_tw_reuse", "1");
    let held = lab.netns.run(|| {
        let mut held: Vec<_> = (0..4).map(|_| pair(&listener)).collect();
        waiting.retain(|free| held.iter().all(|(client, _)| client.local_addr().expect("connected") != *free));
        held.push(reusable_pair(&listener, waiting.first().copied()));
        held
    });
    held.into_iter().for_each(|(client, _)| reset(client));
    lab.netns.sysctl("net.ipv4.ip_local_port_range", "32768 60999");
    lab.netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
    Expected::default().made(0, 10).left(substate::TIME_WAIT, cause::REUSED, 5)
}

/// The server waits, and the same client port comes again.
fn replaced(lab: &mut Lab, family: Family) -> Expected {
    let listener = lab.listener(family);
    let clients = [35_001, 35_002, 35_003].map(|port| family.loopback(1, port));
    lab.netns.run(|| {
        for source in clients {
            let (client, server) = reusable_pair(&listener, Some(source));
            enter_time_wait(server, client);
        }
        // Its timestamp must be later.
        std::thread::sleep(Duration::from_millis(50));
        for source in clients {
            reset(reusable_pair(&listener, Some(source)).0);
        }
    });
    Expected::default().made(0, 3).left(substate::TIME_WAIT, cause::REPLACED, 3)
}

/// The kernel answers with a reset, and its own socket ends.
fn data_after_close(lab: &mut Lab, family: Family) -> Expected {
    let listener = lab.listener(family);
    let servers = lab.fin_wait2(&listener, 3);
    for server in &servers {
        send(server, b"late");
        wait_state(server, CLOSE);
    }
    Expected::default().made(3, 0).left(substate::FIN_WAIT2, cause::RESET, 3)
}

fn ended_on_request(lab: &mut Lab, family: Family) -> Expected {
    let listener = lab.listener(family);
    let destination = listener.local_addr().expect("a bound listener");
    let waiting = lab.time_wait(&listener, 4);
    let results: Vec<_> =
        waiting.iter().take(3).map(|source| destroy(&lab.netns, *source, destination).map_err(|e| e.kind())).collect();
    let ended = results.iter().filter(|result| result.is_ok()).count();
    let expected = Expected::default().made(0, 4).left(substate::TIME_WAIT, cause::EVICTED, ended as u64);
    if ended == 0 {
        assert_eq!(results, [Err(ErrorKind::Unsupported); 3], "this kernel ends none of them");
        let release = read_release().unwrap_or_default();
        assert!(!must_count_by_cause() || release.starts_with("5."), "{release} ends TIME_WAIT on request");
        eprintln!("Linux {release} ends no TIME_WAIT socket on request");
    } else {
        assert_eq!(results, [Ok(()); 3]);
    }
    expected
}

fn refused(lab: &mut Lab, family: Family) -> Expected {
    let listener = lab.listener(family);
    lab.netns.sysctl("net.ipv4.tcp_max_tw_buckets", &(lab.sockstat() + 2).to_string());
    lab.time_wait(&listener, 6);
    lab.netns.sysctl("net.ipv4.tcp_max_tw_buckets", "100000");
    Expected::default().made(0, 2).refused(4)
}

/// A peer of our own, connected to a socket of the kernel that has closed; the peer has acknowledged that.
fn closed_towards<'a>(netns: &Netns, tun: &'a Tun, listener: &TcpListener, host: u8) -> Peer<'a> {
    let port = listener.local_addr().expect("a bound listener").port();
    let mut peer = Peer::new(tun, host, 2000, port);
    peer.open();
    drop(netns.run(|| listener.accept().expect("accept")));
    peer.expect("FIN", |segment| segment.has(FIN));
    peer.say(ACK);
    peer
}

fn tun_listener(lab: &mut Lab) -> TcpListener {
    lab.port += 1;
    let address = SocketAddr::from((place::tun_here(), lab.port));
    lab.netns.run(|| listen(address))
}

fn reset_in_time_wait(lab: &mut Lab) -> Expected {
    let listener = tun_listener(lab);
    let mut peers = Vec::new();
    for host in 2..5 {
        let mut peer = closed_towards(&lab.netns, &lab.tun, &listener, host);
        peer.say(FIN | ACK);
        peer.expect("last ACK", |segment| segment.has(ACK));
        peers.push(peer);
    }
    // So that a census meets them in TIME_WAIT: what turns and goes between two of them is not derived.
    lab.figures();
    peers.iter_mut().for_each(Peer::reset);
    Expected::default().made(3, 0).turned(3).left(substate::TIME_WAIT, cause::RESET, 3)
}

fn reset_in_fin_wait2(lab: &mut Lab) -> Expected {
    let listener = tun_listener(lab);
    for host in 2..6 {
        closed_towards(&lab.netns, &lab.tun, &listener, host).reset();
    }
    Expected::default().made(4, 0).left(substate::FIN_WAIT2, cause::RESET, 4)
}

fn the_rest_expires(lab: &mut Lab) -> Expected {
    let count = lab.sockstat();
    assert!(count > 20, "{count} small sockets wait for their time");
    lab.wait_small("TIME_WAIT is over", MINUTE, 0);
    Expected::default().left(substate::TIME_WAIT, cause::EXPIRED, count)
}

/// Small sockets of `netns` now: in FIN_WAIT2 and in TIME_WAIT.
fn population(netns: &Netns, probes: &kernel::Probes) -> [u64; substate::COUNT] {
    let link = probes.census_link().expect("an iterator over TCP sockets").expect("a copy of its link");
    let mut counts = [0; substate::COUNT];
    let walk = netns.run(|| kernel::create_census(link.as_fd())).expect("a walk");
    let undecodable = census::read(walk, |found| match found.kind {
        Kind::Waiting { substate: TcpState::FinWait2, .. } => counts[substate::FIN_WAIT2] += 1,
        Kind::Waiting { .. } => counts[substate::TIME_WAIT] += 1,
        Kind::Full { .. } | Kind::Request { .. } => {}
    });
    assert_eq!(undecodable.expect("a whole walk"), 0);
    counts
}

fn probes_of(netns: &Netns) -> kernel::Probes {
    let options = LoadOptions {
        ring_bytes: 1 << 16,
        netns: Some(netns.inum() as u32),
        btf: LoadOptions::kernel_btf(),
        only: None,
    };
    kernel::load(&options).expect("the probes").0
}

#[test]
fn a_namespace_that_goes_takes_its_small_sockets_along() {
    let netns = Netns::new();
    let probes = probes_of(&netns);
    let Some(ends) = probes.ends() else {
        return assert!(!must_count_by_cause(), "{:?}", probes.attempts());
    };
    let at_start = ends.expect("the counts");
    let servers: Vec<_> = netns.run(|| {
        let listener = listen(Family::V4.loopback(1, PORT));
        for _ in 0..50 {
            let (client, server) = pair(&listener);
            enter_time_wait(client, server);
        }
        (0..10).map(|_| pair(&listener).1).collect()
    });
    wait_until("small sockets in FIN_WAIT2", Duration::from_secs(5), || tables::sockstat_tw(&netns) == 60);
    assert_eq!(population(&netns, &probes), [10, 50]);
    // From here on nothing gets through: the resets of the servers end no small socket.
    netns.ip("link set lo down");
    servers.into_iter().for_each(reset);
    drop(netns);
    let ends = || ends_since(probes.ends().expect("still there").expect("the counts"), at_start);
    wait_until("the namespace is gone", Duration::from_secs(20), || {
        ends().left.as_flattened().iter().sum::<u64>() == 60
    });
    let expected = Expected::default().made(10, 50);
    let expected = expected.left(substate::FIN_WAIT2, cause::PURGED, 10).left(substate::TIME_WAIT, cause::PURGED, 50);
    assert_eq!(ends(), expected.0);
}

#[test]
fn in_a_storm_of_all_causes_nothing_is_lost_or_counted_twice() {
    let netns = Netns::new();
    let probes = probes_of(&netns);
    if probes.ends().is_none() {
        return assert!(!must_count_by_cause(), "{:?}", probes.attempts());
    }
    netns.sysctl("net.ipv4.tcp_tw_reuse", "1");
    netns.sysctl("net.ipv4.tcp_fin_timeout", "1");
    netns.sysctl("net.ipv4.ip_local_port_range", "40000 40299");
    netns.sysctl("net.ipv4.tcp_max_tw_buckets", "500");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (netns, over) = (&netns, &over);
            scope.spawn(move || netns.run(|| storm(thread, over)));
        }
        std::thread::sleep(Duration::from_secs(4));
        over.store(true, Ordering::Relaxed);
    });
    // There is room again for five whose peers do not close.
    netns.sysctl("net.ipv4.tcp_max_tw_buckets", "100000");
    let _held: Vec<_> = netns.run(|| {
        let listener = listen(Family::V4.loopback(9, PORT));
        (0..5).map(|_| pair(&listener).1).collect()
    });
    // Their time is over then, and the walk and the counts are of one moment.
    std::thread::sleep(Duration::from_secs(4));
    let ends = probes.ends().expect("attached").expect("the counts");
    let sum = |substate: usize| ends.left[substate].iter().sum::<u64>();
    let counted = [
        ends.made[substate::FIN_WAIT2] - ends.turned - sum(substate::FIN_WAIT2),
        ends.made[substate::TIME_WAIT] + ends.turned - sum(substate::TIME_WAIT),
    ];
    eprintln!("{ends:?}");
    assert_eq!(counted, population(&netns, &probes), "{ends:?}");
    let of = |cause: usize| ends.left[substate::FIN_WAIT2][cause] + ends.left[substate::TIME_WAIT][cause];
    assert_eq!(of(cause::REUSED), tables::netstat(&netns, "TWRecycled"));
    assert_eq!(ends.refused, tables::netstat(&netns, "TCPTimeWaitOverflow"));
    assert_eq!((of(cause::EVICTED), of(cause::PURGED), of(cause::UNKNOWN)), (0, 0, 0), "{ends:?}");
    for (what, count) in [("expired", of(cause::EXPIRED)), ("reused", of(cause::REUSED)), ("reset", of(cause::RESET))] {
        assert!(count > 0, "nothing {what} in the storm: {ends:?}");
    }
}

/// Connections of every kind of end, one after the other.
fn storm(thread: u8, over: &AtomicBool) {
    let listener = listen(Family::V4.loopback(1 + thread, PORT));
    let destination = listener.local_addr().expect("a bound listener");
    let mut abandoned = Vec::new();
    for round in 0_u64.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let client = socket(destination);
        if client.connect(&SockAddr::from(destination)).is_err() {
            // All ports are taken: the oldest sockets make room in a moment.
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let (client, server) = (TcpStream::from(client), listener.accept().expect("accept").0);
        match round % 8 {
            0..4 => (drop(client), drop(server)).0,
            4 => (drop(server), drop(client)).0,
            5 => reset(client),
            6 => {
                drop(client);
                // May be refused already: the reset of the first is under way to the second.
                let _ = std::io::Write::write(&mut &server, b"late");
            }
            _ => {
                drop(client);
                abandoned.push(server);
                abandoned.drain(..abandoned.len().saturating_sub(20));
            }
        }
    }
}

#[test]
fn check_says_which_is_in_force() {
    let settings = config::load_named_only(&Flags::default()).expect("the defaults");
    let mut facts = read_facts(&settings);
    facts.trials = read_trials(&facts);
    let report = assess(&facts);
    let item = report.items.iter().find(|item| item.id == "probe.inet_twsk_kill").expect("the item");
    let trial = facts.trials.iter().find(|trial| trial.probe == "inet_twsk_kill").expect("a trial");
    let (verdict, words) = match &trial.result {
        Ok(()) => (Verdict::Ok, "works as fentry: ends of TIME_WAIT are counted by cause"),
        Err(_) => (Verdict::Degraded, "works as derivation (fallback): ends of TIME_WAIT are derived"),
    };
    assert_eq!((item.verdict, item.finding.contains(words)), (verdict, true), "{item:?}");
    assert!(report.to_text().contains(&item.finding));
    assert!(report.to_json()["items"].to_string().contains(words));
    let netns = Netns::new();
    assert_eq!(probes_of(&netns).ends().is_some(), trial.result.is_ok(), "{trial:?}");
    eprintln!("{}", item.finding);
}
