// SPDX-License-Identifier: MIT OR Apache-2.0
//! Varlink's framing on a Unix socket: takes bytes and descriptors as they come, gives whole messages with the descriptors that
//! were sent beside them. A message is a JSON object and a NUL byte. The agent and its clients share this.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// The most that the agent takes in one message, without its final NUL: about 20,000 ranges of a plan.
pub const MESSAGE_BYTES: usize = 1 << 20;
/// The most that a client takes in one reply: the agent's longest, `History`, is far below.
pub const REPLY_BYTES: usize = 64 << 20;
/// Descriptors in one message: the kernel's own SCM_MAX_FD.
pub const MESSAGE_FDS: usize = 253;
/// What of an emptied buffer is kept for the next message.
const KEPT_BYTES: usize = 16 << 10;

/// Why the bytes that came are no messages.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    #[error("more than {MESSAGE_FDS} descriptors in a message, or more than this process may hold")]
    TooManyDescriptors,
}

/// One message and what came with it.
#[derive(Debug)]
pub struct Message {
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Bytes that came in, cut into messages. Pure.
#[derive(Debug)]
pub struct Assembler {
    bytes: Vec<u8>,
    /// No NUL before this place.
    searched: usize,
    /// Descriptors, and the place of the last byte that came with them: the kernel ends a read behind the bytes that carried some.
    fds: VecDeque<(usize, OwnedFd)>,
    most: usize,
}

impl Assembler {
    /// `most`: bytes of the longest message.
    pub fn new(most: usize) -> Assembler {
        Assembler { bytes: Vec::new(), searched: 0, fds: VecDeque::new(), most }
    }

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
            return if self.searched > self.most { Err(FrameError::TooLong(self.most)) } else { Ok(None) };
        };
        let end = self.searched + found;
        let mut body: Vec<u8> = self.bytes.drain(..=end).collect();
        body.pop();
        self.searched = 0;
        self.bytes.shrink_to(KEPT_BYTES);
        let mut fds = Vec::new();
        while self.fds.front().is_some_and(|(at, _)| *at <= end) {
            fds.extend(self.fds.pop_front().map(|(_, fd)| fd));
        }
        for (at, _) in &mut self.fds {
            *at -= end + 1;
        }
        if body.len() > self.most { Err(FrameError::TooLong(self.most)) } else { Ok(Some(Message { body, fds })) }
    }

    /// Bytes of a message that is not yet whole.
    pub fn pending(&self) -> usize {
        self.bytes.len()
    }
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
        let mut assembler = Assembler::new(MESSAGE_BYTES);
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
        let mut assembler = Assembler::new(MESSAGE_BYTES);
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
            let (mut assembler, mut got, mut left) = (Assembler::new(MESSAGE_BYTES), vec![], wire.as_slice());
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
