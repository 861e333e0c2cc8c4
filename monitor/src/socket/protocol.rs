//! What is asked and answered. A field that an older side does not know is ignored, one it does not send is `None`.

use serde::{Deserialize, Serialize};

use crate::diagnose::Evidence;

/// Raised when a field changes its meaning; both sides refuse another number.
pub const PROTOCOL: u32 = 1;

/// One line to the daemon: `{"ask":"diagnose","window":"5m"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Left out by people who type: then ours.
    #[serde(default = "ours")]
    pub version: u32,
    #[serde(flatten)]
    pub question: Question,
}

fn ours() -> u32 {
    PROTOCOL
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// Who is there, and how is it?
    Status,
    /// What has been measured, for the rules of [`crate::diagnose`]?
    Diagnose {
        /// How far back, such as `10s` or `5m`; less when the daemon has not watched for so long.
        window: String,
    },
}

/// One line from the daemon: `{"version":1,"status":{…}}`, `{"version":1,"evidence":{…}}` or `{"version":1,"error":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub version: u32,
    #[serde(flatten)]
    pub answer: Answer,
}

impl Reply {
    pub fn new(answer: Answer) -> Self {
        Self { version: PROTOCOL, answer }
    }

    /// A refusal in one line.
    pub fn error(reason: impl std::fmt::Display) -> Self {
        Self::new(Answer::Error(reason.to_string()))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Status(Status),
    Evidence(Box<Evidence>),
    Error(String),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub synfin: String,
    pub pid: u32,
    /// Probes attached and first census done.
    pub ready: bool,
    /// Addresses of the metrics page as they were bound.
    pub listen: Vec<String>,
}

impl Request {
    /// # Errors
    /// One line for whoever asked.
    pub fn parse(line: &str) -> Result<Self, String> {
        let request: Self = serde_json::from_str(line)
            .map_err(|error| format!("not understood: {error}; ask {{\"ask\":\"status\"}}, for example"))?;
        match request.version {
            PROTOCOL => Ok(request),
            other => Err(format!("protocol {other} is not spoken here, {PROTOCOL} is; use the same version of synfin")),
        }
    }
}
