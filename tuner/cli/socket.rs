// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verbs' line to the agent: takes a method, parameters and files, gives the reply's parameters, or what is wrong in words and with
//! an exit code. A verb is nothing without an agent, so unlike the client library it says so and ends.

use super::{Exit, Refused, SocketArgs};
use crate::config::Config;
use anyhow::Context;
use keepahead_client::{ClientError, Connection};
use serde_json::Value;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

pub struct Socket {
    connection: Connection,
}

impl Socket {
    pub fn connect(at: &SocketArgs) -> anyhow::Result<Socket> {
        let path = path(at)?;
        let connection = Connection::open(&path).map_err(|e| {
            let advice = match e.kind() {
                std::io::ErrorKind::PermissionDenied => "control.mode and control.group of the configuration say who may",
                _ => "is `keepahead run` (or keepahead.service) running, with control.enabled?",
            };
            Refused::new(Exit::Failure, format!("{}: {e}; {advice}", path.display()))
        })?;
        Ok(Socket { connection })
    }

    pub fn call<F: AsFd>(&mut self, method: &str, parameters: Value, files: &[F]) -> anyhow::Result<Value> {
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        match self.connection.call(method, parameters, &fds) {
            Err(refused @ ClientError::Refused { .. }) => Err(Refused::new(Exit::Failure, refused.to_string()).into()),
            reply => reply.context("the agent's answer"),
        }
    }

    /// A call without files.
    pub fn ask(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.call::<BorrowedFd<'_>>(method, parameters, &[])
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
