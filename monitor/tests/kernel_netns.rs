//! `--netns all`: every namespace of the host is counted, walked and told apart.

mod lab;

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::daemon::{Daemon, Scraper, program};
use lab::netns::{Inhabitant, Netns};
use lab::page::Page;
use lab::place::Family;
use lab::promtool;
use lab::sockets::{connect_nonblocking, listen, listen_with, pair};
use lab::tables::{gauges, namespace_gauges, ss, tcp_ext};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use synfin::host::read_netns_cookie;

/// A walk that took long, as on a busy machine, is not repeated for a minute.
const WITHIN: Duration = Duration::from_secs(75);

/// A name that no other test has.
fn unique(name: &str) -> String {
    format!("synfin-{name}-{}", std::process::id())
}

/// Scrapes until `ready`; the rest of the host has connections too, which come and go.
#[track_caller]
fn scrape_until(scraper: &mut Scraper, daemon: &Daemon, what: &str, mut ready: impl FnMut(&Page) -> bool) -> Page {
    let give_up = Instant::now() + WITHIN;
    loop {
        let page = scraper.scrape();
        if ready(&page) {
            return page;
        }
        if Instant::now() > give_up {
            let seen = page.0.iter().filter(|(series, _)| series.contains("namespace"));
            let seen: Vec<_> = seen.filter(|(_, value)| **value != 0.0).collect();
            panic!("not so within {WITHIN:?}: {what}\n{seen:#?}\n{}", daemon.log());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn of(metric: &str, namespace: &str) -> String {
    format!("synfin_namespace_{metric}{{namespace=\"{namespace}\"}}")
}

/// Rows and sums are of one moment: they must agree on every page.
#[track_caller]
fn check_sums(page: &Page) {
    for (state, sockets) in gauges(page) {
        let rows = page.sum("synfin_tcp_namespace_sockets", &[&format!("state=\"{state}\"")]);
        assert_eq!(rows, sockets as f64, "sockets in {state}");
    }
    for counter in ["time_wait_overflows_total", "listen_overflows_total", "listen_drops_total"] {
        let rows = page.sum(&format!("synfin_namespace_{counter}"), &[]);
        assert_eq!(rows, page.value(&format!("synfin_{counter}")), "{counter}");
    }
}

/// `connections` that the client closed first: as many in TIME_WAIT, unless the limit says otherwise.
fn wait_after(listener: &TcpListener, connections: usize) {
    for _ in 0..connections {
        let (client, server) = pair(listener);
        drop(client);
        lab::sockets::read_to_end(&server);
    }
}

/// Two more connections than the queue of `listener` holds; nobody accepts.
fn overflow(listener: &TcpListener, backlog: usize) -> Vec<Socket> {
    let address = listener.local_addr().expect("a bound listener");
    (0..backlog + 3).map(|_| connect_nonblocking(address)).collect()
}

#[test]
fn sockets_of_another_namespace_are_in_totals_and_populations() {
    const CONNECTIONS: usize = 7;
    let (here, there) = (Netns::new(), Netns::new());
    let _inhabitant = Inhabitant::of(&there);
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", ""]);
    let mut scraper = Scraper::connect(&here);
    let before = scraper.scrape();
    let held: Vec<_> = there.run(|| {
        let listener = listen(Family::V4.loopback(1, 4000));
        (0..CONNECTIONS).map(|_| pair(&listener)).collect()
    });
    let established = "synfin_tcp_sockets{state=\"established\"}";
    scrape_until(&mut scraper, &daemon, "the connections of another namespace", |page| {
        let change = page.value(established) - before.value(established);
        let opened = page.since(&before).0.get("synfin_tcp_connections_opened_total{role=\"server\"}").copied();
        change == 2.0 * CONNECTIONS as f64 && opened.unwrap_or(0.0) >= CONNECTIONS as f64
    });
    drop(held);
    daemon.stop();
}

/// One connection half closed by its client: FIN_WAIT2 and CLOSE_WAIT.
fn half_closed(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (client, server) = pair(listener);
    lab::sockets::half_close(&client);
    lab::sockets::wait_state(&server, lab::sockets::CLOSE_WAIT);
    (client, server)
}

#[test]
fn each_namespace_has_its_own_sockets_limits_and_counters() {
    let (here, names) = (Netns::new(), ["blue", "red", "green"].map(unique));
    let all = names.each_ref().map(Netns::named);
    let [blue, red, green] = &all;
    blue.sysctl("net.ipv4.tcp_max_tw_buckets", "10");
    green.sysctl("net.ipv4.ip_local_port_range", "20000 20099");
    green.sysctl("net.ipv4.ip_local_reserved_ports", "20000-20009");
    let file = |name| std::env::temp_dir().join(unique(name)).display().to_string();
    let (socket, config) = (file("socket"), file("toml"));
    // The rest of the host may have fuller destinations.
    std::fs::write(&config, "[metrics]\ntop = 256\n").expect("a temporary file");
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", &socket, "--config.file", &config]);
    std::fs::remove_file(&config).expect("it was there");
    let mut scraper = Scraper::connect(&here);
    // The same addresses and ports everywhere, TIME_WAIT beyond one limit, a full queue in one of them.
    let address = Family::V4.loopback(1, 4000);
    let mut held = Vec::new();
    for (netns, established, half, closed) in [(blue, 1, 0, 25), (red, 2, 3, 5), (green, 4, 1, 30)] {
        held.push(netns.run(|| {
            let listener = listen(address);
            let open: Vec<_> = (0..established).map(|_| pair(&listener)).collect();
            let half: Vec<_> = (0..half).map(|_| half_closed(&listener)).collect();
            wait_after(&listener, closed);
            (listener, open, half)
        }));
    }
    let queue = red.run(|| {
        let listener = listen_with(Family::V4.loopback(2, 4001), 2);
        let waiting = overflow(&listener, 2);
        (listener, waiting)
    });
    let page = scrape_until(&mut scraper, &daemon, "the sockets that ss sees in each", |page| {
        std::iter::zip(&all, &names).all(|(netns, name)| {
            let seen = namespace_gauges(page, name);
            let series = [
                ("time_wait_overflows_total", "TCPTimeWaitOverflow"),
                ("listen_overflows_total", "ListenOverflows"),
                ("listen_drops_total", "ListenDrops"),
            ];
            let counters =
                series.iter().all(|(metric, counter)| page.value(&of(metric, name)) == tcp_ext(netns, counter) as f64);
            counters && seen == ss(netns) && page.value(&of("ephemeral_ports_used", name)) > 0.0
        })
    });
    check_sums(&page);
    let time_wait = |name| namespace_gauges(&page, name)["time_wait"];
    assert_eq!([time_wait(&names[0]), time_wait(&names[1]), time_wait(&names[2])], [10, 5, 30]);
    assert_eq!(page.value(&of("time_wait_overflows_total", &names[0])), 15.0);
    assert!(page.value(&of("listen_overflows_total", &names[1])) >= 1.0, "the queue of {} is full", names[1]);
    let limit = |name| page.value(&of("time_wait_limit_sockets", name));
    assert_eq!((limit(&names[0]), limit(&names[1])), (10.0, page.value("synfin_time_wait_limit_sockets")));
    let ports =
        |name| (page.value(&of("ephemeral_ports_available", name)), page.value(&of("ephemeral_ports_used", name)));
    assert_eq!(ports(&names[2]), (90.0, 35.0));
    assert_eq!(ports(&names[0]).1, 11.0, "the limit destroyed the others");
    // The same tuple takes ports of as many pools as there are namespaces: the fullest, not the sum.
    let tuple = page.sum("synfin_ephemeral_ports_used", &[&format!("destination=\"{address}\"")]);
    assert_eq!(tuple, 35.0);
    let command = || Command::new(program()).args(["diagnose", "--json", "--for", "1s", "--socket", &socket]).output();
    let said = String::from_utf8(here.run(command).expect("diagnose runs").stdout).expect("JSON");
    for words in [format!("network namespace {}", names[0]), format!("network namespace {}", names[1])] {
        assert!(said.contains(&words), "{words} is not in {said}");
    }
    drop((held, queue));
    daemon.stop();
}

#[test]
fn sums_do_not_go_back_when_a_namespace_goes_and_its_name_comes_again() {
    let (here, name) = (Netns::new(), unique("mayfly"));
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", ""]);
    let mut scraper = Scraper::connect(&here);
    let total = "synfin_time_wait_overflows_total";
    let overflows = of("time_wait_overflows_total", &name);
    let time_wait = format!("synfin_tcp_namespace_sockets{{namespace=\"{name}\",state=\"time_wait\"}}");
    let base = scraper.scrape().value(total);
    let mut last = base;
    let mut watch = |page: &Page| {
        check_sums(page);
        let now = page.value(total);
        assert!(now >= last, "{now} after {last}");
        last = now;
    };
    let mut numbers = Vec::new();
    for life in 1..=2 {
        let netns = Netns::named(&name);
        if numbers.contains(&netns.inum()) && netns.run(read_netns_cookie).is_none() {
            // Before Linux 5.14 nothing else tells it from its predecessor, whose counters it is about to repeat.
            eprintln!(
                "not applicable: the kernel has given the number of a namespace again, and has no cookies for them"
            );
            break;
        }
        numbers.push(netns.inum());
        netns.sysctl("net.ipv4.tcp_max_tw_buckets", "4");
        netns.run(|| wait_after(&listen(Family::V4.loopback(1, 4000)), 10));
        assert_eq!(tcp_ext(&netns, "TCPTimeWaitOverflow"), 6);
        scrape_until(&mut scraper, &daemon, "its overflows", |page| {
            watch(page);
            let value = |series| page.0.get(series).copied();
            value(&overflows) == Some(6.0 * f64::from(life)) && value(&time_wait) == Some(4.0)
        });
        drop(netns);
        let page = scrape_until(&mut scraper, &daemon, "its end", |page| {
            watch(page);
            page.value(&time_wait) == 0.0
        });
        assert_eq!(page.value(&overflows), 6.0 * f64::from(life));
        assert!(!page.0.contains_key(&of("time_wait_limit_sockets", &name)), "what is gone has no limit");
    }
    assert!(last >= base + 6.0 * numbers.len() as f64);
    daemon.stop();
}

#[test]
fn a_hundred_namespaces_and_odd_names_stay_within_bounds() {
    const MANY: usize = 100;
    let here = Netns::new();
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", ""]);
    let mut scraper = Scraper::connect(&here);
    let before = scraper.scrape().value("synfin_namespaces_watched");
    let odd = Netns::named(OsStr::from_bytes(b"od\"d\\\n\xff-synfin"));
    let open = odd.run(|| {
        let listener = listen(Family::V4.loopback(1, 4000));
        (0..50).map(|_| pair(&listener)).collect::<Vec<_>>()
    });
    let many: Vec<Netns> = (0..MANY).map(|n| Netns::named(unique(&format!("many{n}")))).collect();
    let busy: Vec<_> = many.iter().map(|netns| netns.run(|| listen(Family::V4.loopback(1, 4000)))).collect();
    let found = (MANY + 1) as f64;
    let page = scrape_until(&mut scraper, &daemon, "all of them", |page| {
        let odd = "synfin_tcp_namespace_sockets{namespace=\"od\\\"d\\\\\\\\x0a\\\\xff-synfin\",state=\"established\"}";
        page.value("synfin_namespaces_watched") >= before + found && page.0.get(odd) == Some(&100.0)
    });
    check_sums(&page);
    assert!(page.value("synfin_rows_folded{metric=\"tcp_namespace_sockets\"}") >= found - 20.0);
    let rows = page.0.keys().filter(|series| series.starts_with("synfin_namespace_time_wait_overflows_total{")).count();
    assert!(rows <= 21, "{rows} namespaces");
    assert!(page.0.len() < 2_000, "{} series", page.0.len());
    promtool::check(&scraper.scrape_text());
    drop((open, odd, busy, many));
    scrape_until(&mut scraper, &daemon, "their end", |page| {
        check_sums(page);
        // Others may have come meanwhile.
        page.value("synfin_namespaces_watched") < before + found / 2.0
            && page.value("synfin_rows_folded{metric=\"tcp_namespace_sockets\"}") < found / 2.0
    });
    daemon.stop();
}

/// A process like one in a container: in a cgroup, a cgroup namespace and a network namespace of its own, with a listener and a
/// connection to itself. Its descriptors outlive the change of program.
fn contained(netns: &Netns, cgroup: &Path) -> Inhabitant {
    let procs = OpenOptions::new().write(true).open(cgroup.join("cgroup.procs")).expect("the cgroup's processes");
    let address = SockAddr::from(Family::V4.loopback(1, 4000));
    let live = move || {
        (&procs).write_all(b"0")?;
        // SAFETY: takes a flag and changes this process only.
        if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let (listener, client) = (tcp_socket()?, tcp_socket()?);
        listener.bind(&address)?;
        listener.listen(1)?;
        client.connect(&address)?;
        std::mem::forget((listener, client));
        Ok(())
    };
    let mut command = Command::new("sleep");
    // SAFETY: between fork and exec it makes system calls alone, on what was made before.
    unsafe { command.arg("60").pre_exec(live) };
    Inhabitant(netns.run(|| command.spawn().expect("sleep starts")))
}

/// Survives exec.
fn tcp_socket() -> std::io::Result<Socket> {
    Socket::new_raw(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
}

#[test]
fn a_container_goes_by_the_name_of_its_unit() {
    let mount = synfin::host::read_mount("/proc/self/mountinfo".as_ref()).expect("a cgroup v2 mount");
    let unit = format!("{}.scope", unique("docker"));
    let cgroup = mount.join(&unit);
    std::fs::create_dir(&cgroup).expect("a new cgroup");
    let (here, inside) = (Netns::new(), Netns::new());
    let container = contained(&inside, &cgroup);
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", ""]);
    let mut scraper = Scraper::connect(&here);
    let sockets = |page: &Page, state: &str| {
        let value = |series: String| page.0.get(&series).copied();
        let namespace = format!("synfin_tcp_namespace_sockets{{namespace=\"{unit}\",state=\"{state}\"}}");
        (value(namespace), value(format!("synfin_tcp_unit_sockets{{state=\"{state}\",unit=\"{unit}\"}}")))
    };
    let page = scrape_until(&mut scraper, &daemon, "its sockets under its name", |page| {
        sockets(page, "established") == (Some(2.0), Some(2.0)) && sockets(page, "listen") == (Some(1.0), Some(1.0))
    });
    check_sums(&page);
    assert!(page.0.contains_key(&of("time_wait_limit_sockets", "host")), "that of process 1");
    drop(container);
    // The kernel lets go of an ended process a moment later.
    lab::wait_until("the cgroup is empty", WITHIN, || std::fs::remove_dir(&cgroup).is_ok());
    daemon.stop();
}

#[test]
fn a_record_of_all_namespaces_replays_to_the_byte() {
    let (here, name) = (Netns::new(), unique("tape"));
    let there = Netns::named(&name);
    let file = std::env::temp_dir().join(unique("record"));
    let mut record = Command::new(program());
    record.args(["record", "--netns", "all", "--for", "3s"]).arg(&file).stderr(Stdio::null());
    let mut record = here.run(|| record.spawn()).expect("record starts");
    std::thread::sleep(Duration::from_millis(500));
    let held = there.run(|| pair(&listen(Family::V4.loopback(1, 4000))));
    assert!(record.wait().expect("its end").success());
    let replay = || Command::new(program()).args(["replay", "--metrics"]).arg(&file).output().expect("replay runs");
    let (first, second) = (replay(), replay());
    std::fs::remove_file(&file).expect("the record is there");
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(first.stdout, second.stdout);
    let page = Page::parse(&String::from_utf8(first.stdout).expect("text"));
    assert_eq!(namespace_gauges(&page, &name)["established"], 2);
    check_sums(&page);
    drop(held);
}

#[test]
fn without_the_right_to_enter_namespaces_it_says_what_is_lost() {
    // CAP_BPF and CAP_PERFMON alone: enough for this namespace.
    let limited = |arguments: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all"])
            .arg(program())
            .args(arguments)
            .output()
            .expect("setpriv (Debian package `util-linux`) can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (status, said) = limited(&["run", "--netns", "all", "--socket", "", "--web.listen-address", "127.0.0.1:0"]);
    assert_eq!((status, said.lines().count()), (Some(2), 1), "{said}");
    for words in ["CAP_SYS_ADMIN", "their sockets, limits and counters are lost", "--netns host"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    let (status, said) = limited(&["check", "--netns", "all", "--web.listen-address", "127.0.0.1:0"]);
    assert_eq!(status, Some(2), "{said}");
    let line =
        said.lines().find(|line| line.starts_with("netns ")).unwrap_or_else(|| panic!("no item netns in {said}"));
    assert!(line.contains("missing") && line.contains("the sockets, limits and counters of"), "{line}");
}
