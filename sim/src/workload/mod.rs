// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tasks ask of the kernel: a program yields one operation at a time; the world carries it out and asks for the next when it is
//! done. Programs own their random numbers, so a run does not depend on the order in which tasks are served.

pub mod distribution;
pub mod loader;
pub mod log;
pub mod pace;
pub mod phases;
pub mod place;
pub mod random;
pub mod rocksdb;
pub mod scan;
pub mod streams;

use keepahead_core::units::Nanos;
use serde::{Deserialize, Serialize};

/// `posix_fadvise(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fadvice {
    Normal,
    Sequential,
    Random,
    Willneed,
    Dontneed,
    Noreuse,
}

/// `madvise(2)`, the part that concerns files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Madvice {
    Normal,
    Sequential,
    Random,
    Willneed,
    Dontneed,
    Cold,
    Pageout,
    PopulateRead,
}

/// One thing a task does. `file` and `map` count the files that the task has open and the mappings that it has made, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `pread(2)`.
    Read { file: u32, offset: u64, bytes: u64 },
    /// One load from page `page` of a mapping (counted from the mapping's start).
    Touch { map: u32, page: u64 },
    /// Computes: the task's clock moves on.
    Think(Nanos),
    /// Sleeps until a point in time (open-loop arrival); no time passes where it is over already.
    Until(Nanos),
    /// Bytes; `bytes` 0 means to the end of the file.
    Fadvise { file: u32, offset: u64, bytes: u64, advice: Fadvice },
    /// Pages of the mapping.
    Madvise { map: u32, page: u64, pages: u64, advice: Madvice },
    /// `write(2)` at the end of the file: it grows, the pages are in the cache and dirty.
    Append { file: u32, bytes: u64 },
    /// `write(2)` over existing bytes.
    Write { file: u32, offset: u64, bytes: u64 },
    /// Closes and opens the file again: a new open file description with the bdi's present `ra_pages`.
    Reopen { file: u32 },
    /// `fsync(2)`: waits until the file's dirty pages are stable.
    Sync { file: u32 },
    /// A new phase of the workload begins (for reports and the per-phase oracle). Takes no time.
    Phase(u32),
    /// The task is over.
    End,
}

/// Yields a task's operations.
pub trait Program: Send {
    /// The next operation; `now` is the task's clock. `None` is not an answer: a finished program says [`Op::End`] for ever.
    fn next(&mut self, now: Nanos) -> Op;
}
