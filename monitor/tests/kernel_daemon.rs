//! The daemon as a process: how it starts, under which rights, how it ends, and that its gauges are what others count.

mod lab;

use lab::daemon::{ADDRESS, CENSUS, Daemon, Scraper, after_next_census, program};
use lab::netns::Netns;
use lab::packet::{ACK, FIN, SYN};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::sockets::*;
use lab::tables;
use lab::tun::Tun;
use lab::wait_until;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

fn run_command() -> Command {
    let mut command = Command::new(program());
    command.args(["run", "--web.listen-address", ADDRESS]);
    command
}

#[test]
fn sigterm_while_events_pour_in_ends_it_cleanly_within_a_second() {
    let netns = Netns::new();
    netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    let daemon = Daemon::start(&netns, &[]);
    let page = Scraper::connect(&netns).scrape();
    let at_functions = page.sum("synfin_probe_attached", &["kind=\"fentry\""]) > 0.0;
    let (time, load) = std::thread::scope(|scope| {
        let load = scope.spawn(|| lab::load::run(&netns, 20_000).1);
        std::thread::sleep(Duration::from_millis(150));
        (daemon.stop(), load.join().expect("the load"))
    });
    // A second where these connections take less than two; an emulated processor takes longer for both. Programs at functions of the
    // kernel are taken away one by one, and up to Linux 6.1 each waits until every task has been off its processor.
    let limit = Duration::from_secs(1).max(if at_functions { load * 2 } else { load / 2 });
    assert!(time < limit, "the end took {time:?}, and the connections {load:?}");
}

#[test]
fn nothing_stays_attached_after_sigkill() {
    let netns = Netns::new();
    let daemon = Daemon::start(&netns, &[]);
    let objects = kernel_objects(daemon.pid());
    for kind in ["prog", "link", "map"] {
        assert!(objects.iter().any(|(held, _)| *held == kind), "the running daemon holds no BPF {kind}: {objects:?}");
    }
    let exists = |(kind, id): &(&str, u32)| netns.try_command(&format!("bpftool {kind} show id {id}")).status.success();
    assert!(objects.iter().all(exists), "bpftool does not find what the daemon holds: {objects:?}");
    daemon.signal(libc::SIGKILL);
    drop(daemon);
    wait_until("the kernel frees programs, links and maps", Duration::from_secs(5), || !objects.iter().any(exists));
}

/// BPF programs, links and maps that a process holds, by the kernel's own description of its descriptors.
fn kernel_objects(pid: u32) -> Vec<(&'static str, u32)> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let mut objects = Vec::new();
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        for (key, kind) in [("prog_id:", "prog"), ("link_id:", "link"), ("map_id:", "map")] {
            let id = text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
            objects.extend(id.map(|id| (kind, id)));
        }
    }
    objects.sort_unstable();
    objects.dedup();
    objects
}

#[test]
fn a_second_daemon_on_the_same_port_says_so_and_ends_with_status_2() {
    let netns = Netns::new();
    let _first = Daemon::start(&netns, &[]);
    let log = check_refusal(Daemon::spawn(&netns, run_command()), &["10060"]);
    assert_eq!(log.to_lowercase().matches("address already in use").count(), 1, "the cause is said once: {log}");
}

#[test]
fn without_rights_it_names_the_capabilities_and_ends_with_status_2() {
    let netns = Netns::new();
    check_refusal(Daemon::spawn(&netns, as_nobody(&run_command(), &[])), &["CAP_BPF"]);
    check_refusal(Daemon::spawn(&netns, as_nobody(&run_command(), &["bpf"])), &["CAP_PERFMON"]);
    check_refusal(Daemon::spawn(&netns, as_nobody(&run_command(), &["perfmon"])), &["CAP_BPF"]);
}

/// It must end with status 2 and exactly one line, with all of `words` in it.
fn check_refusal(daemon: Daemon, words: &[&str]) -> String {
    let (status, _, log) = daemon.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(2), "{status}: {log}");
    let errors: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).collect();
    assert_eq!(errors.len(), 1, "one line that says why:\n{log}");
    assert!(words.iter().all(|word| errors[0].contains(word)), "{words:?} in: {}", errors[0]);
    errors[0].to_owned()
}

