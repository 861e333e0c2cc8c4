//! A healthy busy host: 60,000 clean connections at full speed raise no alarm, asked of the daemon or watched alone.

mod lab;

use std::time::Duration;

use lab::diagnosis::*;
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;

const CONNECTIONS: u64 = 60_000;
/// So many that none takes a quarter of the ports, though all stay in TIME_WAIT.
const DESTINATIONS: u8 = 12;

/// At full speed, the client first, over several destinations.
fn clients_close(netns: &Netns, connections: u64) {
    let each = connections / u64::from(DESTINATIONS);
    std::thread::scope(|scope| {
        for host in 0..DESTINATIONS {
            scope.spawn(move || {
                netns.enter();
                let listener = listen(Family::V4.loopback(30 + host, 4001));
                for _ in 0..each {
                    let (client, server) = pair(&listener);
                    drop(client);
                    read_to_end(&server);
                }
            });
        }
    });
}

/// Nothing but information, and status 0.
#[track_caller]
fn check_quiet(said: &Said) {
    let severities: Vec<_> = said.findings().iter().map(|finding| &finding["severity"]).collect();
    assert!(severities.iter().all(|severity| *severity == "info"), "{:#}", said.report);
    assert_eq!(said.status, 0, "{:#}", said.report);
    assert_eq!(said.report["unchecked"], serde_json::Value::Array(vec![]));
}

#[test]
fn a_daemon_sees_60_000_clean_connections_and_raises_no_alarm() {
    let rig = Rig::new("healthy", &[]);
    // The server closes first: few destinations will do, since the clients' ports are free at once.
    let (_, took) = lab::load::run(&rig.netns, CONNECTIONS);
    eprintln!("{CONNECTIONS} connections in {took:?}");
    let said = ask_for("60s", &rig.netns, &rig.socket, &rig.root);
    check_quiet(&said);
    std::thread::sleep(Duration::from_secs(1));
    let (status, text) = rig.text();
    assert_eq!(status, 0, "{text}");
    rig.daemon.stop();
}

#[test]
fn watching_alone_raises_no_alarm_either() {
    let (netns, directory) = (Netns::new(), Directory::new("alone"));
    let mut command = command(&["--json", "--socket", "", "--for", "8s", "--root", &directory.root()]);
    let child = netns.run(|| command.spawn()).expect("the program starts");
    std::thread::sleep(Duration::from_millis(1500));
    clients_close(&netns, CONNECTIONS);
    let said = judge(child);
    check_quiet(&said);
    let closed = said.report["facts"]["time_wait_sockets"].as_u64().expect("a number");
    assert!(closed > CONNECTIONS / 2, "the load came while it watched: {:#}", said.report);
}
