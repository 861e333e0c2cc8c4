//! `synfin diagnose` against trouble made on purpose: each must be named, and a host in order must be called so.

mod lab;

use lab::daemon::{ADDRESS, Daemon, Scraper, after_next_census, program};
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use serde_json::Value;
use socket2::SockAddr;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// For sockets and roots; removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-diagnose-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A directory in it that stands for the root of a host without sysctl files.
    fn root(&self) -> String {
        let root = self.0.join("root");
        std::fs::create_dir_all(root.join("etc/sysctl.d")).expect("directories");
        root.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What it said.
struct Said {
    status: i32,
    report: Value,
}

impl Said {
    /// Ids of the findings, but for NS-001: the tests beside this one have namespaces and traffic of their own.
    fn ids(&self) -> Vec<&str> {
        let ids = self.findings().iter().map(|finding| finding["id"].as_str().expect("an id"));
        ids.filter(|id| *id != "NS-001").collect()
    }

    fn findings(&self) -> &Vec<Value> {
        self.report["findings"].as_array().expect("a list of findings")
    }

    #[track_caller]
    fn finding(&self, id: &str) -> &Value {
        let found = self.findings().iter().find(|finding| finding["id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {:#}", self.report))
    }

    /// The finding `id` has this severity, the exit status goes with it, and what it says contains each of `words`.
    #[track_caller]
    fn check(&self, id: &str, severity: &str, words: &[&str]) {
        let finding = self.finding(id);
        assert_eq!(finding["severity"], severity, "{finding:#}");
        assert!(severity == "info" || self.status == 1, "status {} for {finding:#}", self.status);
        let said = finding.to_string();
        for word in words {
            assert!(said.contains(word), "{word} is not in {finding:#}");
        }
        let unchecked = self.report["unchecked"].as_array().expect("a list");
        let ids: Vec<_> = unchecked.iter().map(|one| one["id"].as_str().expect("an id")).collect();
        let found = self.ids();
        let expected: Vec<_> = unchecked_here().iter().copied().filter(|rule| !found.contains(rule)).collect();
        assert_eq!(ids, expected, "{unchecked:?}");
    }
}

/// Rules that cannot be checked in a namespace of this kernel: before Linux 6.1 the size of the table of connections, of which the
/// default of tcp_max_tw_buckets is half, can be told from the sysctls of the first namespace alone.
fn unchecked_here() -> &'static [&'static str] {
    if Path::new("/proc/sys/net/ipv4/tcp_ehash_entries").exists() { &[] } else { &["TW-010"] }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("diagnose").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn judge(child: Child) -> Said {
    let output = child.wait_with_output().expect("its end");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let status = output.status.code().expect("it was not killed");
    let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    Said { status, report }
}

/// Asks the daemon behind `socket` about the last two seconds or more.
fn ask(netns: &Netns, socket: &str, root: &str) -> Said {
    let mut command = command(&["--json", "--socket", socket, "--for", "2s", "--root", root]);
    judge(netns.run(|| command.spawn()).expect("the program starts"))
}

/// The same again and again until `id` is found: ports are counted by the census, which comes seldom on a busy machine.
fn ask_until(id: &str, netns: &Netns, socket: &str, root: &str) -> Said {
    let give_up = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let said = ask(netns, socket, root);
        if said.ids().contains(&id) || std::time::Instant::now() > give_up {
            return said;
        }
    }
}

