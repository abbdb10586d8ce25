// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where accesses go: takes the files that a task has open, gives blocks counted over all of them, and the operations that demand a
//! range of bytes. One place for it, so that no program can leave a file.

use super::Op;
use keepahead_core::units::PAGE_BYTES;
use serde::Deserialize;
use std::collections::VecDeque;

/// An open file: its number is that of the open file and, where the task maps its files, of the mapping of the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    pub index: u32,
    /// Bytes, never 0.
    pub bytes: u64,
}

/// By which way a program gets at its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// `pread(2)`.
    #[default]
    Read,
    /// One load from each page of a mapping.
    Mmap,
}

impl FileRef {
    /// Appends what demands `bytes` at `offset`, cut at the end of the file: one read, or a touch of each page.
    pub fn demand(self, access: Access, offset: u64, bytes: u64, ops: &mut VecDeque<Op>) {
        let end = offset.saturating_add(bytes).min(self.bytes);
        if offset >= end {
            return;
        }
        match access {
            Access::Read => ops.push_back(Op::Read { file: self.index, offset, bytes: end - offset }),
            Access::Mmap => {
                let pages = offset / PAGE_BYTES..=(end - 1) / PAGE_BYTES;
                ops.extend(pages.map(|page| Op::Touch { map: self.index, page }));
            }
        }
    }

    /// Appends what demands `bytes` at `offset` in requests of `request` bytes, first to last.
    pub fn demand_in(self, access: Access, request: u64, offset: u64, bytes: u64, ops: &mut VecDeque<Op>) {
        let end = offset.saturating_add(bytes).min(self.bytes);
        let mut at = offset;
        while at < end {
            self.demand(access, at, request.min(end - at), ops);
            at += request;
        }
    }
}

/// Files cut into blocks of one size and counted through, first file first. The last block of a file may be short.
#[derive(Clone, Debug)]
pub struct Blocks {
    files: Vec<FileRef>,
    /// Blocks up to the end of each file.
    ends: Vec<u64>,
    bytes: u64,
}

impl Blocks {
    /// `bytes`: of a block, at least 1.
    pub fn new(files: Vec<FileRef>, bytes: u64) -> Blocks {
        let mut sum = 0;
        let count = |file: &FileRef| {
            sum += file.bytes.div_ceil(bytes.max(1));
            sum
        };
        let ends = files.iter().map(count).collect();
        Blocks { files, ends, bytes: bytes.max(1) }
    }

    /// Blocks of all files together.
    pub fn count(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// File and offset of a block below [`count`](Blocks::count).
    pub fn at(&self, block: u64) -> (FileRef, u64) {
        let file = self.ends.partition_point(|end| *end <= block).min(self.files.len() - 1);
        let first = if file == 0 { 0 } else { self.ends[file - 1] };
        (self.files[file], (block - first) * self.bytes)
    }
}
