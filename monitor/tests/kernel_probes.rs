//! The BPF object itself on this kernel: each way to attach it, every field of its records, and the walk over the sockets.
//!
//! Needs no daemon; `cargo xtask vm` runs it on other kernels.

mod lab;

use lab::expect::differences;
use lab::life;
use lab::netns::Netns;
use lab::packet::{ACK, SYN};
use lab::peer::Peer;
use lab::place::{self, Family};
use lab::record::{Recorder, check_chains, series_of_counters, series_of_events};
use lab::sockets::*;
use lab::tun::Tun;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};
use synfin::event::{CgroupId, Detail, End, Endpoint, Event, NetnsId, Owner, TcpState, Transition, Tuple};
use synfin::kernel::Way;

const PORT: u16 = 4000;
const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];

/// A namespace with the lab's IPv6 loopback address.
fn namespace() -> Netns {
    let netns = Netns::new();
    netns.ip(&format!("-6 addr add {}/128 dev lo", Family::V6.loopback(1, 0).ip()));
    netns
}

/// Runs `check` for each way to attach. Classic tracepoints are found through tracefs, which not every host has mounted:
/// here it is, for the thread that does the work.
fn each_way(check: impl Fn(Way) + Sync) {
    std::thread::scope(|scope| {
        let all = scope.spawn(|| {
            mount_tracefs();
            Way::OF_TRACEPOINTS.into_iter().for_each(&check);
        });
        all.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn mount_tracefs() {
    let private = (libc::MS_REC | libc::MS_PRIVATE) as libc::c_ulong;
    // SAFETY: constant strings; unshare moves this thread alone to a mount namespace of its own.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "unshare: {}", std::io::Error::last_os_error());
        let null = std::ptr::null();
        assert_eq!(libc::mount(null, c"/".as_ptr(), null, private, null.cast()), 0, "the tree cannot be made private");
        let (kind, path) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
        let mounted = libc::mount(kind, path, kind, 0, null.cast());
        let error = std::io::Error::last_os_error();
        // Busy: it is there already.
        assert!(mounted == 0 || error.raw_os_error() == Some(libc::EBUSY), "tracefs: {error}");
    }
}

#[test]
fn every_way_reports_every_life() {
    each_way(|way| {
        let netns = namespace();
        let mut recorder = Recorder::start(&netns, way);
        for (name, life) in life::ALL {
            for family in [Family::V4, Family::V6] {
                let before = recorder.counters();
                let expected = netns.run(|| life(family)).only_transitions();
                let events = recorder.transitions();
                let check = |source: &str, seen: &BTreeMap<String, f64>| {
                    let wrong = differences(&expected, seen);
                    assert!(wrong.is_empty(), "{way:?}, {family:?}, {name}, by {source}: {wrong:#?}\n{events:#?}");
                };
                check("events", &series_of_events(&events));
                check("totals", &series_of_counters(&before, &recorder.counters()));
                check_chains(&events);
            }
        }
        let counters = recorder.counters();
        assert_eq!((counters.ring_full, counters.odd_state), (0, 0), "{way:?}");
    });
}

/// The events of one socket.
fn of(events: &[Transition], wanted: impl Fn(&Transition) -> bool) -> Vec<Transition> {
    let socket = events.iter().find(|event| wanted(event)).expect("the socket").socket;
    events.iter().filter(|event| event.socket == socket).copied().collect()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let addr = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Endpoint { addr: addr.octets(), port: address.port() }
}

fn tuple(family: Family, source: SocketAddr, destination: SocketAddr) -> Tuple {
    let (source, destination) = (endpoint(source), endpoint(destination));
    let family = match family {
        Family::V4 => synfin::event::Family::Inet,
        Family::V6 | Family::Mapped => synfin::event::Family::Inet6,
    };
    Tuple { family, saddr: source.addr, daddr: destination.addr, sport: source.port, dport: destination.port }
}

/// The last event of a socket, which must be its end.
fn end(events: &[Transition]) -> End {
    match events.last().expect("an event").detail {
        Detail::End(end) => end,
        Detail::Step | Detail::Start { .. } | Detail::Open(_) => panic!("not an end: {events:#?}"),
    }
}

/// An end in which nothing is to be told.
fn plain_end(tuple: Tuple) -> End {
    End {
        tuple,
        sk_err: 0,
        shutdown_rcv: false,
        shutdown_send: false,
        dead: false,
        done: false,
        linger_zero: false,
        linger2_negative: false,
        all_acked: true,
        has_socket: false,
        syn_left: false,
        total_retrans: 0,
        bytes_acked: 0,
        bytes_received: 0,
    }
}

fn this_owner() -> Owner {
    let name = std::fs::read("/proc/thread-self/comm").expect("the name of this thread");
    let mut comm = [0; 16];
    let name = name.trim_ascii_end();
    comm[..name.len()].copy_from_slice(name);
    Owner { tgid: std::process::id(), comm }
}

#[test]
fn every_field_of_an_event_is_right() {
    each_way(|way| {
        let netns = namespace();
        let mut recorder = Recorder::start(&netns, way);
        for family in FAMILIES {
            check_fields_of_a_whole_life(&netns, &mut recorder, family);
            check_fields_of_a_refusal(&netns, &mut recorder, family);
            check_fields_of_a_reset(&netns, &mut recorder, family);
        }
    });
}

fn check_fields_of_a_whole_life(netns: &Netns, recorder: &mut Recorder, family: Family) {
    let (here, there, owner) = netns.run(|| {
        let listener = listen(family.loopback(1, PORT));
        let (client, server) = pair(&listener);
        let there = client.local_addr().expect("a connected socket");
        send(&client, &[1; 1000]);
        send(&server, &[2; 500]);
        half_close(&client);
        assert_eq!(read_to_end(&server).len(), 1000);
        drop(server);
        assert_eq!(read_to_end(&client).len(), 500);
        (listener.local_addr().expect("a listener"), there, this_owner())
    });
    let events = recorder.transitions();
    assert!(events.iter().all(|event| event.netns == NetnsId(netns.inum() as u32)), "{events:#?}");

    let listener = of(&events, |event| event.to == TcpState::Listen);
    let unspecified = SocketAddr::new(if here.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }, 0);
    let nowhere = Tuple {
        daddr: if here.is_ipv4() { endpoint(unspecified).addr } else { [0; 16] },
        ..tuple(family, here, unspecified)
    };
    assert_eq!(listener[0].detail, Detail::Start { tuple: nowhere, owner });

    let client = of(&events, |event| event.to == TcpState::SynSent);
    let Detail::Start { tuple: at_start, owner: connecting } = client[0].detail else { panic!("{client:#?}") };
    assert_eq!((at_start.destination(), at_start.sport, connecting), (endpoint(here), 0, owner));
    let (ours, theirs) = (tuple(family, there, here), tuple(family, here, there));
    check_open(&client, ours);
    let closed = |tuple| End { shutdown_rcv: true, shutdown_send: true, done: true, ..plain_end(tuple) };
    // The client has only half closed, so that its socket is still there.
    assert_eq!(end(&client), End { has_socket: true, bytes_acked: 1002, bytes_received: 501, ..closed(ours) });

    let server = of(&events, |event| event.to == TcpState::SynRecv);
    check_open(&server, theirs);
    assert_eq!(end(&server), End { dead: true, bytes_acked: 501, bytes_received: 1001, ..closed(theirs) });
}

fn check_open(events: &[Transition], tuple: Tuple) {
    let Detail::Open(open) = events[1].detail else {
        let Detail::Open(open) = events[2].detail else { panic!("{events:#?}") };
        return check_opened(open, tuple);
    };
    check_opened(open, tuple);
}

fn check_opened(open: synfin::event::Open, tuple: Tuple) {
    assert_eq!((open.tuple, open.total_retrans, open.fast_open), (tuple, 0, false));
    // A round trip over loopback, on an emulated and busy processor at worst.
    assert!(open.srtt_us.is_some_and(|us| us < 500_000), "{open:?}");
}

fn check_fields_of_a_refusal(netns: &Netns, recorder: &mut Recorder, family: Family) {
    let nobody = family.loopback(1, 4001);
    netns.run(|| connect_fails(nobody, libc::ECONNREFUSED));
    let ended = end(&recorder.transitions());
    assert_eq!((ended.tuple.destination(), ended.sk_err), (endpoint(nobody), libc::ECONNREFUSED as u32));
    assert!(ended.syn_left && ended.has_socket && ended.tuple.sport != 0, "{ended:?}");
}

fn check_fields_of_a_reset(netns: &Netns, recorder: &mut Recorder, family: Family) {
    netns.run(|| {
        let (client, server) = pair(&listen(family.loopback(1, PORT)));
        reset(client);
        read_reset(&server);
    });
    let events = recorder.transitions();
    let resetting = end(&of(&events, |event| event.to == TcpState::SynSent));
    assert!(resetting.linger_zero && resetting.sk_err == 0, "{resetting:?}");
    let was_reset = end(&of(&events, |event| event.to == TcpState::SynRecv));
    assert_eq!(was_reset.sk_err, libc::ECONNRESET as u32, "{was_reset:?}");
    assert!(was_reset.has_socket && !was_reset.linger_zero, "{was_reset:?}");
}

/// Where the cgroup v2 hierarchy is mounted.
fn cgroup2() -> std::path::PathBuf {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    let mount = mounts.lines().find_map(|line| line.split_once(" cgroup2 ")?.0.split(' ').nth(1));
    mount.expect("a cgroup2 mount").into()
}

/// A cgroup with this process in it; gives it back to its old one and removes itself.
struct Cgroup {
    path: std::path::PathBuf,
    before: std::path::PathBuf,
}

impl Cgroup {
    fn enter(name: &str) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").expect("the cgroups of this process");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup v2");
        let before = cgroup2().join(own);
        let path = cgroup2().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::fs::write(path.join("cgroup.procs"), "0").expect("this process in its cgroup");
        Self { path, before }
    }

    fn id(&self) -> CgroupId {
        use std::os::unix::fs::MetadataExt;
        CgroupId(std::fs::metadata(&self.path).expect("the cgroup's directory").ino())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let back = std::fs::write(self.before.join("cgroup.procs"), "0");
        // A thread that was joined may still be on its way out of the kernel, and of the cgroup.
        let started = Instant::now();
        let mut removed = std::fs::remove_dir(&self.path);
        while removed.is_err() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
            removed = std::fs::remove_dir(&self.path);
        }
        if !std::thread::panicking() {
            back.expect("this process back in its cgroup");
            removed.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        }
    }
}

