//! The sysctls that decide about ports, TIME_WAIT and handshakes (Documentation/networking/ip-sysctl.rst).

use std::path::Path;

/// Ports from `low` to `high`, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub low: u16,
    pub high: u16,
}

impl PortRange {
    /// `32768 60999`, in any white space.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(low)), Some(Ok(high)), None) if low <= high => Some(Self { low, high }),
            _ => None,
        }
    }

    /// Number of ports in it.
    pub fn len(self) -> u32 {
        u32::from(self.high) - u32::from(self.low) + 1
    }

    /// Never: a range holds at least one port.
    pub fn is_empty(self) -> bool {
        false
    }
}

/// A set of ports as `ip_local_reserved_ports` lists it: ascending, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRanges(pub Vec<PortRange>);

impl PortRanges {
    /// `8080,9000-9100`; the empty text is the empty set.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let part = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let range = PortRange { low: low.parse().ok()?, high: high.parse().ok()? };
            (range.low <= range.high).then_some(range)
        };
        match text {
            "" => Some(Self::default()),
            text => text.split(',').map(part).collect::<Option<_>>().map(Self),
        }
    }

    /// How many of its ports lie in `range`.
    pub fn within(&self, range: PortRange) -> u32 {
        let overlap =
            |r: &PortRange| (u32::from(r.high.min(range.high)) + 1).saturating_sub(u32::from(r.low.max(range.low)));
        self.0.iter().map(overlap).sum()
    }
}

/// `net.ipv4.*` and `net.core.somaxconn` of one network namespace; `None` where the kernel has no such key or hides it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    pub ip_local_port_range: Option<PortRange>,
    pub ip_local_reserved_ports: Option<PortRanges>,
    /// TIME_WAIT sockets beyond it are destroyed at once.
    pub tcp_max_tw_buckets: Option<u64>,
    /// 0 never, 1 always, 2 on loopback only.
    pub tcp_tw_reuse: Option<u8>,
    /// Milliseconds; newer kernels only.
    pub tcp_tw_reuse_delay: Option<u64>,
    /// Removed in Linux 4.12.
    pub tcp_tw_recycle: Option<u8>,
    /// Seconds that an orphan may stay in FIN_WAIT2; no bound on TIME_WAIT.
    pub tcp_fin_timeout: Option<u64>,
    /// 0 off, 1 on with random offset, 2 on without.
    pub tcp_timestamps: Option<u8>,
    /// 0 off, 1 under pressure, 2 always.
    pub tcp_syncookies: Option<u8>,
    /// Bits: 1 client, 2 server, and more.
    pub tcp_fastopen: Option<u64>,
    /// Bound of every accept queue.
    pub somaxconn: Option<u64>,
    pub tcp_max_syn_backlog: Option<u64>,
    pub tcp_abort_on_overflow: Option<u8>,
    /// Orphans beyond it are reset.
    pub tcp_max_orphans: Option<u64>,
}

impl Sysctls {
    /// Size of the ephemeral range less the reserved ports in it.
    pub fn ephemeral_ports_available(&self) -> Option<u32> {
        let range = self.ip_local_port_range?;
        let reserved = self.ip_local_reserved_ports.as_ref().map_or(0, |ports| ports.within(range));
        Some(range.len().saturating_sub(reserved))
    }
}

/// One key (`net.ipv4.tcp_tw_reuse`) below `root` (`/proc/sys`); `None` when it is absent or cannot be read.
pub fn read_sysctl(root: &Path, key: &str) -> Option<String> {
    std::fs::read_to_string(root.join(key.replace('.', "/"))).ok().map(|text| text.trim_end().to_owned())
}

