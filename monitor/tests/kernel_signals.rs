//! Signals: what SIGHUP changes in a running daemon, what comes before it is up, and commands in the foreground.

mod lab;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::daemon::{ADDRESS, Daemon, Scraper, after_next_census, program};
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::{listen, pair, read_to_end};
use lab::wait_until;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("synfin-signals-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a temporary directory");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Connections to `hosts` listeners of the loopback, each closed by its client.
fn live(netns: &Netns, hosts: std::ops::Range<u8>) {
    netns.run(|| {
        for host in hosts {
            let listener = listen(Family::V4.loopback(host, 4000));
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
        }
    });
}

/// Values of labels that name an address or a port of the lab, by metric, each once.
fn endpoints(page: &str) -> Vec<String> {
    let mut found: Vec<String> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| {
            let values =
                line.split('"').skip(1).step_by(2).filter(|value| value.contains("127.") || value.contains(":4000"));
            values.map(|value| format!("{} {value}", line.split('{').next().unwrap_or_default())).collect::<Vec<_>>()
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn said(daemon: &Daemon, words: &str) {
    wait_until(words, Duration::from_secs(10), || daemon.log().contains(words));
}

#[test]
fn what_sighup_says_changes_now_has_changed() {
    let (netns, directory) = (Netns::new(), Directory::new("reload"));
    let file = directory.path("synfin.toml");
    std::fs::write(&file, "").expect("a file");
    let daemon = Daemon::start(&netns, &["--socket=", "--config.file", file.to_str().expect("a plain name")]);
    live(&netns, 1..4);
    let mut scraper = Scraper::connect(&netns);
    let before = after_next_census(&mut scraper);
    let closed = before.sum("synfin_tcp_endpoint_closes_total", &[]);
    let named = endpoints(&scraper.scrape_text());
    for metric in ["synfin_tcp_endpoint_closes_total", "synfin_time_wait_sockets", "synfin_ephemeral_ports_used"] {
        let name = format!("{metric} {}", Family::V4.loopback(1, 4000));
        assert!(named.contains(&name), "{name} is not on the page: {named:#?}");
    }

    std::fs::write(&file, "[metrics]\nendpoints = \"none\"\ntop = 1\n[census]\ninterval = \"7s\"\n").expect("a file");
    daemon.signal(libc::SIGHUP);
    said(&daemon, "configuration read again");
    for key in ["metrics.endpoints", "metrics.top", "census.interval"] {
        assert!(daemon.log().lines().any(|line| line.contains("setting changes now") && line.contains(key)), "{key}");
    }
    let text = scraper.scrape_text();
    assert_eq!(endpoints(&text), [""; 0], "addresses are still on the page");
    let page = scraper.scrape();
    assert_eq!(page.value("synfin_census_interval_seconds"), 7.0);
    let still_closed = page.sum("synfin_tcp_endpoint_closes_total", &[]);
    assert!(still_closed >= closed, "closes went back from {closed} to {still_closed}");
    let rows = |metric: &str| text.lines().filter(|line| line.starts_with(metric)).count();
    assert_eq!(rows("synfin_time_wait_sockets{"), 1 + 3, "one row, and the rest of each role");
    assert_eq!(rows("synfin_listener_backlog_sockets{"), 1 + 1);
    daemon.stop();
}

#[test]
fn a_refused_file_is_no_success() {
    let (netns, directory) = (Netns::new(), Directory::new("refused"));
    let file = directory.path("synfin.toml");
    std::fs::write(&file, "").expect("a file");
    let daemon = Daemon::start(&netns, &["--socket=", "--config.file", file.to_str().expect("a plain name")]);
    std::fs::write(&file, "[metrics]\ntop = \"many\"\n").expect("a file");
    daemon.signal(libc::SIGHUP);
    said(&daemon, "configuration not reloaded, the old one stays in force");
    daemon.signal(libc::SIGTERM);
    let (status, _, log) = daemon.wait(Duration::from_secs(10));
    assert!(status.success() && !log.contains("configuration read again"), "{status}\n{log}");
}

/// The local socket is made just before the probes are loaded, which takes the longest of the start.
#[test]
fn a_signal_while_the_daemon_starts_is_heeded_as_later() {
    let (netns, directory) = (Netns::new(), Directory::new("early"));
    let socket = directory.path("s");
    let start = || {
        let mut command = Command::new(program());
        command.args(["run", "--web.listen-address", ADDRESS, "--socket"]).arg(&socket);
        let daemon = Daemon::spawn(&netns, command);
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            assert!(std::time::Instant::now() < limit && !daemon.has_ended(), "{}", daemon.log());
            std::thread::yield_now();
        }
        daemon
    };
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let daemon = start();
        daemon.signal(signal);
        let (status, _, log) = daemon.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(0), "signal {signal}: {status}\n{log}");
        assert!(!socket.exists(), "the local socket stays behind");
    }
    let daemon = start();
    daemon.signal(libc::SIGHUP);
    daemon.wait_ready(&netns);
    said(&daemon, "configuration read again");
    daemon.stop();
}

/// `synfin record` in the namespace, once its file has a head.
fn record(netns: &Netns, file: &Path, hangup_ignored: bool) -> Daemon {
    let mut command = Command::new(program());
    command.arg("record").arg(file);
    // Whoever runs the tests may ignore it.
    let action = if hangup_ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    let set = move || {
        // SAFETY: signal(2) takes plain numbers and may be called between fork and exec.
        unsafe { libc::signal(libc::SIGHUP, action) };
        Ok(())
    };
    // SAFETY: the closure only calls what may be called between fork and exec.
    unsafe { command.pre_exec(set) };
    let recorder = Daemon::spawn(netns, command);
    wait_until("a file with a head", Duration::from_secs(20), || {
        assert!(!recorder.has_ended(), "{}", recorder.log());
        std::fs::metadata(file).is_ok_and(|file| file.len() > 12)
    });
    recorder
}

fn replay(file: &Path) -> (Option<i32>, usize, String) {
    let Output { status, stdout, stderr } = Command::new(program()).arg("replay").arg(file).output().expect("synfin");
    let lines = String::from_utf8_lossy(&stdout).lines().count().saturating_sub(1);
    (status.code(), lines, String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn a_record_survives_its_terminal() {
    let (netns, directory) = (Netns::new(), Directory::new("hangup"));
    let file = directory.path("r");
    let recorder = record(&netns, &file, false);
    live(&netns, 1..4);
    recorder.signal(libc::SIGHUP);
    let (status, _, log) = recorder.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}\n{log}");
    assert_eq!(replay(&file), (Some(0), 6, String::new()));

    let recorder = record(&netns, &directory.path("n"), true);
    recorder.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!recorder.has_ended(), "nohup(1) is not heeded");
    recorder.stop();
}

#[test]
fn what_a_killed_record_has_seen_can_be_replayed() {
    let (netns, directory) = (Netns::new(), Directory::new("kill"));
    let file = directory.path("r");
    let recorder = record(&netns, &file, false);
    live(&netns, 1..4);
    let mut found = None;
    wait_until("the connections in the file while the recorder runs", Duration::from_secs(10), || {
        found = Some(replay(&file));
        found.as_ref().is_some_and(|(_, lines, _)| *lines == 6)
    });
    recorder.signal(libc::SIGKILL);
    drop(recorder);
    let (status, lines, stderr) = replay(&file);
    assert_eq!((status, lines), (Some(2), 6), "{stderr}");
    assert!(stderr.contains("it was cut short"), "{stderr}");
}
