//! A damaged record is refused or counted, whatever is in it: it never ends the program.

use proptest::prelude::*;
use synfin_ebpf::abi::{self, ABI_VERSION, AF_INET, CensusSocket, Counters, Ends, Header, record, state};

use super::*;
use crate::config::{RawFile, resolve};
use crate::event::{KernelTime, NetnsId};
use crate::input::{HostFigures, NamespaceReading, Walk};
use crate::trace::TraceWriter;

fn bytes<T: Copy, const N: usize>(record: &T) -> [u8; N] {
    assert_eq!(size_of::<T>(), N);
    // SAFETY: the records of the contract are integers and byte arrays without padding, and the sizes are the same.
    unsafe { std::mem::transmute_copy(record) }
}

/// The life of a client that closes first and of the child of a listener, with walks and figures between them.
fn trace(all_namespaces: bool) -> Vec<u8> {
    let head = Head {
        abi: ABI_VERSION,
        synfin: "0.1.0".into(),
        kernel: "6.12.0".into(),
        wall_offset_ns: 1_700_000_000_000_000_000,
        max_connections: 9,
        synack_probe: true,
        all_namespaces,
    };
    let mut writer = TraceWriter::new(Vec::new(), &head).expect("memory");
    let mut counters = Counters { records: 9, wakeups: 1, runs: 9, ..Counters::ZERO };
    let ends = Ends { made: [1, 0], turned: 1, refused: 0, left: [[1; 7], [0; 7]] };
    let host = HostFigures {
        time_wait: Some(2),
        syncookies_received: Some(1),
        tcp_max_tw_buckets: Some(8192),
        time_wait_overflows: Some(1),
        tw_recycled: Some(1),
        ..HostFigures::default()
    };
    let tuple = abi::Tuple { saddr: [1; 16], daddr: [2; 16], sport: 40_000, dport: 443 };
    let header = |ms: u64, skaddr: u64, kind: u8, oldstate: u8, newstate: u8| Header {
        time_ns: ms * 1_000_000,
        skaddr,
        cgroup_id: 7,
        netns: 1,
        kind,
        oldstate,
        newstate,
        family: AF_INET,
    };
    let start = |ms, skaddr, to| {
        let header = header(ms, skaddr, record::kind::START, state::CLOSE, to);
        bytes::<_, 88>(&abi::Start { header, tuple, tgid: 3, comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0" })
    };
    let open = |ms, skaddr, from| {
        let header = header(ms, skaddr, record::kind::OPEN, from, state::ESTABLISHED);
        bytes::<_, 80>(&abi::Open { header, tuple, srtt_us: 250, total_retrans: 1, flags: 0 })
    };
    let step = |ms, skaddr, from, to| bytes::<_, 32>(&header(ms, skaddr, record::kind::STEP, from, to));
    let end = |ms, skaddr, from| {
        let header = header(ms, skaddr, record::kind::END, from, state::CLOSE);
        bytes::<_, 96>(&abi::End { header, tuple, bytes_acked: 100, bytes_received: 200, ..abi::End::default() })
    };
    let mut put = |input: Input<'_>| writer.write(&input).expect("memory");
    let namespace = NamespaceReading {
        id: NetnsId(1),
        cookie: Some(1),
        name: "host".into(),
        own: true,
        host,
        ports: Some(("32768\t60999\n".into(), String::new())),
    };
    put(Input::Host(host));
    put(Input::Ports { range: "32768\t60999\n", reserved: "" });
    for round in 0..3 {
        let ms = 1000 * round;
        counters.transitions[usize::from(state::CLOSE) * abi::counters::ROW + usize::from(state::SYN_SENT)] += 1;
        put(Input::WalkBegins { at: KernelTime(ms * 1_000_000), counters: &counters });
        put(Input::Record(&start(ms + 1, 0x10, state::SYN_SENT)));
        put(Input::Record(&start(ms + 1, 0x20, state::LISTEN)));
        put(Input::Record(&open(ms + 2, 0x10, state::SYN_SENT)));
        put(Input::Record(&open(ms + 2, 0x30, state::SYN_RECV)));
        put(Input::Unit { cgroup: CgroupId(7), name: "nginx.service" });
        let socket = |skaddr, state, remaining_ms_plus_1| {
            let socket =
                CensusSocket { skaddr, netns: 1, family: AF_INET, state, remaining_ms_plus_1, ..Default::default() };
            bytes::<_, { crate::census::RECORD }>(&CensusSocket { tuple, ..socket })
        };
        let sockets =
            [socket(0x10, state::ESTABLISHED, 0), socket(0x20, state::LISTEN, 0), socket(0x50, state::TIME_WAIT, 9000)];
        if all_namespaces {
            put(Input::Namespaces { readings: std::slice::from_ref(&namespace), refused: 0 });
        }
        put(Input::Walk(Walk {
            began: KernelTime(ms * 1_000_000),
            ended: KernelTime((ms + 3) * 1_000_000),
            counters: &counters,
            host,
            sockets: sockets.as_flattened(),
            unix_seconds: 1.7e9,
        }));
        put(Input::Record(&step(ms + 4, 0x10, state::ESTABLISHED, state::FIN_WAIT1)));
        put(Input::Record(&step(ms + 5, 0x10, state::FIN_WAIT1, state::FIN_WAIT2)));
        put(Input::Record(&end(ms + 6, 0x10, state::FIN_WAIT2)));
        put(Input::Record(&end(ms + 6, 0x30, state::ESTABLISHED)));
        put(Input::Totals { counters: &counters, probe_missed: 1 });
        put(Input::Ends(&ends));
        put(Input::Host(host));
    }
    writer.finish().expect("memory")
}

/// Replays as far as the file goes; the number of frames and the page.
fn replayed(file: &[u8]) -> (u64, String) {
    let settings = resolve(&Flags::default(), RawFile::default(), None, false);
    let Ok(mut reader) = TraceReader::new(file) else { return (0, String::new()) };
    let mut replay = Replay::new(reader.head(), &settings, false);
    let mut lines = Lines::new(LineOptions::default(), reader.head().wall_offset_ns);
    let mut frames = 0;
    while let Ok(Some(handled)) = reader.next(|input| replay.handle(&input, &mut lines, false)) {
        handled.expect("nothing is printed yet");
        frames += 1;
    }
    let text = lines.text(|cgroup| replay.unit(cgroup)).expect("lines are text");
    (frames, text + &replay.page().expect("a page is text"))
}

#[test]
fn the_whole_file_is_replayed() {
    for all_namespaces in [false, true] {
        let (frames, said) = replayed(&trace(all_namespaces));
        assert_eq!(frames, if all_namespaces { 47 } else { 44 });
        assert!(said.contains("synfin_tcp_connections_opened_total{role=\"client\"} 3"), "{said}");
        assert_eq!(
            said.lines().filter(|line| line.contains("nginx.service") && !line.starts_with("synfin_")).count(),
            6
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Bytes of every kind of frame become others, most of them such as sums and differences do not like.
    #[test]
    fn a_damaged_file_never_ends_the_program(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(255), Just(127), any::<u8>()]), 1..60),
        cut in prop::option::of(any::<prop::sample::Index>()),
        all_namespaces: bool,
        keep_frames: bool,
    ) {
        let mut file = trace(all_namespaces);
        let places = if keep_frames { payloads(&file) } else { (0..file.len()).collect() };
        for (place, byte) in changes {
            file[places[place.index(places.len())]] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        replayed(&file);
    }
}

/// Places of bytes that are neither of the head nor of a frame's kind and length: with those whole, what is damaged is handled.
fn payloads(file: &[u8]) -> Vec<usize> {
    let number = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize;
    let (mut at, mut places) = (12 + number(8), Vec::new());
    while at + 8 < file.len() {
        let length = number(at + 4);
        places.extend(at + 8..at + 8 + length);
        at += 8 + length;
    }
    places
}
