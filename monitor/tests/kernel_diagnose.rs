//! `synfin diagnose` against trouble made on purpose: each must be named, and a host in order must be called so.

mod lab;

use lab::daemon::{ADDRESS, Daemon, Scraper, after_next_census, program};
use lab::diagnosis::*;
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use socket2::SockAddr;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

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
    // In a process namespace of its own, without the names of iproute2, it sees no other network namespaces.
    const HIDDEN: &str = "if [ -d /run/netns ]; then mount -t tmpfs tmpfs /run/netns; fi; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", HIDDEN, "sh"]).arg(program());
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
    let said = ask_until("TW-002", &[], &netns, &socket, &root);
    said.check("TW-002", "warning", &[&service().to_string(), "450", "tcp_fin_timeout: does not shorten TIME_WAIT"]);
    assert!(!said.ids().contains(&"TW-003"), "{:#}", said.report);

    netns.run(|| {
        (PORTS * 45 / 100..PORTS).for_each(|_| client_closes(&listener));
        (0..7).for_each(|_| connect_fails(service(), libc::EADDRNOTAVAIL));
    });
    let said = ask_until("TW-003", &[], &netns, &socket, &root);
    let title = format!("no local port left: 7 connects to {} failed", service());
    said.check("TW-003", "critical", &[&title, "1000"]);
    let subject = &said.finding("TW-003")["subjects"][0];
    let fields = (&subject["role"], &subject["endpoint"], &subject["connections"]);
    assert_eq!(fields, (&"client".into(), &service().to_string().into(), &7.into()), "{subject:#}");
    assert!(subject["unit"].is_string(), "{subject:#}");
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
    // As many as there can be, so that there are no more of them: how old they are cannot be known.
    let said = watch(&netns, &directory.root(), || {});
    let held = format!("{} sockets in CLOSE_WAIT, the oldest for the whole look, age unknown", leaked.len());
    said.check("CW-001", "info", &[&held]);
    assert_eq!(said.status, 0, "{:#}", said.report);
    let subjects = said.finding("CW-001")["subjects"].as_array().expect("a list");
    let sockets: u64 = subjects.iter().filter_map(|subject| subject["sockets"].as_u64()).sum();
    assert_eq!(sockets, leaked.len() as u64, "{subjects:#?}");
}

#[test]
fn records_that_were_lost_are_told() {
    let rig = Rig::with("lost", &[], &["--ring-bytes", "4096"]);
    let (status, text) = rig.text();
    assert!(status == 0 && !text.contains("lost"), "{text}");
    rig.daemon.signal(libc::SIGSTOP);
    rig.netns.run(|| {
        let listener = listen(service());
        (0..1000).for_each(|_| client_closes(&listener));
    });
    rig.daemon.signal(libc::SIGCONT);
    let said = ask(&rig.netns, &rig.socket, &rig.root);
    let lost = said.report["facts"]["lost_records"].as_u64().expect("a number");
    assert!(lost > 100, "{:#}", said.report);
    let (_, text) = rig.text();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("lost in this window: counts from events are lower bounds"), "{text}");
    assert!(!text.contains("all in order"), "{text}");
    rig.daemon.stop();
}

#[test]
fn a_bad_night_fits_on_a_screen_and_is_told_whole_when_asked_for() {
    let rig = Rig::new("screen", &[("net.ipv4.ip_local_port_range", "40000 40999"), ("net.ipv4.tcp_tw_reuse", "0")]);
    let text = "net.ipv4.tcp_fin_timeout = 15   # fight TIME_WAIT\n";
    std::fs::write(Path::new(&rig.root).join("etc/sysctl.d/99-tuning.conf"), text).expect("a file");
    rig.netns.run(|| {
        let listener = listen(service());
        (0..450).for_each(|_| client_closes(&listener));
    });
    let said = ask_until("TW-002", &[], &rig.netns, &rig.socket, &rig.root);
    said.check("TW-010", "warning", &["tcp_fin_timeout = 15", "delete the line /etc/sysctl.d/99-tuning.conf:1"]);
    let run = |arguments: &[&str]| {
        let common = ["--socket", &rig.socket, "--for", "2s", "--root", &rig.root];
        let mut command = command(&[&common, arguments].concat());
        let output = rig.netns.run(|| command.output()).expect("the program starts");
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    };
    let page = run(&[]);
    assert!(page.lines().count() <= 23 && page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert!(page.contains("TW-002") && page.contains("TW-010") && page.contains("--details"), "{page}");
    let details = run(&["--details"]);
    assert!(details.contains("TW-002 warning: ") && details.contains("TW-010 warning: "), "{details}");
    assert!(details.contains("  PromQL   "), "{details}");
    let one = run(&["--explain", "TW-010"]);
    assert!(one.starts_with("TW-010 warning: ") && !one.contains("TW-002"), "{one}");
    rig.daemon.stop();
}

#[test]
fn without_a_cgroup_mount_it_is_said_once_that_units_have_no_name() {
    let (netns, directory) = (Netns::new(), Directory::new("nameless"));
    // As `ip netns exec` leaves it.
    const HIDDEN: &str = "umount -l /sys && mount -t sysfs sysfs /sys && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", HIDDEN, "sh"]).arg(program());
    command.args(["diagnose", "--for", "1s", "--socket", "", "--root", &directory.root()]);
    let output = netns.run(|| command.output()).expect("util-linux");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr.matches("no cgroup v2 mount is visible").count(), 1, "{stderr}");
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
    said.check("RS-001", "info", &["SO_LINGER", "of connections ended in a reset"]);
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

#[test]
fn a_socket_without_a_daemon_is_said_and_probes_are_attached_instead() {
    let (netns, directory) = (Netns::new(), Directory::new("nobody"));
    let root = directory.root();
    let stale = directory.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bind"));
    for path in [directory.path("missing.sock"), stale] {
        let mut command = command(&["--socket", &path, "--for", "1s", "--root", &root]);
        let output = netns.run(|| command.output()).expect("the program starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
        let said: Vec<&str> = stderr.lines().collect();
        assert_eq!(said[0], format!("synfin: no daemon answers at {path}; attaching probes of its own"), "{stderr}");
        assert_eq!(said[1..], ["synfin: watching for 1.0 s; what was before is not known"], "{stderr}");
        assert!(stdout.contains("over 1.") || stdout.contains("over the last 1."), "{stdout}");
    }
}

#[test]
fn who_may_not_ask_or_watch_is_told_why_in_one_line() {
    let (netns, directory) = (Netns::new(), Directory::new("rights"));
    let socket = directory.path("s.sock");
    let daemon = start(&netns, &socket);
    let check = |socket: &str, last: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"]).arg(program());
        command.args(["diagnose", "--for", "1s", "--socket", socket]);
        let output = netns.run(|| command.output()).expect("util-linux");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), stdout.as_ref()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(last), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    };
    check(&socket, "run this as root or as a member of the socket's group");
    check("", "CAP_BPF");
    daemon.stop();
}
