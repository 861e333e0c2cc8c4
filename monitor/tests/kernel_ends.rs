//! How TIME_WAIT ends: each cause provoked for real and counted exactly, beside the figures derived in the same run.
//!
//! Where the kernel refuses programs at its functions, the same lives prove the derived figures. Needs no daemon; `cargo
//! xtask vm` runs it on other kernels.

mod lab;

use lab::destroy::destroy;
use lab::ends::{
    Expected, Lab, ends_since, enter_fin_wait2, enter_time_wait, minus, population, probes_of, reusable_pair,
};
use lab::netns::Netns;
use lab::packet::{ACK, FIN};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::sockets::*;
use lab::tun::Tun;
use lab::{tables, wait_until};
use socket2::SockAddr;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synfin::config::{self, Flags};
use synfin::host::read_release;
use synfin::kernel::preflight::{Verdict, assess, read_facts, read_trials};
use synfin_ebpf::abi::ends::{cause, substate};

const PORT: u16 = 4000;
/// TIME_WAIT lasts a minute; its timer may be late by an eighth of that.
const MINUTE: Duration = Duration::from_secs(75);

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
    lab.listener_at(SocketAddr::from((place::tun_here(), 0)))
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
        (0..10).map(|_| enter_fin_wait2(&listener)).collect()
    });
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
        (0..5).map(|_| enter_fin_wait2(&listener)).collect()
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
