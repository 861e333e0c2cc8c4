//! The kernel's protocol counters: `/proc/net/snmp` and `/proc/net/netstat`, pairs of a line of names and a line of numbers.

use std::collections::HashMap;
use std::path::Path;

/// Counters by table and name (`TcpExt`, `ListenOverflows`). A few are gauges, and `Tcp MaxConn` is -1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snmp(HashMap<(String, String), i128>);

impl Snmp {
    /// Adds what `text` holds. A pair of lines that do not belong together, and a number that is none, are left out.
    pub fn parse(&mut self, text: &str) {
        let mut lines = text.lines();
        while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
            let (Some((table, names)), Some((same, numbers))) = (names.split_once(':'), numbers.split_once(':')) else {
                continue;
            };
            if table != same {
                continue;
            }
            for (name, number) in names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()) {
                if let Ok(number) = number.parse() {
                    self.0.insert((table.to_owned(), name.to_owned()), number);
                }
            }
        }
    }

    /// A counter; `None` when this kernel has none of that name.
    pub fn get(&self, table: &str, name: &str) -> Option<u64> {
        self.0.get(&(table.to_owned(), name.to_owned())).and_then(|&number| u64::try_from(number).ok())
    }

    /// A counter of the table `TcpExt`: `TCPTimeWaitOverflow`, `TW`, `TWRecycled`, `TWKilled`, `SyncookiesSent`,
    /// `SyncookiesRecv`, `ListenOverflows`, `ListenDrops`, `TCPAbortOnData`, ….
    pub fn tcp_ext(&self, name: &str) -> Option<u64> {
        self.get("TcpExt", name)
    }
}

/// Both files of the network namespace of a process; `process` is `/proc/self` or `/proc/<pid>`.
pub fn read_snmp(process: &Path) -> std::io::Result<Snmp> {
    let mut snmp = Snmp::default();
    for file in ["net/snmp", "net/netstat"] {
        snmp.parse(&std::fs::read_to_string(process.join(file))?);
    }
    Ok(snmp)
}

/// Counters of the table `TcpExt` in the text of `/proc/net/netstat`, in the order of `names`; `None` where this kernel has none of that
/// name. For those who look often: nothing else is kept.
pub fn parse_tcp_ext<const N: usize>(text: &str, names: [&str; N]) -> [Option<u64>; N] {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (header, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut found = [None; N];
    for (name, number) in header.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()) {
        if let Some(place) = names.iter().position(|wanted| *wanted == name) {
            found[place] = number.parse().ok();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_paired() {
        let mut snmp = Snmp::default();
        snmp.parse(concat!(
            "Tcp: RtoAlgorithm MaxConn ActiveOpens\n",
            "Tcp: 1 -1 420\n",
            "TcpExt: SyncookiesSent TW TWRecycled ListenOverflows\n",
            "TcpExt: 0 812 3 18446744073709551615\n",
            "IpExt: A B\n",
            "Other: 1 2\n",
            "Last: X\n",
        ));
        let check = |table, name, expected| assert_eq!(snmp.get(table, name), expected, "{table} {name}");
        check("Tcp", "ActiveOpens", Some(420));
        check("Tcp", "MaxConn", None);
        check("TcpExt", "TW", Some(812));
        check("TcpExt", "TWRecycled", Some(3));
        check("TcpExt", "SyncookiesSent", Some(0));
        check("TcpExt", "ListenOverflows", Some(u64::MAX));
        check("TcpExt", "TCPTimeWaitOverflow", None);
        check("IpExt", "A", None);
        check("Last", "X", None);
    }

    #[test]
    fn a_few_counters_are_the_same_as_all() {
        let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap();
        let names = ["ListenDrops", "NoSuchCounter", "TCPTimeWaitOverflow"];
        let [drops, none, overflow] = parse_tcp_ext(&text, names);
        assert!(drops.is_some() && overflow.is_some() && none.is_none());
        assert_eq!(
            parse_tcp_ext("TcpExt: A B\nTcpExt: 1 x\nIpExt: C\nIpExt: 3\n", ["B", "C", "A"]),
            [None, None, Some(1)]
        );
        assert_eq!(parse_tcp_ext("", ["A"]), [None]);
    }

    #[test]
    fn the_live_files_have_what_the_daemon_asks_for() {
        let snmp = read_snmp(Path::new("/proc/self")).unwrap();
        for name in [
            "TCPTimeWaitOverflow",
            "TW",
            "TWRecycled",
            "TWKilled",
            "SyncookiesSent",
            "SyncookiesRecv",
            "ListenOverflows",
            "ListenDrops",
            "TCPAbortOnData",
        ] {
            assert!(snmp.tcp_ext(name).is_some(), "{name}");
        }
        assert!(snmp.get("Tcp", "ActiveOpens").is_some());
    }
}
