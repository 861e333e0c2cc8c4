//! The table of attach points: for each what is tried, best first.

use aya::programs::{BtfTracePoint, FEntry, FExit, Program, ProgramError, RawTracePoint, TracePoint};
use aya::{Btf, Ebpf};
use synfin_ebpf::abi::names;

/// One way to attach a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A raw tracepoint with typed arguments.
    Btf,
    /// A raw tracepoint.
    Raw,
    /// Needs tracefs and a perf event.
    Classic,
    /// At the entry, or the exit, of functions of the kernel. Some virtual machines refuse it.
    Function,
}

impl Way {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Btf, Self::Raw, Self::Classic, Self::Function];
    /// Those of tracepoints, best first.
    pub const OF_TRACEPOINTS: [Self; 3] = [Self::Btf, Self::Raw, Self::Classic];

    /// The label value `kind` of `synfin_probe_attached`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Btf => "btf_tracepoint",
            Self::Raw => "raw_tracepoint",
            Self::Classic => "tracepoint",
            Self::Function => "fentry",
        }
    }
}

/// One attach point of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The kernel's name of the tracepoint, or of the function that matters most.
    pub probe: &'static str,
    /// Its folder under `events/` of tracefs; of functions: none.
    pub category: &'static str,
    /// Without it there is nothing to watch.
    pub required: bool,
    /// Ways with the programs for each, best first.
    pub ways: &'static [(Way, &'static [&'static str])],
    /// What is lost without it.
    pub gives: &'static str,
}

/// [`Point::probe`] of the ends of TIME_WAIT.
pub const TW_ENDS: &str = "inet_twsk_kill";

pub const POINTS: [Point; 3] = [
    Point {
        probe: "inet_sock_set_state",
        category: "sock",
        required: true,
        ways: &[
            (Way::Btf, names::SET_STATE_BTF),
            (Way::Raw, names::SET_STATE_RAW),
            (Way::Classic, names::SET_STATE_CLASSIC),
        ],
        gives: "every state change",
    },
    Point {
        probe: "tcp_retransmit_synack",
        category: "tcp",
        required: false,
        ways: &[(Way::Btf, names::SYNACK_BTF), (Way::Raw, names::SYNACK_RAW)],
        gives: "durations of server handshakes whose SYN-ACK was retransmitted",
    },
    Point {
        probe: TW_ENDS,
        category: "",
        required: false,
        ways: &[(Way::Function, names::TW_ENDS)],
        gives: "causes of the ends of TIME_WAIT sockets",
    },
];

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub probe: &'static str,
    /// As in [`Way::label`], or `iterator`.
    pub kind: &'static str,
    /// `None`: not tried, since a better way worked or another was asked for.
    pub result: Option<Result<(), String>>,
}

/// Tries the ways of `point` in order until one is attached; with `only`, that one alone. Gives the names of the attached
/// programs, and every attempt.
pub fn attach(ebpf: &mut Ebpf, btf: &Btf, point: &Point, only: Option<Way>) -> (&'static [&'static str], Vec<Attempt>) {
    let mut attached: &[&str] = &[];
    let attempts = point
        .ways
        .iter()
        .map(|&(way, programs)| {
            let wanted = attached.is_empty() && only.is_none_or(|only| only == way);
            let result = wanted.then(|| try_way(ebpf, btf, point, way, programs));
            if let Some(Ok(())) = result {
                attached = programs;
            }
            Attempt { probe: point.probe, kind: way.label(), result }
        })
        .collect();
    (attached, attempts)
}

/// Loads all programs before it attaches the first, so that they start together. When one fails, none stays.
fn try_way(ebpf: &mut Ebpf, btf: &Btf, point: &Point, way: Way, programs: &[&str]) -> Result<(), String> {
    for step in [load, attach_loaded] {
        for name in programs {
            let program = ebpf.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
            if let Err(error) = step(program, btf, point, way, names::function_of(name)) {
                tracing::debug!(probe = point.probe, program = name, "cannot attach: {error}");
                let reason = one_line(&error);
                detach(ebpf, programs);
                return Err(reason);
            }
        }
    }
    Ok(())
}

fn load(program: &mut Program, btf: &Btf, point: &Point, way: Way, function: &str) -> Result<(), ProgramError> {
    match (way, program) {
        (Way::Btf, program) => <&mut BtfTracePoint>::try_from(program)?.load(point.probe, btf),
        (Way::Raw, program) => <&mut RawTracePoint>::try_from(program)?.load(),
        (Way::Classic, program) => <&mut TracePoint>::try_from(program)?.load(),
        (Way::Function, Program::FExit(program)) => program.load(function, btf),
        (Way::Function, program) => <&mut FEntry>::try_from(program)?.load(function, btf),
    }
}

fn attach_loaded(
    program: &mut Program,
    _btf: &Btf,
    point: &Point,
    way: Way,
    _function: &str,
) -> Result<(), ProgramError> {
    match (way, program) {
        (Way::Btf, program) => <&mut BtfTracePoint>::try_from(program)?.attach().map(drop),
        (Way::Raw, program) => <&mut RawTracePoint>::try_from(program)?.attach(point.probe).map(drop),
        (Way::Classic, program) => <&mut TracePoint>::try_from(program)?.attach(point.category, point.probe).map(drop),
        (Way::Function, Program::FExit(program)) => FExit::attach(program).map(drop),
        (Way::Function, program) => <&mut FEntry>::try_from(program)?.attach().map(drop),
    }
}

/// Detaches and unloads the programs that are loaded.
pub fn detach(ebpf: &mut Ebpf, programs: &[&str]) {
    for name in programs {
        let unloaded = match ebpf.program_mut(name) {
            Some(Program::BtfTracePoint(program)) => program.unload(),
            Some(Program::RawTracePoint(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::FEntry(program)) => program.unload(),
            Some(Program::FExit(program)) => program.unload(),
            _ => Ok(()),
        };
        match unloaded {
            Ok(()) | Err(ProgramError::NotLoaded) => {}
            Err(error) => tracing::warn!(program = name, "cannot detach: {error}"),
        }
    }
}

/// An error with its causes in one line; the verifier's log, which may be long, is left to the debug level.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = first_line(&error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = first_line(&cause.to_string());
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end();
    // What the verifier said comes on further lines, if it said anything.
    line.strip_suffix("Verifier output:").unwrap_or(line).trim_end_matches([':', '.', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_without_the_log_of_the_verifier() {
        let check = |text, line| assert_eq!(first_line(text), line, "{text}");
        check("not permitted (os error 1). Verifier output: ", "not permitted (os error 1)");
        check("invalid argument:\n0: R1=ctx\n", "invalid argument");
        check("no such file", "no such file");
        check("", "");
    }
}
