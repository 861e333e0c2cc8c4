//! The walk over the socket tables, on a thread of its own, so that the ring is drained meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{KernelTime, NetnsId};
use crate::host::{enter_netns, host_namespaces, read_netns, read_own_netns, read_snmp, read_sockstat, read_sysctl};
use crate::input::HostFigures;
use crate::kernel;

use super::clock;
use super::waker::Waker;

/// What a walk brought.
pub struct Walked {
    pub began: KernelTime,
    pub ended: KernelTime,
    pub unix_seconds: f64,
    pub took: Duration,
    pub host: HostFigures,
    /// The ranges of other namespaces: the texts of [`read_ports`].
    pub ports: Vec<(NetnsId, (String, String))>,
    /// Records of [`synfin_ebpf::abi::CensusSocket`].
    pub sockets: Vec<u8>,
}

/// What a walk covers.
pub enum Reach {
    /// The namespace in which this walk was made.
    Own(File),
    /// Every namespace of the host, by walks made from this link.
    All(OwnedFd),
}

/// A walk under way.
pub struct WalkUnderWay(Receiver<io::Result<Walked>>);

impl WalkUnderWay {
    /// Starts reading; `waker` is called at the end.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(reach: Reach, waker: Waker) -> io::Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new().name("census".into()).spawn(move || {
            // The receiver is gone only when the session ends.
            let _ = sender.send(read_walk(reach));
            waker.wake();
        })?;
        Ok(Self(receiver))
    }

    /// The result, once there is one.
    pub fn poll(&self) -> Option<io::Result<Walked>> {
        match self.0.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the reading thread ended early"))),
        }
    }
}

fn read_walk(reach: Reach) -> io::Result<Walked> {
    let (began, started) = (clock::kernel_now(), Instant::now());
    let (mut sockets, mut ports) = (Vec::new(), Vec::new());
    let (host, took) = match reach {
        Reach::Own(mut walk) => {
            walk.read_to_end(&mut sockets)?;
            let took = started.elapsed();
            (read_host_figures(), took)
        }
        Reach::All(link) => {
            let (own, mut time_wait) = (read_host_figures(), 0);
            let of_process = read_own_netns().ok();
            for namespace in host_namespaces()? {
                // This thread ends with the walk, so nobody else is moved.
                enter_netns(&namespace)?;
                kernel::create_census(link.as_fd())?.read_to_end(&mut sockets)?;
                time_wait += read_sockstat(Path::new(THIS_THREAD)).unwrap_or_default().tw.unwrap_or(0);
                let id = read_netns(&Path::new(THIS_THREAD).join("ns/net")).ok();
                ports.extend(id.filter(|id| of_process != Some(*id)).zip(read_ports()));
            }
            // The population is summed up; the other figures are of this process' own namespace.
            (HostFigures { time_wait: Some(time_wait), syncookies_received: None, ..own }, started.elapsed())
        }
    };
    Ok(Walked { began, ended: clock::kernel_now(), unix_seconds: clock::unix_now(), took, host, ports, sockets })
}

/// The figures of this process' own network namespace.
pub fn read_host_figures() -> HostFigures {
    let process = Path::new(THIS_THREAD);
    let sockstat = read_sockstat(process).unwrap_or_default();
    let snmp = read_snmp(process).unwrap_or_default();
    let sysctl = |key| read_sysctl(Path::new(SYSCTLS), key)?.parse().ok();
    // Negative in a namespace that shares the table of the host (ip-sysctl.rst).
    let ehash_entries = read_sysctl(Path::new(SYSCTLS), "net.ipv4.tcp_ehash_entries")
        .and_then(|text| text.parse::<i64>().ok())
        .map(i64::unsigned_abs);
    HostFigures {
        time_wait: sockstat.tw,
        orphans: sockstat.orphan,
        syncookies_received: snmp.tcp_ext("SyncookiesRecv"),
        time_wait_overflows: snmp.tcp_ext("TCPTimeWaitOverflow"),
        tw_recycled: snmp.tcp_ext("TWRecycled"),
        listen_overflows: snmp.tcp_ext("ListenOverflows"),
        listen_drops: snmp.tcp_ext("ListenDrops"),
        abort_on_close: snmp.tcp_ext("TCPAbortOnClose"),
        abort_on_data: snmp.tcp_ext("TCPAbortOnData"),
        tcp_max_tw_buckets: sysctl("net.ipv4.tcp_max_tw_buckets"),
        tcp_ehash_entries: ehash_entries,
        tcp_tw_reuse: sysctl("net.ipv4.tcp_tw_reuse"),
        tcp_timestamps: sysctl("net.ipv4.tcp_timestamps"),
        tcp_fin_timeout: sysctl("net.ipv4.tcp_fin_timeout"),
        tcp_max_orphans: sysctl("net.ipv4.tcp_max_orphans"),
        somaxconn: sysctl("net.core.somaxconn"),
    }
}

const SYSCTLS: &str = "/proc/sys";
/// A thread may be in another network namespace than its process.
const THIS_THREAD: &str = "/proc/thread-self";

/// The texts of `ip_local_port_range` and `ip_local_reserved_ports`; `None` when the first cannot be read.
pub fn read_ports() -> Option<(String, String)> {
    let sysctl = |key| read_sysctl(Path::new(SYSCTLS), key);
    let range = sysctl("net.ipv4.ip_local_port_range")?;
    Some((range, sysctl("net.ipv4.ip_local_reserved_ports").unwrap_or_default()))
}
