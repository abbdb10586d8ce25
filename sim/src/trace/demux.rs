// SPDX-License-Identifier: MIT OR Apache-2.0
//! One trace, many streams: reads on when a stream asks for its next access and holds what belongs to the others, up to a bound.
//!
//! At the bound the asking stream is told to wait until the time of the newest access read. Open-loop nothing is lost by that where
//! times ascend: its own next access cannot be earlier. Closed-loop it keeps a fast stream from running further ahead of the slow
//! ones than the bound; how often that happened is counted.

use super::survey::{Streams, Survey, replayed};
use super::{Access, Source};
use keepahead_core::units::Nanos;
use std::collections::{HashMap, VecDeque};

/// A queue that was longer gives its memory back when it is empty, or 65,536 streams could each keep their longest.
const KEPT: usize = 256;

/// Answer to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Access(Access),
    /// The look-ahead is full; the newest access read has this time.
    Hold(Nanos),
    End,
}

pub(super) struct Demux {
    source: Box<dyn Source>,
    by: Streams,
    index: HashMap<u64, usize>,
    queues: Vec<VecDeque<Access>>,
    /// Accesses that each stream still has to get, by the survey.
    left: Vec<u64>,
    buffered: usize,
    look_ahead: usize,
    newest: Nanos,
    pub served: u64,
    pub held: u64,
    pub fault: Option<String>,
}

impl Demux {
    pub fn new(source: Box<dyn Source>, survey: &Survey, look_ahead: usize) -> Demux {
        let index = survey.streams.keys().enumerate().map(|(i, &key)| (key, i)).collect();
        let left: Vec<u64> = survey.streams.values().map(|s| s.accesses).collect();
        let queues = left.iter().map(|_| VecDeque::new()).collect();
        let newest = Nanos(0);
        Demux { source, by: survey.by, index, queues, left, buffered: 0, look_ahead, newest, served: 0, held: 0, fault: None }
    }

    /// The next access of stream number `stream`, in the order of the survey.
    pub fn next(&mut self, stream: usize) -> Next {
        if self.left[stream] == 0 {
            return Next::End;
        }
        if let Some(access) = self.queues[stream].pop_front() {
            if self.queues[stream].is_empty() && self.queues[stream].capacity() > KEPT {
                self.queues[stream] = VecDeque::new();
            }
            self.buffered -= 1;
            return self.serve(stream, access);
        }
        while self.fault.is_none() {
            if self.buffered >= self.look_ahead {
                self.held += 1;
                return Next::Hold(self.newest);
            }
            let access = match self.source.next() {
                Some(Ok(access)) if replayed(&access) => access,
                Some(Ok(_)) => continue,
                Some(Err(e)) => {
                    self.fault = Some(e.to_string());
                    break;
                }
                None => {
                    self.fault = Some("it ends earlier than when it was surveyed".into());
                    break;
                }
            };
            self.newest = access.at;
            match self.index.get(&self.by.key(&access)) {
                Some(&own) if own == stream => return self.serve(stream, access),
                Some(&other) => {
                    self.queues[other].push_back(access);
                    self.buffered += 1;
                }
                None => self.fault = Some("it has a stream that was not there when it was surveyed".into()),
            }
        }
        Next::End
    }

    fn serve(&mut self, stream: usize, access: Access) -> Next {
        self.left[stream] -= 1;
        self.served += 1;
        Next::Access(access)
    }
}
