// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages: takes what a program wants, gives the call as it goes over the socket; takes a reply, gives what it says or the
//! refusal. Names and meanings are those of the interface description `io.keepahead.Control`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;

/// A Varlink call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub method: String,
    #[serde(default)]
    pub parameters: Option<Value>,
    /// Many replies are wanted.
    #[serde(default)]
    pub more: bool,
    /// No reply is wanted.
    #[serde(default)]
    pub oneway: bool,
}

impl Call {
    /// A method of keepahead's interface, or of another one where the name has a dot.
    pub fn new(method: &str, parameters: Value) -> Call {
        let method = if method.contains('.') { method.to_owned() } else { format!("{}.{method}", crate::INTERFACE) };
        Call { method, parameters: Some(parameters), more: false, oneway: false }
    }

    /// The message, with its NUL.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut call = json!({ "method": self.method, "parameters": self.parameters });
        for (flag, set) in [("more", self.more), ("oneway", self.oneway)] {
            if set {
                call[flag] = true.into();
            }
        }
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        bytes
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent understood and refuses; `error` is the name in the description, such as `LimitReached`.
    #[error("{error}: {}", in_words(parameters))]
    Refused { error: String, parameters: Value },
    /// The connection is of no use any more.
    #[error("the agent's socket: {0}")]
    Socket(#[from] io::Error),
    /// What came is no reply of this protocol.
    #[error("the agent's answer to {method} is not understood: {reason}")]
    Answer { method: String, reason: String },
}

/// `parameter value_kib, value 1000, allowed a power of two`
fn in_words(parameters: &Value) -> String {
    let word = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(|v| v.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let named = |(name, v): (&String, &Value)| if name == "reason" { word(v) } else { format!("{name} {}", word(v)) };
    parameters.as_object().into_iter().flatten().map(named).collect::<Vec<_>>().join(", ")
}

/// A reply's parameters, or its error.
pub(crate) fn outcome(method: &str, body: &[u8]) -> Result<Value, ClientError> {
    let answer = |reason: String| ClientError::Answer { method: method.into(), reason };
    let mut reply: Value = serde_json::from_slice(body).map_err(|e| answer(e.to_string()))?;
    match reply["error"].as_str().map(|e| e.rsplit('.').next().unwrap_or(e).to_owned()) {
        Some(error) => Err(ClientError::Refused { error, parameters: reply["parameters"].take() }),
        None => Ok(reply["parameters"].take()),
    }
}

/// A number of a reply.
pub(crate) fn number(method: &str, reply: &Value, field: &str) -> Result<u64, ClientError> {
    let missing = || ClientError::Answer { method: method.into(), reason: format!("it has no number {field}") };
    reply[field].as_u64().ok_or_else(missing)
}

/// How the program will read. What is measured decides: only `Once` is acted on, the others are compared with what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hint {
    Sequential,
    Random,
    Strided,
    Shuffled,
    Once,
    Reused,
}

/// A piece of a file, by its number in the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub file: u64,
    /// Bytes from the file's beginning.
    pub offset: u64,
    /// Bytes; 0 is to the end of the file as it is now.
    pub length: u64,
}

impl Range {
    /// All of a file.
    pub fn whole(file: u64) -> Range {
        Range { file, offset: 0, length: 0 }
    }
}

/// A registered workload; without an agent it stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload(pub(crate) Option<u64>);

impl Workload {
    /// Its number at the agent; `None` where there is no agent.
    pub fn number(self) -> Option<u64> {
        self.0
    }
}

/// Ranges of a plan, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Tally {
    pub ranges: u64,
    pub bytes: u64,
}

/// Advice that the agent has given to the kernel for a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Advised {
    pub advice: String,
    pub files: u64,
    pub why: String,
}

/// A workload's figures. Fields that a newer agent adds are passed over; those that an older one does not send are zero.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub name: String,
    pub state: String,
    pub files: u64,
    pub budget_bytes: u64,
    pub ahead_bytes: u64,
    pub ranges_total: u64,
    pub position: Option<u64>,
    pub prefetched_bytes: u64,
    pub discarded_bytes: u64,
    pub wasted_bytes: u64,
    /// In the cache when the reader came.
    pub hits: Tally,
    /// On its way when the reader came.
    pub late: Tally,
    /// Not begun when the reader came.
    pub missed: Tally,
    /// Had been there and was evicted again.
    pub lost: Tally,
    /// The kernel would not tell this user.
    pub unseen: Tally,
    pub advised: Vec<Advised>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_what_the_description_says() {
        let bytes = Call::new("Status", json!({})).bytes();
        assert_eq!(bytes, b"{\"method\":\"io.keepahead.Control.Status\",\"parameters\":{}}\0");
        let oneway = Call { oneway: true, ..Call::new("org.varlink.service.GetInfo", json!({})) };
        assert_eq!(serde_json::from_slice::<Call>(&oneway.bytes()[..oneway.bytes().len() - 1]).unwrap(), oneway);
    }

    #[test]
    fn refusals_name_the_thing_and_the_limit() {
        let body = br#"{"error":"io.keepahead.Control.LimitReached","parameters":{"what":"workloads","limit":16}}"#;
        assert_eq!(outcome("Register", body).unwrap_err().to_string(), "LimitReached: limit 16, what workloads");
        assert!(outcome("Register", b"<html>").unwrap_err().to_string().contains("Register"));
    }

    #[test]
    fn figures_of_newer_and_older_agents_are_understood() {
        let stats: Stats = serde_json::from_str(r#"{"name":"n","hits":{"ranges":2,"bytes":3},"tomorrow":[1]}"#).unwrap();
        assert_eq!((stats.hits.bytes, stats.files), (3, 0));
    }
}
