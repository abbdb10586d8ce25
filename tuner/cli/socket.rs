// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verbs' line to the agent: takes a method, parameters and files, gives the reply's parameters, or what is wrong in words and with
//! an exit code. A verb is nothing without an agent, so unlike the client library it says so and ends.

use super::{Exit, Refused, SocketArgs};
use crate::agent;
use crate::config::Config;
use crate::journal::AgentLock;
use anyhow::Context;
use keepahead_client::{ClientError, Connection};
use serde_json::Value;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

pub struct Socket {
    connection: Connection,
}

impl Socket {
    pub fn connect(at: &SocketArgs) -> anyhow::Result<Socket> {
        let path = path(at)?;
        let connection = Connection::open(&path).map_err(|e| {
            let advice = match e.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "control.mode and control.group of the configuration say who may".to_owned()
                }
                _ => nobody_listens(AgentLock::holder(Path::new(agent::LOCK))),
            };
            Refused::new(Exit::Failure, format!("{}: {e}; {advice}", path.display()))
        })?;
        Ok(Socket { connection })
    }

    pub fn call<F: AsFd>(&mut self, method: &str, parameters: Value, files: &[F]) -> anyhow::Result<Value> {
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        match self.connection.call(method, parameters, &fds) {
            Err(refused @ ClientError::Refused { .. }) => Err(Refused::new(Exit::Failure, refusal(&refused)).into()),
            reply => reply.context("the agent's answer"),
        }
    }

    /// A call without files.
    pub fn ask(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.call::<BorrowedFd<'_>>(method, parameters, &[])
    }
}

/// What to do where an agent that holds the machine's lock, or none, does not listen.
fn nobody_listens(holder: Option<String>) -> String {
    match holder {
        Some(pid) => format!(
            "keepahead runs with pid {pid}, but does not listen there: it has just started, and loads its probes, or is leaving; without control.enabled it \
             never listens, and one whose control.socket is another is reached by --socket"
        ),
        None => "is `keepahead run` (or keepahead.service) running, with control.enabled? A dry run does not listen".into(),
    }
}

/// A refusal as a person reads it; one that only a program can meet is left as it came.
fn refusal(refused: &ClientError) -> String {
    let ClientError::Refused { error, parameters } = refused else { return refused.to_string() };
    let word = |name: &str| parameters[name].as_str().unwrap_or_default();
    match error.as_str() {
        "InvalidValue" => format!("{} = {}: allowed is {}", word("parameter"), word("value"), word("allowed")),
        "NoSuchDevice" => {
            let known: Vec<&str> = parameters["known"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("no tunable device is called {}; known are {}", word("device"), known.join(", "))
        }
        "NotPermitted" => {
            let (method, needs, user) = (word("method"), word("needs"), word("user"));
            format!("{method} needs the class {needs}, which {user} does not have; see [control] in the configuration")
        }
        // Of one descriptor: what it is of is said around it.
        "BadDescriptor" | "Failed" | "Busy" => word("reason").to_owned(),
        _ => refused.to_string(),
    }
}

/// Where the agent listens: the argument, else `KEEPAHEAD_SOCKET`, else the configuration.
pub fn path(at: &SocketArgs) -> anyhow::Result<PathBuf> {
    let named = at.socket.clone().or_else(|| std::env::var_os("KEEPAHEAD_SOCKET").filter(|p| !p.is_empty()).map(PathBuf::from));
    Ok(match named {
        Some(path) => path,
        None => Config::load_or_default(None)?.control.socket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_that_does_not_listen_yet_is_told_from_none() {
        assert!(
            nobody_listens(Some("42".into()))
                .starts_with("keepahead runs with pid 42, but does not listen there: it has just started")
        );
        assert!(nobody_listens(None).starts_with("is `keepahead run` (or keepahead.service) running"));
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let told = |error: &str, parameters| refusal(&ClientError::Refused { error: error.into(), parameters });
        let pin = json!({ "parameter": "value_kib", "value": "65", "allowed": "a power of two from 4 to 16384" });
        assert_eq!(told("InvalidValue", pin), "value_kib = 65: allowed is a power of two from 4 to 16384");
        let device = json!({ "device": "sdz", "known": ["sda", "sdb"] });
        assert_eq!(told("NoSuchDevice", device), "no tunable device is called sdz; known are sda, sdb");
        let directory = json!({ "index": 0, "reason": "a directory is not read through the page cache" });
        assert_eq!(told("BadDescriptor", directory), "a directory is not read through the page cache");
        assert_eq!(told("Failed", json!({ "reason": "sda is not pinned" })), "sda is not pinned");
    }
}