/// Watches by itself, and calls `trouble` in the namespace again and again meanwhile.
fn watch(netns: &Netns, root: &str, mut trouble: impl FnMut() + Send) -> Said {
    let mut command = command(&["--json", "--socket", "", "--for", "3s", "--root", root]);
    let mut child = netns.run(|| command.spawn()).expect("the program starts");
    netns.run(|| {
        while child.try_wait().expect("our child").is_none() {
            trouble();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    judge(child)
}

fn start(netns: &Netns, socket: &str) -> Daemon {
    let daemon = Daemon::start(netns, &["--socket", socket]);
    lab::wait_until("the local socket", Duration::from_secs(5), || Path::new(socket).exists());
    daemon
}

const SERVICE: u16 = 4000;

fn service() -> SocketAddr {
    Family::V4.loopback(1, SERVICE)
}

/// One connection that the client closes first.
fn client_closes(listener: &TcpListener) {
    let (client, server) = pair(listener);
    drop(client);
    read_to_end(&server);
}

#[test]
fn a_host_in_order_gets_one_line_and_status_0() {
    let (netns, directory) = (Netns::new(), Directory::new("order"));
    let socket = directory.path("s.sock");
    let daemon = start(&netns, &socket);
    netns.run(|| {
        let listener = listen(service());
        (0..500).for_each(|_| client_closes(&listener));
    });
    // A census that began before the last of them turned from FIN_WAIT2 has fewer; the second one from now began later.
    let mut scraper = Scraper::connect(&netns);
    (0..2).for_each(|_| drop(after_next_census(&mut scraper)));
    // In a process namespace of its own it sees no other network namespaces.
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(program());
    command.args(["diagnose", "--for", "2s", "--socket", &socket, "--root", &directory.root()]);
    let output = netns.run(|| command.output()).expect("util-linux");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    // One line; two more name what could not be checked.
    let (first, lines) = if unchecked_here().is_empty() { ("all in order: ", 1) } else { ("nothing found: ", 3) };
    assert_eq!(stdout.lines().count(), lines, "{stdout}");
    // Those of the questions whether the daemon is ready come on top.
    let sockets = stdout.strip_prefix(first).and_then(|rest| rest.split_once(" sockets in TIME_WAIT, "));
    let sockets: u64 = sockets.and_then(|(number, _)| number.parse().ok()).unwrap_or_else(|| panic!("{stdout}"));
    assert!((500..520).contains(&sockets), "{stdout}");
    daemon.stop();
    assert!(!Path::new(&socket).exists(), "the socket is gone with the daemon");
}

#[test]
fn one_destination_is_driven_past_the_knee_and_then_out_of_ports() {
    const PORTS: usize = 1000;
    let (netns, directory) = (Netns::new(), Directory::new("ports"));
    let (socket, root) = (directory.path("s.sock"), directory.root());
    netns.sysctl("net.ipv4.ip_local_port_range", "40000 40999");
    netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
    let daemon = start(&netns, &socket);
    let listener = netns.run(|| listen(service()));
    netns.run(|| (0..PORTS * 45 / 100).for_each(|_| client_closes(&listener)));
    let said = ask_until("TW-002", &netns, &socket, &root);
    said.check("TW-002", "warning", &[&service().to_string(), "450", "tcp_fin_timeout: does not shorten TIME_WAIT"]);
    assert!(!said.ids().contains(&"TW-003"), "{:#}", said.report);

    netns.run(|| {
        (PORTS * 45 / 100..PORTS).for_each(|_| client_closes(&listener));
        (0..7).for_each(|_| connect_fails(service(), libc::EADDRNOTAVAIL));
    });
    let said = ask_until("TW-003", &netns, &socket, &root);
    let title = format!("no local port left: 7 connects failed, first to {}", service());
    said.check("TW-003", "critical", &[&title, "1000"]);
    assert_eq!(said.findings()[0]["id"], "TW-003", "the worst comes first: {:#}", said.report);
    daemon.stop();
}

#[test]
fn sockets_that_the_application_does_not_close_are_a_leak() {
    let (netns, directory) = (Netns::new(), Directory::new("leak"));
    let listener = netns.run(|| listen(service()));
    let mut leaked = Vec::new();
    let mut leak = || {
        let (client, server) = pair(&listener);
        drop(client);
        wait_state(&server, CLOSE_WAIT);
        leaked.push(server);
    };
    netns.run(|| (0..5).for_each(|_| leak()));
    let said = watch(&netns, &directory.root(), leak);
    said.check("CW-001", "warning", &["does not close", "in CLOSE_WAIT", "no kernel timer ends CLOSE_WAIT"]);
}

#[test]
fn copied_advice_is_found_with_file_and_line() {
    let (netns, directory) = (Netns::new(), Directory::new("folklore"));
    let root = directory.root();
    let text = "# from a blog\nnet.ipv4.tcp_tw_recycle = 1\nnet.ipv4.tcp_fin_timeout = 15\n";
    std::fs::write(Path::new(&root).join("etc/sysctl.d/99-tuning.conf"), text).expect("a file");
    let said = watch(&netns, &root, || {});
    said.check("TW-010", "warning", &["/etc/sysctl.d/99-tuning.conf:2", "tcp_tw_recycle"]);
}

#[test]
fn a_full_accept_queue_is_named() {
    let (netns, directory) = (Netns::new(), Directory::new("backlog"));
    let listener = netns.run(|| listen_with(service(), 2));
    let mut waiting = Vec::new();
    let said = watch(&netns, &directory.root(), || {
        if waiting.len() < 8 {
            waiting.push(connect_nonblocking(service()));
        }
    });
    said.check("HS-003", "warning", &[&format!("accept queue of {}", service()), "accept faster"]);
    drop(listener);
}

#[test]
fn resets_instead_of_closes_are_told_and_no_alarm() {
    let (netns, directory) = (Netns::new(), Directory::new("resets"));
    let listener = netns.run(|| listen(service()));
    let said = watch(&netns, &directory.root(), || {
        let (client, server) = pair(&listener);
        reset(client);
        read_reset(&server);
    });
    said.check("RS-001", "info", &["SO_LINGER", "of connections end in a reset"]);
    assert_eq!((said.ids(), said.status), (vec!["RS-001"], 0), "{:#}", said.report);
}

#[test]
fn without_rights_or_an_answer_it_says_why_and_ends_with_2() {
    let (netns, directory) = (Netns::new(), Directory::new("refused"));
    let path = directory.path("s.sock");
    let check = |arguments: &[&str], expected: &str| {
        let mut command = command(arguments);
        let output = netns.run(|| command.output()).expect("the program starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), stdout.as_ref()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    };
    // Somebody listens and never answers.
    let deaf = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    deaf.bind(&SockAddr::unix(&path).expect("a path")).expect("bind");
    deaf.listen(1).expect("listen");
    check(&["--socket", &path], "does not answer");
    drop(deaf);
    check(&["--config.file", "/nonexistent"], "cannot read configuration file /nonexistent");
    let second = Daemon::start(&netns, &["--socket", &path]);
    let mut command = Command::new(program());
    command.args(["run", "--web.listen-address", "127.0.0.1:10061", "--socket", &path]);
    let output = netns.run(|| command.output()).expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("is served by another synfin daemon"), "{stderr}");
    let mut check = Command::new(program());
    check.args(["check", "--socket", &path, "--web.listen-address", ADDRESS]);
    let output = netns.run(|| check.output()).expect("the program starts");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains(&format!("{ADDRESS} is in use, and a synfin daemon is running")), "{table}");
    second.stop();
}
