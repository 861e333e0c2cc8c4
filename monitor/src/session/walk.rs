//! The walk over the socket tables, and the figures of /proc that belong to it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::event::KernelTime;
use crate::host::{parse_tcp_ext, read_sockstat, read_sysctl};
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

/// What a walk covers.
pub enum Reach {
    /// The namespace in which this walk was made.
    Own(File),
    /// Every namespace of the host, by walks made from this link.
    All(OwnedFd),
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
        Reach::All(link) => {
            // Sysctls of this process' own namespace: the thread is about to leave it.
            let own = own_figures();
            let read = || match is_empty_here() {
                true => Ok(()),
                false => kernel::create_census(link.as_fd())?.read_to_end(&mut sockets).map(drop),
            };
            (Some(own), Some(survey(Depth::Whole, read)?))
        }
    };
    let took = clock::thread_cpu();
    let host = host.unwrap_or_else(read_host_figures);
    Ok(Walked { began, ended: clock::kernel_now(), unix_seconds: clock::unix_now(), took, host, sockets, survey })
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
    HostFigures {
        tcp_max_tw_buckets: sysctl("net.ipv4.tcp_max_tw_buckets"),
        tcp_ehash_entries: ehash_entries,
        tcp_tw_reuse: sysctl("net.ipv4.tcp_tw_reuse"),
        tcp_timestamps: sysctl("net.ipv4.tcp_timestamps"),
        tcp_fin_timeout: sysctl("net.ipv4.tcp_fin_timeout"),
        tcp_max_orphans: sysctl("net.ipv4.tcp_max_orphans"),
        somaxconn: sysctl("net.core.somaxconn"),
        ..read_counters()
    }
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

/// `TCPTimeWaitOverflow` of the network namespace of the calling thread, as of now.
pub fn read_time_wait_overflows() -> Option<u64> {
    let netstat = std::fs::read_to_string(Path::new(PROCESS).join("net/netstat")).ok()?;
    let [overflows] = parse_tcp_ext(&netstat, ["TCPTimeWaitOverflow"]);
    overflows
}

/// The texts of `ip_local_port_range` and `ip_local_reserved_ports`; `None` when the first cannot be read.
pub fn read_ports() -> Option<(String, String)> {
    let sysctl = |key| read_sysctl(Path::new(SYSCTLS), key);
    let range = sysctl("net.ipv4.ip_local_port_range")?;
    Some((range, sysctl("net.ipv4.ip_local_reserved_ports").unwrap_or_default()))
}