#[test]
fn two_capabilities_are_enough() {
    // Before Linux 5.11 maps count as locked memory: the daemon inherits the bound, which a service manager raises.
    synfin::privilege::raise_memlock().expect("a higher bound on locked memory");
    let netns = Netns::new();
    let daemon = Daemon::spawn(&netns, as_nobody(&run_command(), &["bpf", "perfmon"]));
    daemon.wait_ready(&netns);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a running process");
    assert!(status.contains("Uid:\t65534"), "it does not run as nobody:\n{status}");
    let mut scraper = Scraper::connect(&netns);
    let before = scraper.scrape();
    netns.run(|| {
        let listener = listen(Family::V4.loopback(1, 4000));
        let (client, server) = pair(&listener);
        drop(client);
        read_to_end(&server);
    });
    let mut closed = 0.0;
    wait_until("both ends of one connection", Duration::from_secs(4), || {
        closed = scraper.scrape().since(&before).sum("synfin_tcp_connections_closed_total", &[]);
        closed >= 2.0
    });
    assert_eq!(closed, 2.0);
    daemon.stop();
}

/// The same command line as user 65534 with nothing but `capabilities`.
fn as_nobody(command: &Command, capabilities: &[&str]) -> Command {
    let list: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]);
    wrapped.arg(format!("--inh-caps=-all{list}")).arg(format!("--ambient-caps=-all{list}"));
    wrapped.arg(format!("--bounding-set=-all{list}"));
    wrapped.arg("--").arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Sockets in every state that TCP has, held until dropped.
struct Mix<'a> {
    _held: Vec<TcpStream>,
    _connecting: Vec<socket2::Socket>,
    _listeners: Vec<TcpListener>,
    _peers: Vec<Peer<'a>>,
}

/// `round` keeps the addresses of several mixes apart.
fn sockets_in_all_states<'a>(netns: &Netns, tun: &'a Tun, round: u8) -> Mix<'a> {
    let port = 4000 + u16::from(round);
    let host_of = |host: u8| host + 100 * round;

    let listeners: Vec<TcpListener> =
        netns.run(|| (1..4).map(|host| listen(Family::V4.loopback(host, port))).collect());
    let outside = netns.run(|| listen(SocketAddr::from((place::tun_here(), port))));
    let (mut held, mut connecting, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    netns.run(|| {
        for _ in 0..5 {
            let (client, server) = pair(&listeners[0]);
            held.extend([client, server]);
        }
        // FIN_WAIT2 (a full socket) and CLOSE_WAIT.
        for _ in 0..4 {
            let (client, server) = pair(&listeners[1]);
            half_close(&client);
            wait_state(&server, CLOSE_WAIT);
            wait_state(&client, FIN_WAIT2);
            held.extend([client, server]);
        }
        // FIN_WAIT2 (a small one) and CLOSE_WAIT.
        for _ in 0..3 {
            let (client, server) = pair(&listeners[2]);
            drop(client);
            wait_state(&server, CLOSE_WAIT);
            held.push(server);
        }
        // TIME_WAIT.
        for _ in 0..7 {
            let (client, server) = pair(&listeners[0]);
            drop(client);
            read_to_end(&server);
        }
    });
    let connect_to =
        |host: u8| netns.run(|| connect_nonblocking(SocketAddr::from((place::tun_peer(host_of(host)), port))));
    connecting.extend((10..13).map(connect_to));
    // Half-open requests.
    for number in 0..6 {
        let mut peer = Peer::new(tun, host_of(20), 2000 + number, port);
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
        peers.push(peer);
    }
    // FIN_WAIT1: nobody acknowledges our FIN. CLOSING: the peer's crosses it.
    for host in 30..34 {
        let socket = connect_to(host);
        let mut peer = Peer::new(tun, host_of(host), port, 0);
        peer.answer();
        drop(socket);
        peer.expect("FIN", |segment| segment.has(FIN));
        if host >= 32 {
            peer.say_acknowledging_less(FIN | ACK, 1);
        }
        peers.push(peer);
    }
    // LAST_ACK: nobody acknowledges our answer to the peer's FIN.
    for number in 0..2 {
        let mut peer = Peer::new(tun, host_of(40), 2000 + number, port);
        peer.open();
        let (server, _) = outside.accept().expect("accept");
        peer.say(FIN | ACK);
        read_to_end(&server);
        drop(server);
        peers.push(peer);
    }
    let mut listeners = listeners;
    listeners.push(outside);
    Mix { _held: held, _connecting: connecting, _listeners: listeners, _peers: peers }
}

