//! Socket totals: `/proc/net/sockstat` and `sockstat6`. Cheap to read (0.03 ms), whatever the number of sockets.

use std::path::Path;

/// TCP sockets of one network namespace (`alloc` and `mem` of the whole machine).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockstat {
    /// Bound or connected, IPv4 only; without TIME_WAIT.
    pub inuse: Option<u64>,
    /// The same of IPv6.
    pub inuse6: Option<u64>,
    /// Closed by their process and not yet gone; both families.
    pub orphan: Option<u64>,
    /// Small sockets, both families: TIME_WAIT, and FIN_WAIT2 of closed ones.
    pub tw: Option<u64>,
    /// All that exist, in whatever state.
    pub alloc: Option<u64>,
    /// Buffer memory, in pages.
    pub mem_pages: Option<u64>,
}

impl Sockstat {
    /// Adds what the text of either file says.
    pub fn parse(&mut self, text: &str) {
        for line in text.lines() {
            let Some((protocol, fields)) = line.split_once(':') else { continue };
            let mut words = fields.split_ascii_whitespace();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                let slot = match (protocol, name) {
                    ("TCP", "inuse") => &mut self.inuse,
                    ("TCP6", "inuse") => &mut self.inuse6,
                    ("TCP", "orphan") => &mut self.orphan,
                    ("TCP", "tw") => &mut self.tw,
                    ("TCP", "alloc") => &mut self.alloc,
                    ("TCP", "mem") => &mut self.mem_pages,
                    _ => continue,
                };
                *slot = value.parse().ok();
            }
        }
    }
}

/// Both files of the network namespace of a process; `process` is `/proc/self` or `/proc/<pid>`.
/// A host without IPv6 has no `sockstat6`, and then `inuse6` is `None`.
pub fn read_sockstat(process: &Path) -> std::io::Result<Sockstat> {
    let mut sockstat = Sockstat::default();
    sockstat.parse(&std::fs::read_to_string(process.join("net/sockstat"))?);
    match std::fs::read_to_string(process.join("net/sockstat6")) {
        Ok(text) => sockstat.parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockstat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_tcp_are_read() {
        let mut found = Sockstat::default();
        found.parse(
            "sockets: used 236\nTCP: inuse 11 orphan 2 tw 417 alloc 15 mem 3\nUDP: inuse 4 mem 1\nRAW: inuse 0\n",
        );
        let expected = Sockstat {
            inuse: Some(11),
            inuse6: None,
            orphan: Some(2),
            tw: Some(417),
            alloc: Some(15),
            mem_pages: Some(3),
        };
        assert_eq!(found, expected);
        found.parse("TCP6: inuse 5\nUDP6: inuse 2\n");
        assert_eq!(found, Sockstat { inuse6: Some(5), ..expected });
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        let mut found = Sockstat::default();
        found.parse("TCP: inuse x tw\nnonsense");
        assert_eq!(found, Sockstat::default());
    }

    #[test]
    fn a_listener_of_ours_is_in_the_live_file() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = read_sockstat(Path::new("/proc/self")).unwrap();
        assert!(found.inuse.is_some_and(|inuse| inuse >= 1), "{found:?}");
        assert!(found.tw.is_some() && found.orphan.is_some() && found.alloc.is_some() && found.mem_pages.is_some());
    }
}
