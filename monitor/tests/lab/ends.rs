//! A namespace watched twice, by cause and by what can be derived without, and what a life must have counted as.

use super::netns::Netns;
use super::place::Family;
use super::session::Driven;
use super::sockets::*;
use super::tun::Tun;
use super::{tables, wait_until};
use socket2::SockAddr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;
use synfin::aggregate::Leave;
use synfin::census::{self, Kind};
use synfin::event::TcpState;
use synfin::kernel::{self, LoadOptions, Probes, Way};
use synfin_ebpf::abi::Ends;
use synfin_ebpf::abi::ends::{cause, substate};

/// Of the first listener; each life has listeners of its own, so that none meets another's TIME_WAIT sockets.
const PORT: u16 = 4000;

/// A namespace that is watched twice: by cause, and by what can be derived without.
pub struct Lab {
    pub netns: Netns,
    pub tun: Tun,
    pub by_cause: Driven,
    pub derived: Driven,
    pub overflows_at_start: u64,
    port: u16,
}

/// What has been counted up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// `None` where the kernel refuses the programs.
    pub ends: Option<Ends>,
    /// By [`Leave`].
    pub left: [u64; Leave::COUNT],
    pub derived: [u64; Leave::COUNT],
    pub entered: u64,
    pub overflows: u64,
    pub recycled: u64,
}

impl Lab {
    pub fn new() -> Self {
        let netns = Netns::new();
        netns.ip(&format!("-6 addr add {}/128 dev lo", Family::V6.loopback(1, 0).ip()));
        // By default connect() takes TIME_WAIT sockets over on loopback.
        netns.sysctl("net.ipv4.tcp_tw_reuse", "0");
        let tun = Tun::new(&netns);
        let by_cause = Driven::start(&netns, None);
        let derived = Driven::start(&netns, Some(Way::Btf));
        let overflows_at_start = tables::netstat(&netns, "TCPTimeWaitOverflow");
        Self { netns, tun, by_cause, derived, overflows_at_start, port: PORT }
    }

    /// A listener on a port of its own.
    pub fn listener(&mut self, family: Family) -> TcpListener {
        self.listener_at(family.loopback(1, 0))
    }

    /// The same at this address, whatever its port.
    pub fn listener_at(&mut self, mut address: SocketAddr) -> TcpListener {
        self.port += 1;
        address.set_port(self.port);
        self.netns.run(|| listen(address))
    }

    pub fn ends(&self) -> Option<Ends> {
        self.by_cause.session().probes().ends().map(|ends| ends.expect("the counts"))
    }

    pub fn figures(&self) -> Figures {
        let (by_cause, derived) = (self.by_cause.settled(&self.netns), self.derived.settled(&self.netns));
        let entered = &derived.figures.time_wait.entered;
        Figures {
            ends: self.ends(),
            left: by_cause.figures.time_wait.left,
            derived: derived.figures.time_wait.left,
            entered: entered.iter().flat_map(|(_, by_role)| by_role).sum(),
            overflows: by_cause.figures.time_wait.overflows.expect("TCPTimeWaitOverflow"),
            recycled: tables::netstat(&self.netns, "TWRecycled"),
        }
    }

    pub fn sockstat(&self) -> u64 {
        tables::sockstat_tw(&self.netns)
    }

    pub fn wait_small(&self, what: &str, limit: Duration, wanted: u64) {
        wait_until(what, limit, || self.sockstat() == wanted);
    }

    /// `count` connections whose clients close first and end in TIME_WAIT: the ends of the clients.
    pub fn time_wait(&self, listener: &TcpListener, count: usize) -> Vec<SocketAddr> {
        let one = || {
            let (client, server) = reusable_pair(listener, None);
            let here = client.local_addr().expect("a connected socket");
            enter_time_wait(client, server);
            here
        };
        self.netns.run(|| (0..count).map(|_| one()).collect())
    }

    /// `count` connections whose clients have closed and whose servers have not: the servers.
    pub fn fin_wait2(&self, listener: &TcpListener, count: usize) -> Vec<TcpStream> {
        self.netns.run(|| (0..count).map(|_| enter_fin_wait2(listener)).collect())
    }
}