#[test]
fn gauges_equal_what_ss_counts_in_every_state() {
    let netns = Netns::new();
    let tun = Tun::new(&netns);
    // Some sockets are older than the daemon, some younger: both must be in the gauges.
    let _older = sockets_in_all_states(&netns, &tun, 0);
    if lab::watch::witness_only() {
        let _younger = sockets_in_all_states(&netns, &tun, 1);
        let counts = tables::ss(&netns);
        let empty: Vec<_> = counts.iter().filter(|(state, count)| **count == 0 && **state != "close").collect();
        assert!(empty.is_empty(), "no socket in {empty:?}");
        return;
    }
    let daemon = Daemon::start(&netns, &[]);
    let mut scraper = Scraper::connect(&netns);
    check_gauges(&netns, &mut scraper, "of sockets older than the daemon");
    let _younger = sockets_in_all_states(&netns, &tun, 1);
    check_gauges(&netns, &mut scraper, "of older and younger sockets");
    daemon.stop();
}

/// Compares every state with `ss`, taken before and after the scrape so that nothing changed in between.
fn check_gauges(netns: &Netns, scraper: &mut Scraper, what: &str) {
    let start = Instant::now();
    loop {
        let before = tables::ss(netns);
        let gauges = tables::gauges(&scraper.scrape());
        let after = tables::ss(netns);
        if gauges == before && before == after {
            eprintln!("gauges {what} equal to ss after {:.1?}", start.elapsed());
            return;
        }
        let late = start.elapsed() > CENSUS;
        assert!(!late, "gauges {what} differ from ss for {CENSUS:?}:\n gauges {gauges:?}\n ss     {before:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn time_wait_gauges_agree_with_sockstat_and_with_each_other() {
    const LIVES: u64 = 500;
    let netns = Netns::new();
    let daemon = Daemon::start(&netns, &[]);
    let mut scraper = Scraper::connect(&netns);
    let before = scraper.scrape();
    netns.run(|| {
        let listener = listen(Family::V4.loopback(1, 4000));
        for _ in 0..LIVES {
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
        }
    });
    let page = after_next_census(&mut scraper);
    let gauge = page.value("synfin_tcp_sockets{state=\"time_wait\"}");
    assert_eq!(gauge as u64, tables::sockstat_tw(&netns), "synfin_tcp_sockets of TIME_WAIT against sockstat");
    assert!(gauge >= LIVES as f64, "{LIVES} lives left {gauge} TIME_WAIT sockets");
    for metric in ["synfin_time_wait_sockets", "synfin_time_wait_remaining_sockets"] {
        assert_eq!(page.sum(metric, &[]), gauge, "the sum of {metric} against synfin_tcp_sockets");
    }
    let endpoint = format!("endpoint=\"{}\"", Family::V4.loopback(1, 4000));
    let of_the_lives = page.sum("synfin_time_wait_sockets", &[&endpoint, "role=\"client\""]);
    assert_eq!(of_the_lives, LIVES as f64, "TIME_WAIT made by clients of {endpoint}");
    let entered = page.since(&before).sum("synfin_time_wait_entered_total", &["role=\"client\""]);
    assert_eq!(entered, LIVES as f64, "synfin_time_wait_entered_total of clients");
    daemon.stop();
}