#[test]
fn sockets_keep_the_cgroup_of_their_maker() {
    each_way(|way| {
        let netns = namespace();
        let mut recorder = Recorder::start(&netns, way);
        let serving = Cgroup::enter("synfin-serving");
        let listener = netns.run(|| listen(Family::V4.loopback(1, PORT)));
        let server_side = serving.id();
        drop(serving);
        let connecting = Cgroup::enter("synfin-connecting");
        let client_side = connecting.id();
        netns.run(|| {
            let (client, server) = pair(&listener);
            drop(client);
            read_to_end(&server);
        });
        drop(connecting);
        let census: Vec<_> = recorder.census(&netns).iter().map(|found| found.cgroup).collect();
        // The listener, and the small socket, which has none.
        assert!(census.contains(&server_side) && census.contains(&CgroupId(0)), "{way:?}: {census:?}");
        drop(listener);
        let events = recorder.transitions();
        let client = of(&events, |event| event.to == TcpState::SynSent)[0].socket;
        for event in &events {
            let maker = if event.socket == client { client_side } else { server_side };
            assert_eq!(event.cgroup, maker, "{way:?}: {event:?}");
        }
    });
}

#[test]
fn a_retransmitted_synack_tells_when_the_first_one_left() {
    each_way(|way| {
        let netns = Netns::new();
        let tun = Tun::new(&netns);
        let mut recorder = Recorder::start(&netns, way);
        if !recorder.probes.sees_synack_retransmits() {
            assert_eq!(way, Way::Classic, "{:?}", recorder.probes.attempts());
            return;
        }
        let here = SocketAddr::from((place::tun_here(), PORT));
        let listener = netns.run(|| listen(here));
        let mut peer = Peer::new(&tun, 2, 5000, PORT);
        let started = Instant::now();
        peer.say(SYN);
        peer.expect_flags("SYN-ACK", SYN | ACK);
        let first_took = started.elapsed();
        peer.expect_flags("second SYN-ACK", SYN | ACK);
        // The kernel counts a repetition only after it has sent it, which takes a slow processor longer than the way here and back.
        std::thread::sleep(Duration::from_millis(100));
        peer.say(ACK);
        let (server, there) = listener.accept().expect("accept");
        reset(server);
        let events = recorder.events();
        let again = events.iter().find_map(|event| match event {
            Event::SynackRetransmit(again) => Some(*again),
            Event::Transition(_) => None,
        });
        let again = again.unwrap_or_else(|| panic!("{way:?}: no retransmission in {events:#?}"));
        assert_eq!((again.tuple, again.num_retrans), (tuple(Family::V4, here, there), 0), "{way:?}");
        assert_eq!(again.netns, NetnsId(netns.inum() as u32));
        let first = again.first_synack_at.expect("the time of the first SYN-ACK");
        let apart = Duration::from_nanos(again.at.since(first).expect("the first came first"));
        let expected = Duration::from_secs(1)..Duration::from_secs(1) + first_took + Duration::from_millis(500);
        assert!(expected.contains(&(apart + Duration::from_millis(50))), "{way:?}: {apart:?}");
        let open = events.iter().find_map(|event| match event {
            Event::Transition(Transition { detail: Detail::Open(open), .. }) => Some(*open),
            Event::Transition(_) | Event::SynackRetransmit(_) => None,
        });
        assert_eq!(open.expect("an opening").total_retrans, 1, "{way:?}");
    });
}

