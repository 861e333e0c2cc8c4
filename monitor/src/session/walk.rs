//! The walk over the socket tables, on a thread of its own, so that the ring is drained meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::KernelTime;
use crate::host::{read_snmp, read_sockstat};
use crate::input::HostFigures;

use super::clock;
use super::waker::Waker;

/// What a walk brought.
pub struct Walked {
    pub began: KernelTime,
    pub ended: KernelTime,
    pub unix_seconds: f64,
    pub took: Duration,
    pub host: HostFigures,
    /// Records of [`synfin_ebpf::abi::CensusSocket`].
    pub sockets: Vec<u8>,
}

/// A walk under way.
pub struct WalkUnderWay(Receiver<io::Result<Walked>>);

impl WalkUnderWay {
    /// Starts reading `walk`, whose file was made in the namespace to look at; `waker` is called at the end.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(walk: File, waker: Waker) -> io::Result<Self> {
        let (sender, receiver) = channel();
        thread::Builder::new().name("census".into()).spawn(move || {
            // The receiver is gone only when the session ends.
            let _ = sender.send(read_walk(walk));
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

fn read_walk(mut walk: File) -> io::Result<Walked> {
    let (began, started) = (clock::kernel_now(), Instant::now());
    let mut sockets = Vec::new();
    walk.read_to_end(&mut sockets)?;
    let took = started.elapsed();
    Ok(Walked {
        began,
        ended: clock::kernel_now(),
        unix_seconds: clock::unix_now(),
        took,
        host: read_host_figures(),
        sockets,
    })
}

/// The figures of this process' own network namespace.
pub fn read_host_figures() -> HostFigures {
    let process = Path::new("/proc/thread-self");
    HostFigures {
        time_wait: read_sockstat(process).ok().and_then(|sockstat| sockstat.tw),
        syncookies_received: read_snmp(process).ok().and_then(|snmp| snmp.tcp_ext("SyncookiesRecv")),
    }
}
