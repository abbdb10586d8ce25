// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client's connection, for the agent's side: takes a socket, gives whole messages with the descriptors that were sent beside them
//! (`keepahead_client::frame`), and sends replies; neither may stand still for long.

use super::limits::{LARGE_MESSAGE, MESSAGE_BYTES, MESSAGE_FDS, STALLED};
use keepahead_client::frame::{self, Assembler, Message};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Why a connection is given up: what is said to the log, and where it still can be, to the client.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Bytes(#[from] frame::FrameError),
    #[error("a message or reply that stood still for {} s", STALLED.as_secs())]
    Stalled,
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// A connection's two directions.
pub struct Frames {
    stream: UnixStream,
    assembler: Assembler,
    /// How many large messages the client's user may have under way.
    large: Arc<Semaphore>,
}

impl Frames {
    pub fn new(stream: UnixStream, large: Arc<Semaphore>) -> Frames {
        Frames { stream, assembler: Assembler::new(MESSAGE_BYTES), large }
    }

    pub fn socket(&self) -> &UnixStream {
        &self.stream
    }

    /// The next message; `None` where the client has closed. A client may be silent for as long as it likes, but not inside a message.
    pub async fn receive(&mut self) -> Result<Option<Message>, FrameError> {
        let mut permit: Option<OwnedSemaphorePermit> = None;
        loop {
            if let Some(message) = self.assembler.next_message()? {
                return Ok(Some(message));
            }
            if self.assembler.pending() > LARGE_MESSAGE && permit.is_none() {
                let granted = timeout(STALLED, self.large.clone().acquire_owned()).await.map_err(|_| FrameError::Stalled)?;
                permit = granted.ok();
            }
            let readable = match self.assembler.pending() > 0 {
                true => timeout(STALLED, self.stream.readable()).await.map_err(|_| FrameError::Stalled)?,
                false => self.stream.readable().await,
            };
            readable?;
            match self.stream.try_io(Interest::READABLE, || receive(self.stream.as_raw_fd())) {
                Ok((bytes, _, _)) if bytes.is_empty() => return Ok(None),
                Ok((_, _, true)) => return Err(frame::FrameError::TooManyDescriptors.into()),
                Ok((bytes, fds, false)) => self.assembler.take(&bytes, fds)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Returns when the client hangs up, or breaks the rule that nobody speaks while he is answered with `more`.
    pub async fn closed(&self) -> Result<(), FrameError> {
        loop {
            self.stream.readable().await?;
            let peek = || nix::sys::socket::recv(self.stream.as_raw_fd(), &mut [0u8], MsgFlags::MSG_PEEK).map_err(Into::into);
            match self.stream.try_io(Interest::READABLE, peek) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        let gone = || io::Error::new(io::ErrorKind::ConnectionAborted, "the client ended its stream of replies");
        Err(gone().into())
    }

    /// Sends one message.
    pub async fn send(&self, body: &serde_json::Value) -> Result<(), FrameError> {
        let mut bytes = serde_json::to_vec(body).map_err(io::Error::from)?;
        bytes.push(0);
        let sending = async {
            let mut left = bytes.as_slice();
            while !left.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(left) {
                    Ok(n) => left = &left[n..],
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        Ok(timeout(STALLED, sending).await.map_err(|_| FrameError::Stalled)??)
    }
}

/// One `recvmsg(2)`: bytes, descriptors, and whether some of those were lost.
fn receive(socket: i32) -> io::Result<(Vec<u8>, Vec<OwnedFd>, bool)> {
    let mut buffer = [0u8; 16 << 10];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; MESSAGE_FDS]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for control in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else knows their numbers.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let (length, cut) = (got.bytes, got.flags.contains(MsgFlags::MSG_CTRUNC));
    Ok((buffer[..length].to_vec(), fds, cut))
}
