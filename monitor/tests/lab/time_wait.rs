//! TIME_WAIT made on purpose, and what a page says of it.

use super::daemon::{Scraper, after_next_census};
use super::netns::Netns;
use super::page::Page;
use super::sockets::{pair, read_to_end};
use super::tables;
use std::net::TcpListener;
use std::time::Duration;

/// Which side closes first.
#[derive(Clone, Copy, PartialEq)]
pub enum First {
    Client,
    Server,
}

/// A whole connection, closed in order.
pub fn connect_and_close(listener: &TcpListener, first: First) {
    let (client, server) = pair(listener);
    let (early, late) = if first == First::Client { (client, server) } else { (server, client) };
    drop(early);
    read_to_end(&late);
}

pub fn connections(listener: &TcpListener, first: First, count: usize) {
    (0..count).for_each(|_| connect_and_close(listener, first));
}

/// Sockets of one maker.
pub fn time_wait(page: &Page, role: &str, endpoint: &str, unit: &str) -> u64 {
    let series = format!("synfin_time_wait_sockets{{endpoint=\"{endpoint}\",role=\"{role}\",unit=\"{unit}\"}}");
    page.0.get(&series).copied().unwrap_or(0.0) as u64
}

/// Sockets of all makers.
pub fn makers(page: &Page) -> u64 {
    page.sum("synfin_time_wait_sockets", &[]) as u64
}

/// Ends: expired, reused, unknown.
pub fn left(page: &Page) -> [u64; 3] {
    ["expired", "reused", "unknown"]
        .map(|reason| page.value(&format!("synfin_time_wait_left_total{{reason=\"{reason}\"}}")) as u64)
}

/// The same since `before`.
pub fn left_since(page: &Page, before: &Page) -> [u64; 3] {
    let (now, then) = (left(page), left(before));
    std::array::from_fn(|at| now[at] - then[at])
}

/// Entries of all makers.
pub fn entered(page: &Page) -> u64 {
    page.sum("synfin_time_wait_entered_total", &[]) as u64
}

/// The sum over makers is the number of sockets, as the page, `ss` and `sockstat` say it; both kinds of small sockets are told apart.
/// Nothing may move meanwhile. Gives the number.
#[track_caller]
pub fn check_makers(netns: &Netns, page: &Page) -> u64 {
    let (sum, gauges, ss) = (makers(page), tables::gauges(page), tables::ss(netns));
    assert_eq!(sum, gauges["time_wait"], "makers and synfin_tcp_sockets");
    assert_eq!(sum, ss["time_wait"], "makers and ss");
    assert_eq!(gauges["fin_wait2"], ss["fin_wait2"], "FIN_WAIT2 and ss");
    let tw = tables::sockstat_tw(netns);
    assert!((sum..=sum + ss["fin_wait2"]).contains(&tw), "{sum} and {} of ss, {tw} of sockstat", ss["fin_wait2"]);
    sum
}

/// The same, and by remaining time, which is as of the last census: nothing may have moved since it.
#[track_caller]
pub fn check_total(netns: &Netns, page: &Page) -> u64 {
    let sum = check_makers(netns, page);
    let remaining = page.sum("synfin_time_wait_remaining_sockets", &[]) as u64;
    assert_eq!(remaining, sum, "by remaining time");
    sum
}

/// A page of a census that began after now, so that small sockets have turned and are counted.
pub fn settled(scraper: &mut Scraper) -> Page {
    std::thread::sleep(Duration::from_millis(100));
    after_next_census(scraper);
    after_next_census(scraper)
}
