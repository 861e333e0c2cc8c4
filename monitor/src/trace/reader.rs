//! Reads a trace file.

use std::io::{self, Read};

use synfin_ebpf::abi::ABI_VERSION;

use super::frame::{self, kind};
use super::{Head, MAGIC};
use crate::input::Input;

/// Why a trace file cannot be read (further).
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("it is not a trace of synfin (it does not start with {magic})", magic = String::from_utf8_lossy(&MAGIC))]
    NotATrace,
    #[error("it is a trace of frame format {0}, and this synfin reads format {ours}", ours = char::from(MAGIC[7]))]
    Format(char),
    #[error("its head is damaged: {0}")]
    Head(String),
    #[error(
        "it was recorded by synfin {synfin} with records of version {abi}, and this synfin reads version {ABI_VERSION}; replay it with the synfin that recorded it"
    )]
    Abi { synfin: String, abi: u32 },
    #[error(
        "it ends at byte {at}, in the middle of a frame: it was cut short; the {frames} frames before that are whole"
    )]
    Cut { at: u64, frames: u64 },
    #[error("the frame at byte {at} makes no sense (kind {kind}, {len} bytes): the file is damaged")]
    Frame { at: u64, kind: u32, len: u32 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// No frame is larger: a walk over ten million sockets.
const LARGEST_FRAME: u32 = 1 << 30;

/// Memory for more than this comes as it is filled: a damaged length must not claim what the file does not have.
const AT_ONCE: u32 = 1 << 20;

/// Hands out the inputs of a trace file in order.
#[derive(Debug)]
pub struct TraceReader<R> {
    from: R,
    head: Head,
    at: u64,
    frames: u64,
    payload: Vec<u8>,
}

impl<R: Read> TraceReader<R> {
    /// Reads and checks the head.
    ///
    /// # Errors
    /// When it is no trace of this version.
    pub fn new(mut from: R) -> Result<Self, TraceError> {
        let mut start = [0; 12];
        from.read_exact(&mut start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TraceError::NotATrace,
            _ => error.into(),
        })?;
        let (magic, len) = start.split_at(8);
        match (magic[..7] == MAGIC[..7], magic[7] == MAGIC[7]) {
            (true, true) => {}
            (true, false) => return Err(TraceError::Format(char::from(magic[7]))),
            (false, _) => return Err(TraceError::NotATrace),
        }
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
        if len > 1 << 16 {
            return Err(TraceError::Head(format!("a length of {len} bytes")));
        }
        let mut json = vec![0; len as usize];
        from.read_exact(&mut json).map_err(|_| TraceError::Head("it is cut short".into()))?;
        let head: Head = serde_json::from_slice(&json).map_err(|error| TraceError::Head(error.to_string()))?;
        if head.abi != ABI_VERSION {
            return Err(TraceError::Abi { synfin: head.synfin, abi: head.abi });
        }
        Ok(Self { from, head, at: 12 + u64::from(len), frames: 0, payload: Vec::new() })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Calls `handle` with the next input; `None` after the end mark.
    ///
    /// # Errors
    /// When the file is cut or damaged here; what came before was whole.
    pub fn next<T>(&mut self, handle: impl FnOnce(Input<'_>) -> T) -> Result<Option<T>, TraceError> {
        let mut start = [0; 8];
        self.fill(&mut start)?;
        let [a, b, c, d, e, f, g, h] = start;
        let (kind, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let damaged = TraceError::Frame { at: self.at, kind, len };
        if kind == kind::END && len == 0 {
            return Ok(None);
        }
        if len > LARGEST_FRAME {
            return Err(damaged);
        }
        let mut payload = std::mem::take(&mut self.payload);
        if len <= AT_ONCE {
            payload.resize(len as usize, 0);
            self.fill(&mut payload)?;
        } else {
            payload.clear();
            let read = self.from.by_ref().take(u64::from(len)).read_to_end(&mut payload)?;
            if read < len as usize {
                return Err(TraceError::Cut { at: self.at, frames: self.frames });
            }
        }
        let handled = frame::decode(kind, &payload, handle).ok_or(damaged)?;
        self.payload = payload;
        self.at += 8 + u64::from(len);
        self.frames += 1;
        Ok(Some(handled))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TraceError> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TraceError::Cut { at: self.at, frames: self.frames },
            _ => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::TraceWriter;
    use super::*;
    use crate::event::{CgroupId, KernelTime, NetnsId};
    use crate::input::{HostFigures, NamespaceReading, Walk};
    use synfin_ebpf::abi::{Counters, Ends};

    fn head() -> Head {
        Head {
            abi: ABI_VERSION,
            synfin: "0.1.0".into(),
            kernel: "6.1".into(),
            wall_offset_ns: -5,
            max_connections: 9,
            synack_probe: true,
            all_namespaces: true,
        }
    }

    fn trace(head: &Head) -> Vec<u8> {
        let mut writer = TraceWriter::new(Vec::new(), head).expect("memory");
        let counters = Counters { records: 3, wakeups: 4, ..Counters::ZERO };
        let ends = Ends { made: [1, 2], turned: 3, refused: 4, left: [[5; 7], [6; 7]] };
        let host = HostFigures { time_wait: Some(0), tw_recycled: Some(7), ..HostFigures::default() };
        let namespace = NamespaceReading {
            id: NetnsId(u32::MAX),
            cookie: Some(u64::MAX),
            name: "a\"b\n\u{1f}".into(),
            own: true,
            host,
            ports: Some(("32768\t60999\n".into(), "".into())),
        };
        let walk = Walk {
            began: KernelTime(1),
            ended: KernelTime(2),
            counters: &counters,
            host,
            sockets: &[7; 80],
            unix_seconds: 1.5,
        };
        for input in [
            Input::Record(&[1, 2, 3]),
            Input::Totals { counters: &counters, probe_missed: 8 },
            Input::Ends(&ends),
            Input::Host(host),
            Input::Ports { range: "32768\t60999\n", reserved: "" },
            Input::Unit { cgroup: CgroupId(3), name: "nginx.service" },
            Input::Namespaces { readings: &[namespace, NamespaceReading::default()], refused: 2 },
            Input::WalkBegins { at: KernelTime(6), counters: &counters },
            Input::Walk(walk),
            Input::WalkFailed,
        ] {
            writer.write(&input).expect("memory");
        }
        writer.finish().expect("memory")
    }

    #[test]
    fn what_was_written_is_read_and_writes_the_same() {
        let bytes = trace(&head());
        let mut reader = TraceReader::new(bytes.as_slice()).expect("head");
        assert_eq!(reader.head(), &head());
        let mut again = TraceWriter::new(Vec::new(), &head()).expect("memory");
        let mut frames = 0;
        while let Some(written) = reader.next(|input| again.write(&input)).expect("whole file") {
            written.expect("memory");
            frames += 1;
        }
        assert_eq!((frames, again.finish().expect("memory")), (10, bytes));
    }

    #[test]
    fn bad_files_are_told_apart() {
        let good = trace(&head());
        let check = |bytes: &[u8], expected: &str| {
            let error = TraceReader::new(bytes).and_then(|mut reader| {
                while reader.next(|_| ())?.is_some() {}
                Ok(())
            });
            let error = error.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        };
        check(b"", "not a trace");
        check(b"ELF, or whatever else", "not a trace");
        check(&[b"SYNFINT9", &good[8..]].concat(), "format 9");
        check(&good[..20], "head is damaged: it is cut short");
        check(&trace(&Head { abi: 77, ..head() }), "records of version 77");
        check(&good[..good.len() - 1], "in the middle of a frame: it was cut short; the 10 frames");
        check(&good[..good.len() - 12], "the 9 frames before that are whole");
        let claims_much = [1u32.to_le_bytes(), LARGEST_FRAME.to_le_bytes()].concat();
        check(&[&good[..good.len() - 8], &claims_much, &[0; 9]].concat(), "the 10 frames before that are whole");
        let head_end = 12 + u32::from_le_bytes([good[8], good[9], good[10], good[11]]) as usize;
        // The first frame is a record of three bytes, the second the totals: 255 transitions of a kind in the highest byte.
        let mut absurd = good.clone();
        absurd[head_end + 8 + 3 + 8 + 8 + 7] = 255;
        check(&absurd, "makes no sense (kind 2");
        let mut odd = good.clone();
        let last = odd.len() - 8;
        odd[last] = 99;
        check(&odd, "makes no sense (kind 99");
    }
}
