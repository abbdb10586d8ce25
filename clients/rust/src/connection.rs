// SPDX-License-Identifier: MIT OR Apache-2.0
//! A blocking connection that hides nothing: takes a call and files, gives the reply's parameters or the error. For programs that
//! are about keepahead; all others want [`crate::Client`], which goes on without an agent.

use crate::call::{Call, ClientError, outcome};
use crate::frame::{Assembler, REPLY_BYTES};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::Value;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An agent that hangs is given up; its longest answer is that to a `Prefetch` on a slow device.
const ANSWERS: Duration = Duration::from_secs(60);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    assembler: Assembler,
}

impl Connection {
    /// Connects to the agent's socket.
    pub fn open(socket: &Path) -> io::Result<Connection> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWERS))?;
        stream.set_write_timeout(Some(ANSWERS))?;
        Ok(Connection { stream, assembler: Assembler::new(REPLY_BYTES) })
    }

    /// The same socket once more, to end a wait from another thread.
    pub(crate) fn another(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// One call of a method of the interface, with descriptors beside it (at most [`crate::frame::MESSAGE_FDS`]).
    pub fn call(&mut self, method: &str, parameters: Value, files: &[BorrowedFd<'_>]) -> Result<Value, ClientError> {
        self.ask(&Call::new(method, parameters), files)
    }

    /// One call; `Null` where it is oneway.
    pub fn ask(&mut self, call: &Call, files: &[BorrowedFd<'_>]) -> Result<Value, ClientError> {
        let bytes = call.bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            // The descriptors go with the first piece.
            let beside = if sent == 0 { files } else { &[] };
            sent += send(self.stream.as_fd(), &bytes[sent..], beside)?;
        }
        if call.oneway {
            return Ok(Value::Null);
        }
        let body = self.receive()?;
        outcome(&call.method, &body)
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(message) = self.assembler.next_message().map_err(io::Error::other)? {
                return Ok(message.body);
            }
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent has closed the connection")),
                Ok(n) => self.assembler.take(&part[..n], Vec::new()).map_err(io::Error::other)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", ANSWERS.as_secs())));
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// One `sendmsg(2)`. No SIGPIPE: a program that links this may not ignore it.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let beside = if raw.is_empty() { &[][..] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], beside, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::Error::EINTR) => {}
            sent => return Ok(sent?),
        }
    }
}