/// A connection whose client, from `source` if that matters, lets its port be used again.
pub fn reusable_pair(listener: &TcpListener, source: Option<SocketAddr>) -> (TcpStream, TcpStream) {
    let destination = listener.local_addr().expect("a bound listener");
    let client = socket(destination);
    client.set_reuse_address(true).expect("SO_REUSEADDR");
    if let Some(source) = source {
        client.bind(&SockAddr::from(source)).unwrap_or_else(|error| panic!("bind {source}: {error}"));
    }
    client.connect(&SockAddr::from(destination)).unwrap_or_else(|error| panic!("connect {destination}: {error}"));
    (client.into(), listener.accept().expect("accept").0)
}

/// The server of a connection whose client has closed, and is a small socket now.
pub fn enter_fin_wait2(listener: &TcpListener) -> TcpStream {
    let (client, server) = pair(listener);
    close_in_fin_wait2(client);
    server
}

/// The first stream closes first, while its socket is still held: it goes to TIME_WAIT in one step.
pub fn enter_time_wait(first: TcpStream, second: TcpStream) {
    half_close(&first);
    wait_state(&first, FIN_WAIT2);
    drop(second);
    wait_state(&first, CLOSE);
}

/// What a life must have been counted as: made in FIN_WAIT2 and in TIME_WAIT, turned, and so on.
#[derive(Clone, Copy, Default)]
pub struct Expected(pub Ends);

impl Expected {
    pub fn made(mut self, fin_wait2: u64, time_wait: u64) -> Self {
        self.0.made = [fin_wait2, time_wait];
        self
    }

    pub fn turned(mut self, count: u64) -> Self {
        self.0.turned = count;
        self
    }

    pub fn refused(mut self, count: u64) -> Self {
        self.0.refused = count;
        self
    }

    pub fn left(mut self, substate: usize, cause: usize, count: u64) -> Self {
        self.0.left[substate][cause] = count;
        self
    }

    /// TIME_WAIT sockets that left, by what `Leave` the page must show.
    pub fn leaves(&self, by_cause: bool) -> [u64; Leave::COUNT] {
        let left = &self.0.left[substate::TIME_WAIT];
        let mut leaves = [0; Leave::COUNT];
        for (cause, count) in left.iter().enumerate() {
            let leave = match cause {
                cause::EXPIRED => Leave::Expired,
                cause::REUSED => Leave::Reused,
                _ if !by_cause => Leave::Unknown,
                cause::REPLACED => Leave::Replaced,
                cause::RESET => Leave::Reset,
                cause::EVICTED => Leave::Evicted,
                cause::PURGED => Leave::Purged,
                _ => Leave::Unknown,
            };
            leaves[leave.index()] += count;
        }
        leaves
    }
}

pub fn minus(now: &[u64], before: &[u64]) -> Vec<u64> {
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}

pub fn ends_since(now: Ends, before: Ends) -> Ends {
    let array = |now: [u64; cause::COUNT], before: [u64; cause::COUNT]| std::array::from_fn(|n| now[n] - before[n]);
    Ends {
        made: [now.made[0] - before.made[0], now.made[1] - before.made[1]],
        turned: now.turned - before.turned,
        refused: now.refused - before.refused,
        left: [array(now.left[0], before.left[0]), array(now.left[1], before.left[1])],
    }
}

/// Small sockets of `netns` now: in FIN_WAIT2 and in TIME_WAIT.
pub fn population(netns: &Netns, probes: &Probes) -> [u64; substate::COUNT] {
    let link = probes.census_link().expect("an iterator over TCP sockets").expect("a copy of its link");
    let mut counts = [0; substate::COUNT];
    let walk = netns.run(|| kernel::create_census(link.as_fd())).expect("a walk");
    let undecodable = census::read(walk, |found| match found.kind {
        Kind::Waiting { substate: TcpState::FinWait2, .. } => counts[substate::FIN_WAIT2] += 1,
        Kind::Waiting { .. } => counts[substate::TIME_WAIT] += 1,
        Kind::Full { .. } | Kind::Request { .. } => {}
    });
    assert_eq!(undecodable.expect("a whole walk"), 0);
    counts
}

/// The probes that watch this namespace, attached in the best ways there are.
pub fn probes_of(netns: &Netns) -> Probes {
    let options = LoadOptions {
        ring_bytes: 1 << 16,
        netns: Some(netns.inum() as u32),
        btf: LoadOptions::kernel_btf(),
        only: None,
    };
    kernel::load(&options).expect("the probes").0
}
