// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same client for programs on tokio: takes what they will read, tells the agent, and never blocks the runtime's thread.

use crate::call::{Call, ClientError, outcome};
use crate::connection::send;
use crate::frame::{Assembler, REPLY_BYTES};
use ::tokio::io::Interest;
use ::tokio::net::UnixStream;
use serde_json::Value;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

/// An agent that hangs is given up.
const ANSWERS: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    assembler: Assembler,
}

/// A program's line to the agent, if there is one. Its workloads end with it. A call whose future is dropped half way ends the line:
/// nobody would know whose the next answer is.
#[derive(Debug)]
pub struct Client {
    connection: Option<Connection>,
}

impl Client {
    /// Connects to [`crate::socket_path`]. Never fails.
    pub async fn connect() -> Client {
        Client::connect_to(&crate::socket_path()).await
    }

    /// Connects to an agent's socket. Never fails.
    pub async fn connect_to(socket: &Path) -> Client {
        let opened = UnixStream::connect(socket).await;
        if let Err(e) = &opened {
            crate::say_once(&format_args!("no agent at {}: {e}", socket.display()));
        }
        let connection = |stream| Connection { stream, assembler: Assembler::new(REPLY_BYTES) };
        Client { connection: opened.ok().map(connection) }
    }

    /// Whether an agent listens.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// `None`: there is no agent.
    pub(crate) async fn ask(&mut self, call: &Call, files: &[BorrowedFd<'_>]) -> Result<Option<Value>, ClientError> {
        // Taken out, so that a future that is dropped half way leaves no connection behind.
        let Some(mut connection) = self.connection.take() else { return Ok(None) };
        let answered = ::tokio::time::timeout(ANSWERS, connection.ask(call, files)).await;
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", ANSWERS.as_secs()));
        match answered.unwrap_or_else(|_| Err(late().into())) {
            Err(gone @ (ClientError::Socket(_) | ClientError::Answer { .. })) => {
                crate::say_once(&gone);
                Ok(None)
            }
            answer => {
                self.connection = Some(connection);
                answer.map(Some)
            }
        }
    }
}

impl Connection {
    async fn ask(&mut self, call: &Call, files: &[BorrowedFd<'_>]) -> Result<Value, ClientError> {
        let bytes = call.bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            let beside = if sent == 0 { files } else { &[] };
            let socket = self.stream.as_fd();
            sent += self.stream.async_io(Interest::WRITABLE, || send(socket, &bytes[sent..], beside)).await?;
        }
        if call.oneway {
            return Ok(Value::Null);
        }
        loop {
            if let Some(message) = self.assembler.next_message().map_err(io::Error::other)? {
                return outcome(&call.method, &message.body);
            }
            let mut part = [0; 16 << 10];
            self.stream.readable().await?;
            match self.stream.try_read(&mut part) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent has closed the connection").into()),
                Ok(n) => self.assembler.take(&part[..n], Vec::new()).map_err(io::Error::other)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
