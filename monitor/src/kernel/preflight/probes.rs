//! For each probe the ways to attach it, best first, and what each costs in insight.

use super::facts::{BtfFact, BtfProbes, Facts};
use super::report::Item;
use crate::config::NetnsScope;
use crate::privilege::missing;

/// One probe with its ladder of fallbacks.
struct Probe {
    /// Id of the item.
    id: &'static str,
    /// As in [`super::ProbeTrial`].
    probe: &'static str,
    /// Best first: kind, and what is lost by using it (`None`: nothing).
    ladder: &'static [(&'static str, Option<&'static str>)],
    /// What the first step brings, where that is to be said.
    brings: Option<&'static str>,
    /// What is lost when no step of the ladder holds.
    without: &'static str,
    /// Without it the daemon does not run.
    vital: bool,
    /// Whether BTF names the attachment point of the first step.
    in_btf: fn(&BtfProbes) -> bool,
}

const CLASSIC_LOSS: &str = "the kernel skips it whenever another tracing program runs on the CPU, so more events are missed, and each run costs more";
const NETLINK_LOSS: &str = "the census takes about twice the time, and full sockets older than the daemon are counted but not followed one by one";
const NO_CENSUS: &str = "sockets older than the daemon are unknown, and nothing audits or fills the gauges of sockets";

const BY_CAUSE: &str = "ends of TIME_WAIT are counted by cause";
const DERIVED_LOSS: &str =
    "ends of TIME_WAIT are derived from the census, and early ones count as unknown unless connect() made them";

const PROBES: [Probe; 4] = [
    Probe {
        id: "probe.inet_sock_set_state",
        probe: "inet_sock_set_state",
        ladder: &[("btf_tracepoint", None), ("raw_tracepoint", None), ("tracepoint", Some(CLASSIC_LOSS))],
        brings: None,
        without: "no state change can be seen",
        vital: true,
        in_btf: |btf| btf.inet_sock_set_state,
    },
    Probe {
        id: "probe.tcp_retransmit_synack",
        probe: "tcp_retransmit_synack",
        ladder: &[("btf_tracepoint", None), ("raw_tracepoint", None)],
        brings: None,
        without: "server handshakes with a retransmitted SYN-ACK count as unmeasured",
        vital: false,
        in_btf: |btf| btf.tcp_retransmit_synack,
    },
    Probe {
        id: "probe.iter_tcp",
        probe: "iter_tcp",
        ladder: &[("iterator", None), (NETLINK, Some(NETLINK_LOSS))],
        brings: None,
        without: NO_CENSUS,
        vital: false,
        in_btf: |btf| btf.iter_tcp,
    },
    Probe {
        id: "probe.inet_twsk_kill",
        probe: "inet_twsk_kill",
        ladder: &[("fentry", None), (DERIVATION, Some(DERIVED_LOSS))],
        brings: Some(BY_CAUSE),
        without: "no end of TIME_WAIT is counted",
        vital: false,
        in_btf: |btf| btf.inet_twsk_kill,
    },
];

/// A step that needs no probe: socket diagnosis.
const NETLINK: &str = "netlink";
/// The step that needs no probe of its own.
const DERIVATION: &str = "derivation";

/// One item a probe.
pub fn assess_probes(facts: &Facts) -> impl Iterator<Item = Item> + '_ {
    PROBES.iter().map(|probe| assess_probe(probe, facts))
}

fn assess_probe(probe: &Probe, facts: &Facts) -> Item {
    let mut refusals = Vec::new();
    for &(kind, loss) in probe.ladder {
        match step(probe, kind, facts) {
            Ok(tried) => {
                let rest = if tried { untaken(probe, kind, facts) } else { String::new() };
                return holds(probe, kind, (tried, is_allowed(facts)), loss, &refusals, &rest);
            }
            Err(reason) => refusals.push(format!("{kind}: {reason}")),
        }
    }
    let finding = format!("{} cannot be attached, so {}", probe.probe, probe.without);
    let advice = format!("tried {}", refusals.join("; "));
    match probe.vital {
        true => Item::missing(probe.id, finding, advice),
        false => Item::degraded(probe.id, finding, advice),
    }
}

fn holds(
    probe: &Probe,
    kind: &str,
    (tried, allowed): (bool, bool),
    loss: Option<&str>,
    refusals: &[String],
    rest: &str,
) -> Item {
    let how = match (tried, allowed) {
        (true, _) => "works as",
        (false, true) => "should work as",
        (false, false) => "with the capabilities, would work as",
    };
    let fallback = if refusals.is_empty() { "" } else { " (fallback)" };
    let kind = kind.replace('_', " ");
    match loss {
        None => {
            let brings = probe.brings.filter(|_| refusals.is_empty()).map(|brings| format!(": {brings}"));
            Item::ok(probe.id, format!("{how} {kind}{fallback}{}{rest}", brings.unwrap_or_default()))
        }
        Some(loss) => {
            let finding = format!("{} {how} {kind}{fallback}{rest}: {loss}", probe.probe);
            Item::degraded(probe.id, finding, format!("refused were {}", refusals.join("; ")))
        }
    }
}

/// What stands behind the step that holds: `; behind it raw tracepoint works, tracepoint is refused (reason)`.
fn untaken(probe: &Probe, taken: &str, facts: &Facts) -> String {
    let after = probe.ladder.iter().skip_while(|(kind, _)| *kind != taken).skip(1);
    let said = after.map(|&(kind, _)| match (step(probe, kind, facts), kind.replace('_', " ")) {
        (Ok(_), kind) => format!("{kind} works"),
        (Err(reason), kind) => format!("{kind} does not ({reason})"),
    });
    match said.collect::<Vec<_>>().join(", ") {
        said if said.is_empty() => said,
        said => format!("; behind it {said}"),
    }
}

/// Whether the capabilities to load probes are held.
fn is_allowed(facts: &Facts) -> bool {
    facts.held.as_ref().is_ok_and(|held| missing(*held, facts.netns == NetnsScope::All).is_empty())
}

/// Whether one step of a ladder holds: by trial (`Ok(true)`) where there was one, else by what the host shows (`Ok(false)`).
fn step(probe: &Probe, kind: &str, facts: &Facts) -> Result<bool, String> {
    match kind {
        NETLINK => return facts.sock_diag.clone().map(|()| true),
        DERIVATION => return Ok(true),
        _ => {}
    }
    let mut trials = facts.trials.iter().filter(|trial| trial.probe == probe.probe).peekable();
    if trials.peek().is_some() {
        return match trials.find(|trial| trial.kind == kind) {
            Some(trial) => trial.result.clone().map(|()| true),
            None => Err("not tried".to_owned()),
        };
    }
    match (kind, &facts.btf) {
        // Whatever way it is attached, a program finds the fields of sockets by it.
        (_, BtfFact::Unusable(_)) => Err("no type information".to_owned()),
        ("tracepoint", _) if facts.tracefs => Ok(false),
        ("tracepoint", _) => Err("tracefs is not mounted or not readable".to_owned()),
        (_, BtfFact::Usable(btf)) if (probe.in_btf)(btf) => Ok(false),
        (_, BtfFact::Usable(_)) => Err("the kernel's BTF does not name it".to_owned()),
    }
}
