//! The outcome of a preflight: one item a question, as a table for people and as JSON for machines.

use std::fmt::Write;

use serde::Serialize;

/// How well one item, or the whole, is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// The daemon runs, and something is lost.
    Degraded,
    /// The daemon cannot run.
    Missing,
}

impl Verdict {
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }

    /// Exit status of `synfin check`.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Degraded => 1,
            Self::Missing => 2,
        }
    }
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Stable: scripts may rely on it.
    pub id: &'static str,
    pub verdict: Verdict,
    /// What was found and what it means.
    pub finding: String,
    /// What to do; `None` when there is nothing to do.
    pub advice: Option<String>,
}

impl Item {
    pub fn ok(id: &'static str, finding: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Ok, finding: finding.into(), advice: None }
    }
    pub fn degraded(id: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Degraded, finding: finding.into(), advice: Some(advice.into()) }
    }
    pub fn missing(id: &'static str, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Missing, finding: finding.into(), advice: Some(advice.into()) }
    }
}

/// All items, in the order of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub items: Vec<Item>,
}

impl Report {
    /// The worst of its items.
    pub fn verdict(&self) -> Verdict {
        self.items.iter().map(|item| item.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// One line: would it run, and with what loss or for want of what.
    pub fn conclusion(&self) -> String {
        let verdict = self.verdict();
        let findings: Vec<_> = self.items.iter().filter(|item| item.verdict == verdict).collect();
        let list = findings.iter().map(|item| item.finding.as_str()).collect::<Vec<_>>().join("; ");
        match verdict {
            Verdict::Ok => "synfin would run with everything it has".to_owned(),
            Verdict::Degraded => format!("synfin would run degraded: {list}"),
            Verdict::Missing => format!("synfin could not run: {list}"),
        }
    }

    /// A table with one line an item, what to do below it, and the conclusion.
    pub fn to_text(&self) -> String {
        let id_width = self.items.iter().map(|item| item.id.len()).max().unwrap_or(0).max("ITEM".len());
        let verdict_width = Verdict::Degraded.label().len();
        let mut text = format!("{:id_width$}  {:verdict_width$}  FINDING\n", "ITEM", "VERDICT");
        for Item { id, verdict, finding, advice } in &self.items {
            let _ = writeln!(text, "{id:id_width$}  {:verdict_width$}  {finding}", verdict.label());
            if let Some(advice) = advice {
                let _ = writeln!(text, "{:id_width$}  {:verdict_width$}  → {advice}", "", "");
            }
        }
        let _ = writeln!(text, "\n{}", self.conclusion());
        text
    }

    /// One JSON object: `verdict`, `exit_status`, `conclusion`, `items`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "verdict": self.verdict(),
            "exit_status": self.verdict().exit_status(),
            "conclusion": self.conclusion(),
            "items": self.items,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            items: vec![
                Item::ok("kernel", "6.18.0"),
                Item::degraded("cgroup2", "no names of units", "mount it"),
                Item::missing("capabilities", "CAP_BPF is missing", "run as root"),
            ],
        }
    }

    #[test]
    fn the_worst_item_decides() {
        let check = |count, status, start: &str| {
            let report = Report { items: report().items.into_iter().take(count).collect() };
            assert_eq!(report.verdict().exit_status(), status);
            assert_eq!(report.conclusion(), start);
        };
        check(1, 0, "synfin would run with everything it has");
        check(2, 1, "synfin would run degraded: no names of units");
        check(3, 2, "synfin could not run: CAP_BPF is missing");
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "\
ITEM          VERDICT   FINDING
kernel        ok        6.18.0
cgroup2       degraded  no names of units
                        → mount it
capabilities  missing   CAP_BPF is missing
                        → run as root

synfin could not run: CAP_BPF is missing
";
        assert_eq!(report().to_text(), expected);
    }

    #[test]
    fn machines_get_stable_ids() {
        let json = report().to_json();
        assert_eq!((&json["verdict"], &json["exit_status"]), (&"missing".into(), &2.into()));
        assert_eq!(
            json["items"][1],
            serde_json::json!({"id": "cgroup2", "verdict": "degraded", "finding": "no names of units", "advice": "mount it"})
        );
        assert_eq!(json["items"][0]["advice"], serde_json::Value::Null);
    }
}
