//! One end of a TCP connection made by hand, behind a TUN device: it says what a test tells it to, when it tells it to.

use super::packet::{ACK, FIN, RST, SYN, Segment, number};
use super::place;
use super::tun::Tun;
use std::time::Duration;

/// How long the kernel may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
const FIRST_SEQ: u32 = 1_000_000;

pub struct Peer<'a> {
    pub tun: &'a Tun,
    here: (u32, u16),
    kernel: (u32, u16),
    /// Next sequence number that it sends.
    seq: u32,
    /// Next sequence number that it expects.
    ack: u32,
    /// Whether it uses timestamps, and the kernel's last one.
    timestamps: Option<u32>,
}

impl<'a> Peer<'a> {
    /// A peer at address number `host` and `port` that talks to `kernel_port` (0: learnt from the kernel's SYN).
    pub fn new(tun: &'a Tun, host: u8, port: u16, kernel_port: u16) -> Self {
        let here = (number(place::tun_peer(host)), port);
        let kernel = (number(place::tun_here()), kernel_port);
        Self { tun, here, kernel, seq: FIRST_SEQ, ack: 0, timestamps: None }
    }

    pub fn with_timestamps(mut self) -> Self {
        self.timestamps = Some(0);
        self
    }

    /// The kernel's next segment for this peer that satisfies `wanted`; others are passed over.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Segment) -> bool) -> Segment {
        loop {
            let segment = self.tun.receive(ANSWER).unwrap_or_else(|| panic!("the kernel sent no {what}"));
            if segment.destination != self.here || !wanted(&segment) {
                continue;
            }
            if self.kernel.1 == 0 {
                self.kernel.1 = segment.source.1;
            }
            self.ack = segment.seq.wrapping_add(segment.length());
            if let (Some(last), Some((value, _))) = (&mut self.timestamps, segment.timestamps) {
                *last = value;
            }
            return segment;
        }
    }

    pub fn expect_flags(&mut self, what: &str, flags: u8) -> Segment {
        self.expect(what, |segment| segment.is(flags))
    }

    /// Sends a segment with the peer's present numbers.
    pub fn say(&mut self, flags: u8) {
        let ack = if flags & ACK == 0 { 0 } else { self.ack };
        let segment = self.segment(flags, ack);
        self.seq = self.seq.wrapping_add(segment.length());
        self.tun.send(&segment.encode());
    }

    /// Sends a segment that acknowledges less than what has come: `back` sequence numbers.
    pub fn say_acknowledging_less(&mut self, flags: u8, back: u32) {
        let segment = self.segment(flags, self.ack.wrapping_sub(back));
        self.seq = self.seq.wrapping_add(segment.length());
        self.tun.send(&segment.encode());
    }

    /// Sends the opening SYN a second time.
    pub fn say_syn_again(&mut self) {
        let mut syn = self.segment(SYN, 0);
        syn.seq = FIRST_SEQ;
        self.tun.send(&syn.encode());
    }

    fn segment(&self, flags: u8, ack: u32) -> Segment {
        // Any clock that moves will do for timestamps; the sequence number is one.
        let timestamps = self.timestamps.map(|echo| (self.seq, echo));
        Segment {
            source: self.here,
            destination: self.kernel,
            seq: self.seq,
            ack,
            flags,
            timestamps,
            payload: Vec::new(),
        }
    }

    /// Opens a connection to a listener of the kernel at once.
    pub fn open(&mut self) {
        self.say(SYN);
        self.expect_flags("SYN-ACK", SYN | ACK);
        self.say(ACK);
    }

    /// Answers a connect() of the kernel at once.
    pub fn answer(&mut self) {
        self.expect_flags("SYN", SYN);
        self.say(SYN | ACK);
        self.expect_flags("final ACK", ACK);
    }

    /// Ends the connection on the kernel's FIN: acknowledges it, sends its own and takes the last acknowledgement.
    pub fn follow(&mut self) {
        self.expect("FIN", |segment| segment.has(FIN));
        self.say(ACK);
        self.say(FIN | ACK);
        self.expect("last ACK", |segment| segment.has(ACK));
    }

    /// Closes first; the kernel's application must close when it reads the end.
    pub fn close_first(&mut self) {
        self.say(FIN | ACK);
        self.expect("FIN of the kernel", |segment| segment.has(FIN));
        self.say(ACK);
    }

    pub fn reset(&mut self) {
        self.say(RST | ACK);
    }
}
