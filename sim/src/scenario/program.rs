// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario file can say about what a task does: one table a kind of program, named after it. `files` names a group of files.

use super::schema::nothing;
use crate::workload::distribution::Distribution;
use crate::workload::pace::Arrival;
use crate::workload::place::Access;
use crate::workload::rocksdb::Benchmark;
use crate::workload::streams::Turns;
use serde::Deserialize;

/// What a task does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProgramSpec {
    /// Sleeps.
    Idle {},
    Sequential(ScanSpec),
    Reverse(ScanSpec),
    Strided(StridedSpec),
    Random(RandomSpec),
    Runs(RunsSpec),
    Streams(StreamsSpec),
    Phases(PhasesSpec),
    Rocksdb(RocksdbSpec),
    Epochs(EpochsSpec),
    Weights(WeightsSpec),
    Install(InstallSpec),
    Log(LogSpec),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "request")]
    pub request_kib: u64,
    /// Where the first pass begins, a multiple of `request_kib`; counted from the end by `reverse`.
    #[serde(default)]
    pub start_kib: u64,
    #[serde(default = "yes")]
    pub repeat: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StridedSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "page")]
    pub request_kib: u64,
    /// From the start of one request to the start of the next.
    pub stride_kib: u64,
    #[serde(default = "yes")]
    pub repeat: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "page")]
    pub request_kib: u64,
    /// Exponent of the popularity of places; uniform where it is missing.
    pub zipf: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunsSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "page")]
    pub request_kib: u64,
    /// Length of a run.
    pub pages: Distribution,
}

/// Whether streams share a file's open file description, and with it its readahead state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Descriptors {
    #[default]
    Own,
    Shared,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamsSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "request")]
    pub request_kib: u64,
    /// How many; they are dealt to the files in turn, those of one file begin evenly spread over it.
    pub streams: u64,
    #[serde(default)]
    pub turns: Turns,
    /// Requests of one stream before the next one's turn.
    #[serde(default = "once")]
    pub burst: u32,
    #[serde(default)]
    pub descriptors: Descriptors,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhasesSpec {
    pub of: Vec<PhaseEntry>,
    #[serde(default = "yes")]
    pub repeat: bool,
}

/// One phase; its program keeps its place from one turn to the next.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseEntry {
    pub name: String,
    pub lasts_s: f64,
    #[serde(default = "nothing")]
    pub think_us: Distribution,
    #[serde(default)]
    pub arrival: Arrival,
    pub program: ProgramSpec,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RocksdbSpec {
    /// Table files; 64 MiB each is RocksDB's `target_file_size_base`.
    pub files: String,
    /// The write-ahead log; benchmarks that write need it.
    pub log: Option<String>,
    pub benchmark: Benchmark,
    #[serde(default = "mmap")]
    pub access: Access,
    #[serde(default = "block")]
    pub block_bytes: u64,
    /// A key of 16 bytes and a value of 400.
    #[serde(default = "entry")]
    pub entry_bytes: u64,
    /// Entries read after each seek of `seekrandom`.
    #[serde(default = "nexts")]
    pub nexts: u64,
    /// So much written makes a new table and a compaction.
    #[serde(default = "memtable")]
    pub memtable_kib: u64,
    /// Tables that a compaction rewrites for each memtable.
    #[serde(default = "tables")]
    pub compaction_tables: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochsSpec {
    pub files: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "request")]
    pub request_kib: u64,
    /// For ever where it is missing.
    pub epochs: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsSpec {
    pub files: String,
    #[serde(default = "mmap")]
    pub access: Access,
    #[serde(default = "request")]
    pub request_kib: u64,
    pub tensor_kib: Distribution,
    #[serde(default)]
    pub repeat: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallSpec {
    /// What is read.
    pub files: String,
    /// What is written: existing files, overwritten.
    pub to: String,
    #[serde(default = "request")]
    pub request_kib: u64,
    /// Files between two `fsync(2)`; 0: never.
    #[serde(default)]
    pub sync_every: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// A group of one file, which grows.
    pub files: String,
    pub record_kib: Distribution,
    /// Appends between two `fsync(2)`; 0: never.
    #[serde(default)]
    pub sync_every: u64,
    /// One reader each, and how far it stays behind the end.
    #[serde(default)]
    pub reader_lag_kib: Vec<u64>,
}

fn request() -> u64 {
    128
}
fn page() -> u64 {
    4
}
fn once() -> u32 {
    1
}
fn yes() -> bool {
    true
}
fn mmap() -> Access {
    Access::Mmap
}
/// RocksDB's `block_size`.
fn block() -> u64 {
    4096
}
fn entry() -> u64 {
    416
}
fn nexts() -> u64 {
    50
}
/// RocksDB's `write_buffer_size`.
fn memtable() -> u64 {
    64 << 10
}
fn tables() -> u32 {
    4
}
