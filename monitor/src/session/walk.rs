//! The walk over the socket tables, and the figures of /proc that belong to it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::census;
use crate::event::KernelTime;
use crate::host::{parse_tcp_ext, read_netns, read_snmp, read_sockstat, read_sysctl};
use crate::input::HostFigures;
use crate::kernel;

use super::clock;
use super::survey::{Depth, Survey, survey};

/// What a walk brought.
pub struct Walked {
    pub began: KernelTime,
    pub ended: KernelTime,
    pub unix_seconds: f64,
    /// CPU time of the thread that read it, which was made for it.
    pub took: Duration,
    pub host: HostFigures,
    /// Records of [`synfin_ebpf::abi::CensusSocket`].
    pub sockets: Vec<u8>,
    /// Where every namespace was walked.
    pub survey: Option<Survey>,
}

/// What a walk covers, and how.
pub enum Reach {
    /// The namespace in which this walk was made.
    Own(File),
    /// Every namespace of the host, by walks made from this link.
    All(OwnedFd),
    /// The namespace of this process, over netlink.
    OwnByNetlink,
    /// Every namespace of the host, over netlink.
    AllByNetlink,
}

/// Reads a walk to its end.
///
/// # Errors
/// Those of reading.
pub fn read_walk(reach: Reach) -> io::Result<Walked> {
    let began = clock::kernel_now();
    let mut sockets = Vec::new();
    let (host, survey) = match reach {
        Reach::Own(mut walk) => {
            walk.read_to_end(&mut sockets)?;
            (None, None)
        }
        Reach::All(link) => read_all(|| kernel::create_census(link.as_fd())?.read_to_end(&mut sockets).map(drop))?,
        Reach::OwnByNetlink => {
            read_netlink(&mut sockets)?;
            (None, None)
        }
        Reach::AllByNetlink => read_all(|| read_netlink(&mut sockets))?,
    };
    let took = clock::thread_cpu();
    let host = host.unwrap_or_else(read_host_figures);
    Ok(Walked { began, ended: clock::kernel_now(), unix_seconds: clock::unix_now(), took, host, sockets, survey })
}

/// Calls `read` in every namespace that has a socket.
fn read_all(mut read: impl FnMut() -> io::Result<()>) -> io::Result<(Option<HostFigures>, Option<Survey>)> {
    // Sysctls of this process' own namespace: the thread is about to leave it.
    let own = own_figures();
    let survey = survey(Depth::Whole, || if is_empty_here() { Ok(()) } else { read() })?;
    Ok((Some(own), Some(survey)))
}

/// Of the namespace of the calling thread.
fn read_netlink(sockets: &mut Vec<u8>) -> io::Result<()> {
    census::read_diag(read_netns(&Path::new(PROCESS).join("ns/net"))?, sockets)
}

/// Whether the namespace of the calling thread has no TCP socket at all: most have none, and each walk goes through the tables of the
/// whole host. Half-open requests are not counted here, but they have a listener.
fn is_empty_here() -> bool {
    read_sockstat(Path::new(PROCESS)).is_ok_and(|sockstat| {
        // Without IPv6 there is no file for it.
        sockstat.inuse == Some(0) && sockstat.inuse6.unwrap_or(0) == 0 && sockstat.tw == Some(0)
    })
}

/// What is of this process' own namespace where all are watched: no population and no counter.
pub fn own_figures() -> HostFigures {
    let mut figures = HostFigures { time_wait: None, ..read_host_figures() };
    figures.counters().into_iter().for_each(|counter| *counter = None);
    figures
}

/// The figures of the network namespace of the calling thread.
pub fn read_host_figures() -> HostFigures {
    let sysctl = |key| read_sysctl(Path::new(SYSCTLS), key)?.parse().ok();
    // Negative in a namespace that shares the table of the host (ip-sysctl.rst).
    let ehash_entries = read_sysctl(Path::new(SYSCTLS), "net.ipv4.tcp_ehash_entries")
        .and_then(|text| text.parse::<i64>().ok())
        .map(i64::unsigned_abs);
    let (max_tw_buckets, max_orphans) = (sysctl("net.ipv4.tcp_max_tw_buckets"), sysctl("net.ipv4.tcp_max_orphans"));
    HostFigures {
        tcp_max_tw_buckets: max_tw_buckets,
        tcp_ehash_entries: ehash_entries.or_else(|| entries_by_defaults(max_tw_buckets, max_orphans)),
        tcp_tw_reuse: sysctl("net.ipv4.tcp_tw_reuse"),
        tcp_timestamps: sysctl("net.ipv4.tcp_timestamps"),
        tcp_fin_timeout: sysctl("net.ipv4.tcp_fin_timeout"),
        tcp_max_orphans: max_orphans,
        somaxconn: sysctl("net.core.somaxconn"),
        ..read_counters()
    }
}

/// Buckets of the table of connections before Linux 6.1, which has no sysctl for them: half of them is the default of both sysctls
/// (`tcp_init` and `tcp_sk_init` of Linux 5.10), and where the two are equal nobody has set one of them. Only the first namespace
/// shows `tcp_max_orphans`.
fn entries_by_defaults(max_tw_buckets: Option<u64>, max_orphans: Option<u64>) -> Option<u64> {
    max_tw_buckets.filter(|buckets| Some(*buckets) == max_orphans).map(|buckets| buckets.saturating_mul(2))
}

/// The same without the sysctls, which seldom change.
pub fn read_counters() -> HostFigures {
    let sockstat = read_sockstat(Path::new(PROCESS)).unwrap_or_default();
    let netstat = std::fs::read_to_string(Path::new(PROCESS).join("net/netstat")).unwrap_or_default();
    let [cookies, overflows, recycled, listen_overflows, listen_drops, on_close, on_data] = parse_tcp_ext(
        &netstat,
        [
            "SyncookiesRecv",
            "TCPTimeWaitOverflow",
            "TWRecycled",
            "ListenOverflows",
            "ListenDrops",
            "TCPAbortOnClose",
            "TCPAbortOnData",
        ],
    );
    HostFigures {
        time_wait: sockstat.tw,
        orphans: sockstat.orphan,
        syncookies_received: cookies,
        time_wait_overflows: overflows,
        tw_recycled: recycled,
        listen_overflows,
        listen_drops,
        abort_on_close: on_close,
        abort_on_data: on_data,
        ..HostFigures::default()
    }
}

/// A thread that has moved sees its own namespace here.
const PROCESS: &str = "/proc/thread-self";
const SYSCTLS: &str = "/proc/sys";

/// `TCPTimeWaitOverflow` of this process' own network namespace, as of now.
pub fn read_time_wait_overflows() -> Option<u64> {
    read_snmp(Path::new(PROCESS)).ok()?.tcp_ext("TCPTimeWaitOverflow")
}

/// The texts of `ip_local_port_range` and `ip_local_reserved_ports`; `None` when the first cannot be read.
pub fn read_ports() -> Option<(String, String)> {
    let sysctl = |key| read_sysctl(Path::new(SYSCTLS), key);
    let range = sysctl("net.ipv4.ip_local_port_range")?;
    Some((range, sysctl("net.ipv4.ip_local_reserved_ports").unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equal_defaults_tell_the_size_of_the_table() {
        let check = |buckets, orphans, entries| assert_eq!(entries_by_defaults(buckets, orphans), entries);
        check(Some(8192), Some(8192), Some(16_384));
        check(Some(5000), Some(8192), None);
        check(Some(8192), None, None);
        check(None, Some(8192), None);
        check(None, None, None);
    }
}