/// Those of the reader's own network namespace; `root` is `/proc/sys`.
pub fn read_sysctls(root: &Path) -> Sysctls {
    fn number<T: std::str::FromStr>(root: &Path, key: &str) -> Option<T> {
        read_sysctl(root, key)?.parse().ok()
    }
    Sysctls {
        ip_local_port_range: read_sysctl(root, "net.ipv4.ip_local_port_range").and_then(|text| PortRange::parse(&text)),
        ip_local_reserved_ports: read_sysctl(root, "net.ipv4.ip_local_reserved_ports")
            .and_then(|text| PortRanges::parse(&text)),
        tcp_max_tw_buckets: number(root, "net.ipv4.tcp_max_tw_buckets"),
        tcp_tw_reuse: number(root, "net.ipv4.tcp_tw_reuse"),
        tcp_tw_reuse_delay: number(root, "net.ipv4.tcp_tw_reuse_delay"),
        tcp_tw_recycle: number(root, "net.ipv4.tcp_tw_recycle"),
        tcp_fin_timeout: number(root, "net.ipv4.tcp_fin_timeout"),
        tcp_timestamps: number(root, "net.ipv4.tcp_timestamps"),
        tcp_syncookies: number(root, "net.ipv4.tcp_syncookies"),
        tcp_fastopen: number(root, "net.ipv4.tcp_fastopen"),
        somaxconn: number(root, "net.core.somaxconn"),
        tcp_max_syn_backlog: number(root, "net.ipv4.tcp_max_syn_backlog"),
        tcp_abort_on_overflow: number(root, "net.ipv4.tcp_abort_on_overflow"),
        tcp_max_orphans: number(root, "net.ipv4.tcp_max_orphans"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_read() {
        let check = |text: &str, expected: Option<(u16, u16)>| {
            assert_eq!(PortRange::parse(text), expected.map(|(low, high)| PortRange { low, high }), "{text:?}");
        };
        check("32768\t60999\n", Some((32768, 60999)));
        check("1 65535", Some((1, 65535)));
        check("7 7", Some((7, 7)));
        check("9 8", None);
        check("1 70000", None);
        check("1", None);
        check("1 2 3", None);
        check("", None);
    }

    #[test]
    fn reserved_ports_are_subtracted_where_they_lie_in_the_range() {
        let check = |reserved: &str, available: Option<u32>| {
            let sysctls = Sysctls {
                ip_local_port_range: PortRange::parse("32768 60999"),
                ip_local_reserved_ports: PortRanges::parse(reserved),
                ..Sysctls::default()
            };
            assert_eq!(sysctls.ephemeral_ports_available(), available, "{reserved:?}");
        };
        check("", Some(28_232));
        check("\n", Some(28_232));
        check("8080", Some(28_232));
        check("32768", Some(28_231));
        check("32000-32999", Some(28_000));
        check("8080,40000-40009,60999-61500", Some(28_232 - 10 - 1));
        check("1-65535", Some(0));
    }

    #[test]
    fn a_broken_list_is_no_list() {
        let check = |text: &str| assert_eq!(PortRanges::parse(text), None, "{text:?}");
        check("a");
        check("1,");
        check("5-4");
        check("1-2-3");
        check("70000");
    }

    #[test]
    fn without_a_range_nothing_is_known_of_ports() {
        assert_eq!(Sysctls::default().ephemeral_ports_available(), None);
    }

    #[test]
    fn the_live_files_are_read_and_absent_ones_are_none() {
        let found = read_sysctls(Path::new("/proc/sys"));
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        assert_eq!(found.ip_local_port_range, PortRange::parse(&range));
        assert!(found.tcp_max_tw_buckets.is_some() && found.tcp_tw_reuse.is_some_and(|value| value <= 2));
        assert!(found.somaxconn.is_some() && found.tcp_fin_timeout.is_some() && found.tcp_syncookies.is_some());
        assert!(
            found.tcp_timestamps.is_some() && found.tcp_fastopen.is_some() && found.tcp_abort_on_overflow.is_some()
        );
        assert_eq!(found.tcp_tw_recycle, None, "removed in 4.12");
        assert_eq!(read_sysctls(Path::new("/nonexistent")), Sysctls::default());
    }
}
