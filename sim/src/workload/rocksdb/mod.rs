// SPDX-License-Identifier: MIT OR Apache-2.0
//! RocksDB's `db_bench`, in the shape of its I/O: the six benchmarks of the KML paper (Akgun et al., "Improving Storage Systems Using
//! Machine Learning", ACM TOS 2023) and seekrandom. Takes the table files of a database, gives one operation of the database a piece.
//!
//! Not modelled: block cache (KML and the testbed keep it at 8 MiB), several levels, threads. Compaction goes on between operations.

mod mixgraph;
mod tables;
mod writes;

use self::mixgraph::Mixgraph;
use self::tables::{Cursor, Tables};
use self::writes::Writes;
use super::Op;
use super::distribution::random;
use super::pace::Work;
use super::place::{Access, FileRef};
use rand::Rng;
use rand_xoshiro::Xoshiro256StarStar;
use serde::Deserialize;
use std::collections::VecDeque;

/// `--benchmarks=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Benchmark {
    Readseq,
    Readreverse,
    Readrandom,
    /// `--seek_nexts` entries after each seek.
    Seekrandom,
    /// 90 % lookups, 10 % writes (`--readwritepercent=90`).
    Readrandomwriterandom,
    /// A lookup, then a write of the same key.
    Updaterandom,
    /// The social graph of Cao et al., "Characterizing, Modeling, and Benchmarking RocksDB Key-Value Workloads", FAST 2020.
    Mixgraph,
}

impl Benchmark {
    pub fn writes(self) -> bool {
        matches!(self, Benchmark::Readrandomwriterandom | Benchmark::Updaterandom | Benchmark::Mixgraph)
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct DbShape {
    pub benchmark: Benchmark,
    pub access: Access,
    /// A data block; blocks lie without gaps, so those of other sizes than 4096 cross page borders.
    pub block: u64,
    /// A key and its value as stored.
    pub entry: u64,
    /// `--seek_nexts`.
    pub nexts: u64,
    /// `--write_buffer_size`: so much written makes a new table and a compaction.
    pub memtable: u64,
    /// Tables that a compaction rewrites for each memtable.
    pub compaction_tables: u32,
}

/// A database under one benchmark.
pub struct Database {
    shape: DbShape,
    tables: Tables,
    cursor: Cursor,
    writes: Option<Writes>,
    mixgraph: Mixgraph,
    rng: Xoshiro256StarStar,
}

impl Database {
    /// Benchmarks that write take `log`, and of the `files` two to write new tables to: at least 3 files.
    pub fn new(files: Vec<FileRef>, log: Option<FileRef>, shape: DbShape, seed: u64) -> Database {
        let mut rng = random(seed, 4);
        let spare = if shape.benchmark.writes() { 2 } else { 0 };
        let tables = Tables::new(files, spare, shape.access, shape.block);
        let cursor = match shape.benchmark {
            Benchmark::Readreverse => Cursor::at(tables.blocks().saturating_sub(1)),
            _ => Cursor::default(),
        };
        let writes = log.filter(|_| shape.benchmark.writes()).map(|log| Writes::new(log, &shape));
        let mixgraph = Mixgraph::new(tables.blocks(), &mut rng);
        Database { shape, tables, cursor, writes, mixgraph, rng }
    }

    fn any_block(&mut self) -> u64 {
        self.rng.gen_range(0..self.tables.blocks())
    }

    /// Positions an iterator and reads the blocks of `entries` entries from there.
    fn scan(&mut self, block: u64, entries: u64, ops: &mut VecDeque<Op>) {
        self.tables.search(block, ops);
        let last = (block + entries * self.shape.entry / self.shape.block).min(self.tables.blocks() - 1);
        let mut cursor = Cursor::at(block);
        while cursor.block <= last {
            self.tables.forward(&mut cursor, ops);
        }
    }

    fn lookup(&mut self, block: u64, ops: &mut VecDeque<Op>) {
        self.tables.search(block, ops);
        self.tables.read(block, ops);
    }

    fn put(&mut self, ops: &mut VecDeque<Op>) {
        if let Some(writes) = &mut self.writes {
            writes.put(ops);
        }
    }

    fn mixgraph(&mut self, ops: &mut VecDeque<Op>) {
        let block = self.mixgraph.block(&mut self.rng);
        match self.rng.r#gen::<f64>() {
            x if x < mixgraph::GET => self.lookup(block, ops),
            x if x < mixgraph::GET + mixgraph::PUT => self.put(ops),
            _ => {
                let entries = mixgraph::scan_length(&mut self.rng);
                self.scan(block, entries, ops);
            }
        }
    }
}

impl Work for Database {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        match self.shape.benchmark {
            Benchmark::Readseq => {
                if self.cursor.block >= self.tables.blocks() {
                    self.cursor = Cursor::default();
                }
                self.tables.forward(&mut self.cursor, ops);
            }
            Benchmark::Readreverse => {
                self.tables.read(self.cursor.block, ops);
                self.cursor.block = self.cursor.block.checked_sub(1).unwrap_or(self.tables.blocks() - 1);
            }
            Benchmark::Readrandom => {
                let block = self.any_block();
                self.lookup(block, ops);
            }
            Benchmark::Seekrandom => {
                let block = self.any_block();
                self.scan(block, self.shape.nexts, ops);
            }
            Benchmark::Readrandomwriterandom => {
                let block = self.any_block();
                if self.rng.gen_ratio(9, 10) { self.lookup(block, ops) } else { self.put(ops) }
            }
            Benchmark::Updaterandom => {
                let block = self.any_block();
                self.lookup(block, ops);
                self.put(ops);
            }
            Benchmark::Mixgraph => self.mixgraph(ops),
        }
        if let Some(writes) = &mut self.writes {
            writes.background(&mut self.tables, &mut self.rng, ops);
        }
    }
}
