// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interleaved sequential streams of one task, over one file or many: takes the open file of each stream, gives a few requests of one
//! stream a piece. Two streams on one open file share its readahead state; on an open file each they do not.

use super::Op;
use super::distribution::random;
use super::pace::Work;
use super::place::{Access, FileRef};
use rand::Rng;
use rand_xoshiro::Xoshiro256StarStar;
use serde::Deserialize;
use std::collections::VecDeque;

/// Whose turn is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    #[default]
    RoundRobin,
    Random,
}

struct Stream {
    file: FileRef,
    at: u64,
}

pub struct Streams {
    streams: Vec<Stream>,
    access: Access,
    request: u64,
    turns: Turns,
    /// Requests a turn.
    burst: u32,
    last: usize,
    rng: Xoshiro256StarStar,
}

impl Streams {
    /// One stream an entry of `open`, dealt to `files` different files in turn; streams of one file begin evenly spread over it.
    /// `request` in bytes.
    pub fn new(open: &[FileRef], files: u64, access: Access, request: u64, turns: Turns, burst: u32, seed: u64) -> Streams {
        let slots = (open.len() as u64).div_ceil(files.max(1)).max(1);
        let stream = |(i, file): (usize, &FileRef)| {
            let slot = i as u64 / files.max(1);
            let start = (u128::from(file.bytes) * u128::from(slot) / u128::from(slots)) as u64;
            Stream { file: *file, at: start / request * request }
        };
        let streams: Vec<Stream> = open.iter().enumerate().map(stream).collect();
        let last = streams.len().saturating_sub(1);
        Streams { streams, access, request, turns, burst, last, rng: random(seed, 3) }
    }
}

impl Work for Streams {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        self.last = match self.turns {
            Turns::RoundRobin => (self.last + 1) % self.streams.len(),
            Turns::Random => self.rng.gen_range(0..self.streams.len()),
        };
        let stream = &mut self.streams[self.last];
        for _ in 0..self.burst {
            if stream.at >= stream.file.bytes {
                stream.at = 0;
            }
            stream.file.demand(self.access, stream.at, self.request, ops);
            stream.at += self.request;
        }
    }
}
