// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scans: sequential, reverse and strided are one walk over equal blocks, from either end. Takes files and sizes, gives one request a
//! piece.

use super::Op;
use super::pace::Work;
use super::place::{Access, Blocks, FileRef};
use std::collections::VecDeque;

/// A walk over files, block by block.
pub struct Scan {
    blocks: Blocks,
    access: Access,
    /// Bytes demanded of each block.
    request: u64,
    reverse: bool,
    repeat: bool,
    next: u64,
}

/// Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct ScanShape {
    pub access: Access,
    /// What one request asks for.
    pub request: u64,
    /// From the start of one request to that of the next; `request` where every byte is read.
    pub stride: u64,
    /// Where the first pass begins.
    pub start: u64,
    /// From the end to the beginning.
    pub reverse: bool,
    /// Over and over.
    pub repeat: bool,
}

impl Scan {
    pub fn new(files: Vec<FileRef>, shape: ScanShape) -> Scan {
        let ScanShape { access, request, stride, start, reverse, repeat } = shape;
        Scan { blocks: Blocks::new(files, stride), access, request, reverse, repeat, next: start / stride.max(1) }
    }
}

impl Work for Scan {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        let count = self.blocks.count();
        if self.next >= count {
            if !self.repeat {
                return;
            }
            self.next = 0;
        }
        let block = if self.reverse { count - 1 - self.next } else { self.next };
        self.next += 1;
        let (file, offset) = self.blocks.at(block);
        file.demand(self.access, offset, self.request, ops);
    }
}
