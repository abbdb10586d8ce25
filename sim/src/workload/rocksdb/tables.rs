// SPDX-License-Identifier: MIT OR Apache-2.0
//! A database's table files (SST): data blocks in key order, then the index and the footer. Takes numbers of blocks, counted over all
//! tables, gives what reads them.

use crate::workload::place::{Access, FileRef};
use crate::workload::{Fadvice, Op};
use keepahead_core::units::PAGE_BYTES;
use std::collections::VecDeque;

/// Bytes of an index entry: the separator key of 16 bytes, and the block's offset and size as varints.
const INDEX_ENTRY: u64 = 24;
/// RocksDB's own readahead for iterators over `pread(2)`: begins at the third block in a row with 8 KiB and doubles to 256 KiB
/// (`num_file_reads_for_auto_readahead`, `initial_auto_readahead_size`, `max_auto_readahead_size` in `table.h`). It calls
/// `readahead(2)`, which the kernel carries out as `POSIX_FADV_WILLNEED`.
const AUTO_READAHEAD: (u64, u64, u64) = (2, 8 << 10, 256 << 10);

struct Table {
    file: FileRef,
    opened: bool,
}

/// Tables of one size; the last `spare` of them hold no live data.
pub struct Tables {
    tables: Vec<Table>,
    live: usize,
    access: Access,
    block: u64,
    /// Data blocks of a table.
    per_table: u64,
}

/// An iterator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    pub block: u64,
    /// Blocks of this table read in a row.
    run: u64,
    /// Asked for ahead, up to this byte of the table.
    ahead: u64,
    window: u64,
}

impl Cursor {
    pub fn at(block: u64) -> Cursor {
        Cursor { block, ..Cursor::default() }
    }
}

impl Tables {
    /// All tables hold as many blocks as the smallest file takes.
    pub fn new(files: Vec<FileRef>, spare: usize, access: Access, block: u64) -> Tables {
        let smallest = files.iter().map(|f| f.bytes).min().unwrap_or(0);
        let per_table = (smallest / (block + INDEX_ENTRY)).max(1);
        let live = files.len().saturating_sub(spare).max(1);
        let tables = files.into_iter().map(|file| Table { file, opened: false }).collect();
        Tables { tables, live, access, block, per_table }
    }

    /// Live data blocks.
    pub fn blocks(&self) -> u64 {
        self.live as u64 * self.per_table
    }

    pub fn live(&self) -> usize {
        self.live
    }

    pub fn spare_files(&self) -> (FileRef, FileRef) {
        let spare = &self.tables[self.live..];
        (spare[0].file, spare[1].file)
    }

    pub fn file(&self, table: usize) -> FileRef {
        self.tables[table].file
    }

    /// The first spare file takes the place of a table; the old one is spare from now on.
    pub fn replace(&mut self, table: usize) {
        self.tables.swap(table, self.live);
        self.tables[table].opened = false;
    }

    fn at(&self, block: u64) -> (usize, u64) {
        ((block / self.per_table) as usize, block % self.per_table * self.block)
    }

    /// The table is opened at its first use: index and footer are read to the end and checked.
    fn open(&mut self, table: usize, ops: &mut VecDeque<Op>) {
        let Table { file, opened } = &mut self.tables[table];
        if !std::mem::replace(opened, true) {
            let index = self.per_table * self.block;
            file.demand(self.access, index, file.bytes - index.min(file.bytes), ops);
        }
    }

    /// Looks the block up in the index. From `pread(2)` the index is in the program's memory; a mapped one is searched in place.
    pub fn search(&mut self, block: u64, ops: &mut VecDeque<Op>) {
        let (table, offset) = self.at(block);
        self.open(table, ops);
        if self.access == Access::Read {
            return;
        }
        let index = self.per_table * self.block;
        let (mut low, mut high) = (0, self.per_table);
        let (wanted, mut last) = (offset / self.block, u64::MAX);
        while low < high {
            let middle = low.midpoint(high);
            let page = (index + middle * INDEX_ENTRY) / PAGE_BYTES;
            // Entries of one page cost one access: the rest of the search stays in the processor's caches.
            if page != last {
                self.tables[table].file.demand(Access::Mmap, page * PAGE_BYTES, 1, ops);
                last = page;
            }
            if middle < wanted { low = middle + 1 } else { high = middle }
        }
    }

    /// The checksum behind the block is fetched before it is computed over the block (`VerifyBlockChecksum` in
    /// `table/block_based/reader_common.cc`): through a mapping the last page is touched first.
    pub fn read(&mut self, block: u64, ops: &mut VecDeque<Op>) {
        let (table, offset) = self.at(block);
        self.open(table, ops);
        let file = self.tables[table].file;
        if self.access == Access::Mmap {
            file.demand(self.access, offset + self.block - 1, 1, ops);
        }
        file.demand(self.access, offset, self.block, ops);
    }

    /// Reads the cursor's block and moves on.
    pub fn forward(&mut self, cursor: &mut Cursor, ops: &mut VecDeque<Op>) {
        let (table, offset) = self.at(cursor.block);
        if offset == 0 {
            *cursor = Cursor::at(cursor.block);
        }
        self.open(table, ops);
        let (after, first, most) = AUTO_READAHEAD;
        if self.access == Access::Read && cursor.run >= after && offset + self.block > cursor.ahead {
            cursor.window = (cursor.window * 2).clamp(first, most);
            let file = self.tables[table].file;
            let bytes = (self.block + cursor.window).min(file.bytes - offset);
            ops.push_back(Op::Fadvise { file: file.index, offset, bytes, advice: Fadvice::Willneed });
            cursor.ahead = offset + bytes;
        }
        self.read(cursor.block, ops);
        cursor.block += 1;
        cursor.run += 1;
    }
}
