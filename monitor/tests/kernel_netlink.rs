//! The census where the kernel has no `iter/tcp`: over netlink, with the same numbers.

mod lab;

use lab::daemon::{ADDRESS, Daemon, Scraper, program};
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::*;
use lab::time_wait::*;
use lab::{tables, wait_until};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PORT: u16 = 4000;

/// Type information of this kernel in which the iterator has another name; removed in the end.
struct Btf(PathBuf);

impl Btf {
    fn without_iterator() -> Self {
        let mut btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("the kernel's BTF");
        let name = b"\0bpf_iter_tcp\0";
        let places: Vec<usize> =
            btf.windows(name.len()).enumerate().filter(|(_, bytes)| bytes == name).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "the kernel has an iterator");
        places.into_iter().for_each(|at| btf[at + 1] = b'X');
        let path = std::env::temp_dir().join(format!("synfin-btf-{}", std::process::id()));
        std::fs::write(&path, btf).expect("a file for the BTF");
        Self(path)
    }
}

impl Drop for Btf {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn without_the_iterator_sockets_are_counted_over_netlink() {
    let btf = Btf::without_iterator();
    let netns = Netns::new();
    let address = |family: Family, port| -> SocketAddr { family.loopback(1, port) };
    netns.ip(&format!("-6 addr add {}/128 dev lo", Family::V6.loopback(1, 0).ip()));
    let _held = netns.run(|| {
        let (mut held, mut listeners) = (Vec::new(), Vec::new());
        for (family, port) in [(Family::V4, PORT), (Family::V6, PORT + 1)] {
            let listener = listen(address(family, port));
            connections(&listener, First::Client, 5);
            // Closed by the client: small FIN_WAIT2 here, CLOSE_WAIT there.
            held.extend((0..3).map(|_| (None, pair(&listener).1)));
            held.extend((0..2).map(|_| pair(&listener)).map(|(client, server)| (Some(client), server)));
            listeners.push(listener);
        }
        (listeners, held)
    });
    let mut command = Command::new(program());
    command.args(["run", "--web.listen-address", ADDRESS, "--socket", "", "--btf"]).arg(&btf.0);
    let daemon = Daemon::spawn(&netns, command);
    daemon.wait_ready(&netns);
    let mut scraper = Scraper::connect(&netns);
    wait_until("the page says what ss says", Duration::from_secs(5), || {
        tables::gauges(&scraper.scrape()) == tables::ss(&netns)
    });
    let page = settled(&mut scraper);
    check_total(&netns, &page);
    let gauges = tables::gauges(&page);
    assert_eq!((gauges["close_wait"], gauges["fin_wait2"], gauges["listen"]), (6, 6, 3), "{gauges:?}");
    let of = |port, family| time_wait(&page, "client", &address(family, port).to_string(), "unknown");
    assert_eq!((of(PORT, Family::V4), of(PORT + 1, Family::V6)), (5, 5));
    // What comes later has its unit, and goes as before.
    netns.run(|| connections(&listen(address(Family::V4, PORT + 2)), First::Server, 4));
    let page = settled(&mut scraper);
    check_total(&netns, &page);
    let own = lab::cgroup::own_unit();
    assert_eq!(time_wait(&page, "server", &address(Family::V4, PORT + 2).to_string(), &own), 4);
    assert_eq!(tables::gauges(&page), tables::ss(&netns));
    let log = daemon.log();
    assert!(log.contains("over netlink") && log.contains("populations known"), "{log}");
}
