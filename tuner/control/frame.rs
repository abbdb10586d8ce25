// SPDX-License-Identifier: MIT OR Apache-2.0
//! Varlink's framing on a Unix socket: takes bytes and descriptors as they come, gives whole messages with the descriptors that
//! were sent beside them. A message is a JSON object and a NUL byte.

use super::limits::{LARGE_MESSAGE, MESSAGE_BYTES, MESSAGE_FDS, STALLED};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::collections::VecDeque;
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
    #[error("a message of more than {MESSAGE_BYTES} bytes")]
    TooLong,
    #[error("more than {MESSAGE_FDS} descriptors in a message, or more than this process may hold")]
    TooManyDescriptors,
    #[error("a message or reply that stood still for {} s", STALLED.as_secs())]
    Stalled,
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// One message and what came with it.
#[derive(Debug)]
pub struct Message {
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Bytes that came in, cut into messages. Pure.
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
    /// No NUL before this place.
    searched: usize,
    /// Descriptors, and the place of the last byte that came with them: the kernel ends a read behind the bytes that carried some.
    fds: VecDeque<(usize, OwnedFd)>,
}

impl Assembler {
    /// Takes what one read gave.
    pub fn take(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(bytes);
        let last = self.bytes.len().saturating_sub(1);
        self.fds.extend(fds.into_iter().map(|fd| (last, fd)));
        if self.fds.len() > MESSAGE_FDS { Err(FrameError::TooManyDescriptors) } else { Ok(()) }
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(found) = self.bytes[self.searched..].iter().position(|&b| b == 0) else {
            self.searched = self.bytes.len();
            return if self.searched > MESSAGE_BYTES { Err(FrameError::TooLong) } else { Ok(None) };
        };
        let end = self.searched + found;
        let mut body: Vec<u8> = self.bytes.drain(..=end).collect();
        body.pop();
        self.searched = 0;
        self.bytes.shrink_to(LARGE_MESSAGE);
        let mut fds = Vec::new();
        while self.fds.front().is_some_and(|(at, _)| *at <= end) {
            fds.extend(self.fds.pop_front().map(|(_, fd)| fd));
        }
        for (at, _) in &mut self.fds {
            *at -= end + 1;
        }
        if body.len() > MESSAGE_BYTES { Err(FrameError::TooLong) } else { Ok(Some(Message { body, fds })) }
    }

    fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }
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
        Frames { stream, assembler: Assembler::default(), large }
    }

    /// The next message; `None` where the client has closed. A client may be silent for as long as it likes, but not inside a message.
    pub async fn receive(&mut self) -> Result<Option<Message>, FrameError> {
        let mut permit: Option<OwnedSemaphorePermit> = None;
        loop {
            if let Some(message) = self.assembler.next_message()? {
                return Ok(Some(message));
            }
            if self.assembler.bytes.len() > LARGE_MESSAGE && permit.is_none() {
                let granted = timeout(STALLED, self.large.clone().acquire_owned()).await.map_err(|_| FrameError::Stalled)?;
                permit = granted.ok();
            }
            let readable = match self.assembler.has_begun() {
                true => timeout(STALLED, self.stream.readable()).await.map_err(|_| FrameError::Stalled)?,
                false => self.stream.readable().await,
            };
            readable?;
            match self.stream.try_io(Interest::READABLE, || receive(self.stream.as_raw_fd())) {
                Ok((bytes, _, _)) if bytes.is_empty() => return Ok(None),
                Ok((_, _, true)) => return Err(FrameError::TooManyDescriptors),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn descriptors_go_with_the_message_that_carried_them() {
        let mut assembler = Assembler::default();
        // The read began with the end of one message and ends inside the one that carries descriptors.
        assembler.take(b"{}\0{\"a\"", vec![fd(), fd()]).unwrap();
        assert_eq!(assembler.next_message().unwrap().unwrap().fds.len(), 0);
        assert!(assembler.next_message().unwrap().is_none());
        assembler.take(b":1}\0", vec![]).unwrap();
        let message = assembler.next_message().unwrap().unwrap();
        assert_eq!((message.body.as_slice(), message.fds.len()), (&b"{\"a\":1}"[..], 2));
    }

    #[test]
    fn a_message_without_end_is_given_up_at_the_limit() {
        let mut assembler = Assembler::default();
        let mut given_up = false;
        for _ in 0..=MESSAGE_BYTES / 4096 {
            assembler.take(&[b' '; 4096], vec![]).unwrap();
            given_up |= assembler.next_message().is_err();
        }
        assert!(given_up && assembler.bytes.len() <= MESSAGE_BYTES + 4096);
    }

    proptest! {
        /// However the bytes are cut into reads, the messages are the same.
        #[test]
        fn messages_do_not_depend_on_the_reads(
            bodies in prop::collection::vec(prop::collection::vec(1u8.., 0..50), 0..20),
            cuts in prop::collection::vec(1usize..40, 1..60),
        ) {
            let wire: Vec<u8> = bodies.iter().flat_map(|b| b.iter().copied().chain([0])).collect();
            let (mut assembler, mut got, mut left) = (Assembler::default(), vec![], wire.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, rest) = left.split_at((*cut).min(left.len()));
                assembler.take(now, vec![]).unwrap();
                while let Some(message) = assembler.next_message().unwrap() {
                    got.push(message.body);
                }
                left = rest;
                if left.is_empty() { break }
            }
            prop_assert_eq!(got, bodies);
        }
    }
}
