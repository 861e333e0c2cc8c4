//! `--netns all`: every namespace of the host is counted and walked.

mod lab;

use std::time::Instant;

use lab::daemon::{CENSUS, Daemon, Scraper, after_next_census};
use lab::netns::Netns;
use lab::place::Family;
use lab::sockets::{listen, pair};

const CONNECTIONS: usize = 7;

/// A process that keeps the namespace in sight: one that only a descriptor holds is in no list of the kernel.
struct Inhabitant(std::process::Child);

impl Inhabitant {
    fn of(netns: &Netns) -> Self {
        Self(netns.run(|| std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts")))
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_of_another_namespace_are_in_totals_and_populations() {
    let (here, there) = (Netns::new(), Netns::new());
    let _inhabitant = Inhabitant::of(&there);
    let daemon = Daemon::start(&here, &["--netns", "all", "--socket", ""]);
    let mut scraper = Scraper::connect(&here);
    let before = after_next_census(&mut scraper);
    let held: Vec<_> = there.run(|| {
        let listener = listen(Family::V4.loopback(1, 4000));
        (0..CONNECTIONS).map(|_| pair(&listener)).collect()
    });
    let established = "synfin_tcp_sockets{state=\"established\"}";
    // The rest of the host has connections too, which come and go.
    let give_up = Instant::now() + CENSUS;
    loop {
        let page = after_next_census(&mut scraper);
        let change = page.value(established) - before.value(established);
        let opened = page.since(&before).value("synfin_tcp_connections_opened_total{role=\"server\"}");
        if change == 2.0 * CONNECTIONS as f64 && opened >= CONNECTIONS as f64 {
            break;
        }
        assert!(Instant::now() < give_up, "{change} more established, {opened} opened as server\n{}", daemon.log());
    }
    drop(held);
    daemon.stop();
}
