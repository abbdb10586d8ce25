// SPDX-License-Identifier: MIT OR Apache-2.0
//! What writing to the database costs the disk: each write is appended to the log; a full memtable becomes a table, and a compaction
//! then reads tables from start to end and writes their successors. A few pages of it go with each operation of the database.

use super::DbShape;
use super::tables::Tables;
use crate::workload::place::{Access, FileRef};
use crate::workload::{Fadvice, Op};
use rand::Rng;
use rand_xoshiro::Xoshiro256StarStar;
use std::collections::VecDeque;

/// What a log record has beyond key and value: header, sequence number, batch count and lengths.
const LOG_OVERHEAD: u64 = 30;
/// Bytes of background work that go with one operation.
const CHUNK: u64 = 128 << 10;

#[derive(Clone, Copy)]
enum Job {
    /// A memtable of so many bytes becomes a table.
    Flush(u64),
    /// A table, chosen by the numbers, is read and written anew.
    Rewrite,
}

pub struct Writes {
    log: FileRef,
    access: Access,
    entry: u64,
    memtable: u64,
    compaction_tables: u32,
    /// Written since the last flush.
    filled: u64,
    jobs: VecDeque<Job>,
    /// Table being rewritten.
    table: Option<usize>,
    /// Byte reached by the present job.
    at: u64,
}

impl Writes {
    pub fn new(log: FileRef, shape: &DbShape) -> Writes {
        let DbShape { access, entry, memtable, compaction_tables, .. } = *shape;
        Writes { log, access, entry, memtable, compaction_tables, filled: 0, jobs: VecDeque::new(), table: None, at: 0 }
    }

    pub fn put(&mut self, ops: &mut VecDeque<Op>) {
        ops.push_back(Op::Append { file: self.log.index, bytes: self.entry + LOG_OVERHEAD });
        self.filled += self.entry;
        if self.filled >= self.memtable {
            self.jobs.push_back(Job::Flush(self.filled));
            self.jobs.extend((0..self.compaction_tables).map(|_| Job::Rewrite));
            self.filled = 0;
        }
    }

    /// The next chunk of flush or compaction, where one is due.
    pub fn background(&mut self, tables: &mut Tables, rng: &mut Xoshiro256StarStar, ops: &mut VecDeque<Op>) {
        let (successor, flushed) = tables.spare_files();
        let over = match self.jobs.front().copied() {
            None => return,
            Some(Job::Flush(bytes)) => {
                let over = self.write(flushed, bytes.min(flushed.bytes), ops);
                if over {
                    // The log of a flushed memtable is deleted, and its pages with it.
                    ops.push_back(Op::Fadvise { file: self.log.index, offset: 0, bytes: 0, advice: Fadvice::Dontneed });
                }
                over
            }
            Some(Job::Rewrite) => {
                let table = *self.table.get_or_insert_with(|| rng.gen_range(0..tables.live()));
                let old = tables.file(table);
                old.demand(self.access, self.at, CHUNK, ops);
                let over = self.write(successor, old.bytes.min(successor.bytes), ops);
                if over {
                    ops.push_back(Op::Fadvise { file: old.index, offset: 0, bytes: 0, advice: Fadvice::Dontneed });
                    tables.replace(table);
                    self.table = None;
                }
                over
            }
        };
        if over {
            self.jobs.pop_front();
            self.at = 0;
        }
    }

    /// Writes the next chunk of a new table of `size` bytes; true where that was the last. RocksDB syncs each table it has written.
    fn write(&mut self, file: FileRef, size: u64, ops: &mut VecDeque<Op>) -> bool {
        let bytes = CHUNK.min(size - self.at);
        ops.push_back(Op::Write { file: file.index, offset: self.at, bytes });
        self.at += bytes;
        let over = self.at >= size;
        if over {
            ops.push_back(Op::Sync { file: file.index });
        }
        over
    }
}