#[test]
fn two_capabilities_are_enough_to_load_and_to_go_on() {
    synfin::privilege::raise_memlock().expect("a higher bound on locked memory");
    for way in [Way::Btf, Way::Raw] {
        let netns = namespace();
        let transitions = netns.run(|| {
            let keep = [caps::Capability::CAP_BPF, caps::Capability::CAP_PERFMON];
            synfin::privilege::drop_all(&keep).expect("fewer capabilities");
            let mut recorder = Recorder::start(&netns, way);
            let (client, server) = pair(&listen(Family::V4.loopback(1, PORT)));
            let link = recorder.probes.census_link().expect("an iterator").expect("a copy of its link");
            let walk = synfin::kernel::create_census(std::os::fd::AsFd::as_fd(&link)).expect("a walk");
            let mut found = 0;
            synfin::census::read(walk, |_| found += 1).expect("a whole walk");
            assert_eq!(found, 2, "client and server");
            assert!(recorder.counters().records > 0);
            drop(client);
            read_to_end(&server);
            drop(server);
            recorder.transitions()
        });
        assert_eq!(transitions.len(), 2 + 5 + 5, "{way:?}: {transitions:#?}");
    }
}

#[test]
fn other_protocols_on_the_tracepoint_are_counted_apart() {
    each_way(|way| {
        let netns = namespace();
        let recorder = Recorder::start(&netns, way);
        let listening = netns.run(|| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(socket2::Protocol::MPTCP))?;
            socket.bind(&Family::V4.loopback(1, PORT).into())?;
            socket.listen(1)?;
            Ok::<_, std::io::Error>(TcpListener::from(socket))
        });
        match listening {
            Ok(listener) => {
                drop(netns.run(|| connect(listener.local_addr().expect("a listener"))));
                assert!(recorder.counters().other_protocol > 0, "{way:?}");
                assert_eq!(recorder.counters().odd_state, 0, "{way:?}");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT), "{error}"),
        }
    });
}
