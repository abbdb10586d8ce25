// SPDX-License-Identifier: MIT OR Apache-2.0
//! A log that is appended to while others follow it: a message broker's partition. Takes the log as the writer has it open and as each
//! reader has, gives an append and every reader's read a piece. A reader that lags far behind reads what is no longer cached.

use super::Op;
use super::distribution::{Distribution, random};
use super::pace::Work;
use super::place::FileRef;
use rand_xoshiro::Xoshiro256StarStar;
use std::collections::VecDeque;

/// An open file description of its own, and how far it has read.
struct Reader {
    file: u32,
    at: u64,
    /// Bytes behind the end.
    lag: u64,
}

pub struct Log {
    file: FileRef,
    /// Bytes now.
    end: u64,
    /// KiB.
    record: Distribution,
    /// Appends between two syncs; 0: never.
    sync_every: u64,
    appended: u64,
    readers: Vec<Reader>,
    rng: Xoshiro256StarStar,
}

impl Log {
    /// `record` in KiB; `readers`: the log as each has it open, and how many bytes behind the end it stays.
    pub fn new(file: FileRef, record: Distribution, sync_every: u64, readers: Vec<(FileRef, u64)>, seed: u64) -> Log {
        let reader = |(open, lag): (FileRef, u64)| Reader { file: open.index, at: file.bytes.saturating_sub(lag), lag };
        let readers = readers.into_iter().map(reader).collect();
        Log { file, end: file.bytes, record, sync_every, appended: 0, readers, rng: random(seed, 7) }
    }
}

impl Work for Log {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        let bytes = self.record.whole(1024.0, 1, &mut self.rng);
        ops.push_back(Op::Append { file: self.file.index, bytes });
        self.end += bytes;
        self.appended += 1;
        if self.sync_every > 0 && self.appended.is_multiple_of(self.sync_every) {
            ops.push_back(Op::Sync { file: self.file.index });
        }
        for reader in &mut self.readers {
            let to = self.end.saturating_sub(reader.lag);
            if to > reader.at {
                ops.push_back(Op::Read { file: reader.file, offset: reader.at, bytes: to - reader.at });
                reader.at = to;
            }
        }
    }
}
