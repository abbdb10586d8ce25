// SPDX-License-Identifier: MIT OR Apache-2.0
//! A blocking client of the control socket for the verbs: takes a method, parameters and files, gives the reply's parameters, or the
//! refusal in words.

use super::{Exit, Refused, SocketArgs};
use crate::config::Config;
use crate::control::INTERFACE;
use anyhow::Context;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub struct Socket {
    stream: BufReader<UnixStream>,
}

impl Socket {
    pub fn connect(at: &SocketArgs) -> anyhow::Result<Socket> {
        let path = match &at.socket {
            Some(path) => path.clone(),
            None => Config::load_or_default(None)?.control.socket,
        };
        let stream = UnixStream::connect(&path).map_err(|e| {
            let advice = match e.kind() {
                std::io::ErrorKind::PermissionDenied => "control.mode and control.group of the configuration say who may",
                _ => "is `keepahead run` (or keepahead.service) running, with control.enabled?",
            };
            Refused::new(Exit::Failure, format!("{}: {e}; {advice}", path.display()))
        })?;
        // An agent that hangs is said to hang; the longest answer is a piece of `prefetch` on a slow device.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Socket { stream: BufReader::new(stream) })
    }

    pub fn call(&mut self, method: &str, parameters: Value, files: &[&File]) -> anyhow::Result<Value> {
        let mut bytes = serde_json::to_vec(&json!({ "method": format!("{INTERFACE}.{method}"), "parameters": parameters }))?;
        bytes.push(0);
        let raw: Vec<_> = files.iter().map(|f| f.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let beside = if raw.is_empty() { &[][..] } else { &rights };
        let stream = self.stream.get_mut();
        let sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&bytes)], beside, MsgFlags::empty(), None)?;
        stream.write_all(&bytes[sent..])?;
        let mut message = Vec::new();
        self.stream.read_until(0, &mut message).context("the agent's answer")?;
        anyhow::ensure!(message.pop() == Some(0), "the agent closed the connection");
        let mut reply: Value = serde_json::from_slice(&message)?;
        match reply["error"].as_str() {
            None => Ok(reply["parameters"].take()),
            Some(error) => Err(Refused::new(Exit::Failure, refusal(error, &reply["parameters"])).into()),
        }
    }
}

/// `InvalidValue: parameter value_kib, value 1000, allowed a power of two …`
fn refusal(error: &str, parameters: &Value) -> String {
    let word = |v: &Value| match v {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(|v| v.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let parts: Vec<String> = parameters
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, v)| if name == "reason" { word(v) } else { format!("{name} {}", word(v)) })
        .collect();
    format!("{}: {}", error.rsplit('.').next().unwrap_or(error), parts.join(", "))
}
