//! The kernel's socket tables as other tools count them: `ss` by state, and `sockstat`.

use super::netns::Netns;
use super::page::Page;
use std::collections::BTreeMap;

/// Label of a state, and what `ss` calls it.
const STATES: [(&str, &str); 11] = [
    ("established", "ESTAB"),
    ("syn_sent", "SYN-SENT"),
    ("syn_recv", "SYN-RECV"),
    ("fin_wait1", "FIN-WAIT-1"),
    ("fin_wait2", "FIN-WAIT-2"),
    ("time_wait", "TIME-WAIT"),
    ("close", "UNCONN"),
    ("close_wait", "CLOSE-WAIT"),
    ("last_ack", "LAST-ACK"),
    ("listen", "LISTEN"),
    ("closing", "CLOSING"),
];

/// Sockets by label of their state, as `ss -tan` counts them; states without sockets read 0.
pub fn ss(netns: &Netns) -> BTreeMap<&'static str, u64> {
    let lines = netns.command("ss -tanH");
    let mut counts: BTreeMap<&str, u64> = STATES.iter().map(|(label, _)| (*label, 0)).collect();
    for line in lines.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        let (label, _) = STATES.iter().find(|(_, ss)| *ss == word).unwrap_or_else(|| panic!("a state of ss: {line}"));
        *counts.entry(label).or_default() += 1;
    }
    counts
}

/// The same from the daemon's page.
pub fn gauges(page: &Page) -> BTreeMap<&'static str, u64> {
    let gauge = |label| page.value(&format!("synfin_tcp_sockets{{state=\"{label}\"}}")) as u64;
    STATES.iter().map(|(label, _)| (*label, gauge(label))).collect()
}

/// TIME_WAIT and FIN_WAIT2: between censuses a page may take some of one for the other, since a turn has no event.
pub fn small(states: &BTreeMap<&str, u64>) -> u64 {
    states["time_wait"] + states["fin_wait2"]
}

/// A counter of /proc/net/netstat (`TcpExt`), as nstat shows it.
pub fn netstat(netns: &Netns, name: &str) -> u64 {
    let text = netns.proc("net/netstat");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let place = names.split(' ').position(|word| word == name).unwrap_or_else(|| panic!("no {name}"));
    values.split(' ').nth(place).expect("a value for each name").parse().expect("a number")
}

/// `tw` of sockstat: small sockets of both substates, FIN_WAIT2 and TIME_WAIT, of both families.
pub fn sockstat_tw(netns: &Netns) -> u64 {
    let text = netns.proc("net/sockstat");
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).expect("the TCP line of sockstat");
    let words: Vec<&str> = tcp.split_whitespace().collect();
    let tw = words.iter().position(|word| *word == "tw").expect("tw in sockstat");
    words[tw + 1].parse().expect("a number behind tw")
}

/// Sockets of one namespace by label of their state, from the page of a daemon that watches all.
pub fn namespace_gauges(page: &Page, namespace: &str) -> BTreeMap<&'static str, u64> {
    let series = |label| format!("synfin_tcp_namespace_sockets{{namespace=\"{namespace}\",state=\"{label}\"}}");
    STATES.iter().map(|(label, _)| (*label, page.value(&series(label)) as u64)).collect()
}

/// A counter of the table TcpExt, as `nstat` reads it.
pub fn tcp_ext(netns: &Netns, counter: &str) -> u64 {
    let text = netns.proc("net/netstat");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next().expect("names of TcpExt"), lines.next().expect("values of TcpExt"));
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = pairs.find(|(name, _)| *name == counter).unwrap_or_else(|| panic!("no {counter} in TcpExt"));
    value.parse().expect("a number")
}
