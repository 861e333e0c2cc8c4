//! What this host supports and what the daemon would use: facts are read once, the verdicts over them are pure.

mod assess;
mod facts;
mod probes;
mod report;

pub use assess::assess;
pub use facts::{BtfFact, BtfProbes, Facts, Lockdown, PortState, ProbeTrial, read_facts, read_trials};
pub use report::{Item, Report, Verdict};
