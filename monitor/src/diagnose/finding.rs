//! What a rule says: a finding with its numbers, or why it could not be checked.

use serde::Serialize;

use super::subject::Subject;

/// How bad; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing need be done at once.
    Info,
    /// It hurts already a little, or will.
    Warning,
    /// Connections fail, or the kernel breaks TCP's rules to keep going.
    Critical,
}

impl Severity {
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A measured or computed number: a count, or a real.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    Count(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Number {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// What was measured, in words.
    pub name: &'static str,
    pub value: Number,
    /// `ports`, `sockets`, `1/s`, `s`, `1` for shares.
    pub unit: &'static str,
    /// Where the number comes from.
    pub source: &'static str,
}

/// The limit that was crossed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Threshold {
    pub value: Number,
    pub unit: &'static str,
    /// How the limit is made, with its numbers.
    pub formula: String,
}

/// Ways to see for oneself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verify {
    pub promql: String,
    /// A shell command around `ss`.
    pub ss: String,
}

/// One thing found. Field names are part of the `--json` contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Stable: `TW-002`.
    pub id: &'static str,
    pub severity: Severity,
    /// One line, without a full stop.
    pub title: String,
    /// Units, addresses, files: the worst first, few.
    pub whose: Vec<String>,
    /// The same parties as fields, all of them; empty where the rule knows none.
    pub subjects: Vec<Subject>,
    /// The cause, in a sentence or two.
    pub why: String,
    pub measured: Vec<Measured>,
    pub threshold: Threshold,
    /// What to do, the best first.
    pub fixes: Vec<String>,
    /// What people try and what does nothing, or harm.
    pub not_helpful: Vec<String>,
    pub verify: Verify,
}

/// Why a rule could not be checked: what evidence is missing and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

impl Missing {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A rule that could not be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unchecked {
    pub id: &'static str,
    pub why: String,
}

/// What a rule says of the evidence: something, nothing, or that it cannot tell.
pub type Verdict = Result<Option<Finding>, Missing>;

/// Evidence that may be missing, as a value or the reason why the rule stays silent.
pub trait OrMissing<T> {
    /// # Errors
    /// [`Missing`] with `why` when there is no value.
    fn or_missing(self, why: &str) -> Result<T, Missing>;
}

impl<T> OrMissing<T> for Option<T> {
    fn or_missing(self, why: &str) -> Result<T, Missing> {
        self.ok_or_else(|| Missing::new(why))
    }
}

/// The first few of `items` as text; what is left out is counted in a last line.
pub fn worst<T>(items: &[T], text: impl Fn(&T) -> String) -> Vec<String> {
    const SHOWN: usize = 4;
    let mut lines: Vec<String> = items.iter().take(SHOWN).map(text).collect();
    if items.len() > SHOWN {
        lines.push(format!("and {} more", items.len() - SHOWN));
    }
    lines
}
