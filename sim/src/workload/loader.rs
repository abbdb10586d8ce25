// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads that read whole things in an order of their own: a training data loader (files, shuffled each epoch), model weights (tensors
//! of one file, in scattered order) and a package install (many small files read once and written elsewhere).

use super::Op;
use super::distribution::{Distribution, random};
use super::pace::Work;
use super::place::{Access, FileRef};
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256StarStar;
use std::collections::VecDeque;

/// Whole files, in a new order each epoch.
pub struct Epochs {
    files: Vec<FileRef>,
    access: Access,
    request: u64,
    /// `None`: for ever.
    left: Option<u32>,
    next: usize,
    rng: Xoshiro256StarStar,
}

impl Epochs {
    /// `request` in bytes; `epochs`: `None` for no end.
    pub fn new(files: Vec<FileRef>, access: Access, request: u64, epochs: Option<u32>, seed: u64) -> Epochs {
        let next = files.len();
        Epochs { files, access, request, left: epochs, next, rng: random(seed, 5) }
    }
}

impl Work for Epochs {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        if self.next >= self.files.len() {
            if self.left == Some(0) {
                return;
            }
            self.left = self.left.map(|n| n - 1);
            self.files.shuffle(&mut self.rng);
            self.next = 0;
        }
        let file = self.files[self.next];
        self.next += 1;
        if self.access == Access::Read {
            // A loader opens each file when its turn comes, and with it takes the knob's present value.
            ops.push_back(Op::Reopen { file: file.index });
        }
        file.demand_in(self.access, self.request, 0, file.bytes, ops);
    }
}

/// Tensors, each from start to end, in scattered order.
pub struct Weights {
    /// File, offset and bytes.
    tensors: Vec<(FileRef, u64, u64)>,
    access: Access,
    request: u64,
    repeat: bool,
    next: usize,
}

impl Weights {
    /// Cuts the files into tensors of `size` KiB. They lie side by side without gaps, as in safetensors files.
    pub fn new(files: Vec<FileRef>, access: Access, request: u64, size: &Distribution, repeat: bool, seed: u64) -> Weights {
        let mut rng = random(seed, 6);
        let mut tensors = Vec::new();
        for file in files {
            let mut offset = 0;
            while offset < file.bytes {
                let bytes = size.whole(1024.0, 4096, &mut rng).min(file.bytes - offset);
                tensors.push((file, offset, bytes));
                offset += bytes;
            }
        }
        tensors.shuffle(&mut rng);
        Weights { tensors, access, request, repeat, next: 0 }
    }
}

impl Work for Weights {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        if self.next >= self.tensors.len() && self.repeat {
            self.next = 0;
        }
        if let Some((file, offset, bytes)) = self.tensors.get(self.next) {
            self.next += 1;
            file.demand_in(self.access, self.request, *offset, *bytes, ops);
        }
    }
}

/// Files read once, each written to its place.
pub struct Install {
    /// Source and destination.
    files: Vec<(FileRef, FileRef)>,
    request: u64,
    /// Files between two syncs; 0: never.
    sync_every: usize,
    next: usize,
}

impl Install {
    /// `to` is taken from the start again where it has fewer files; `request` in bytes.
    pub fn new(from: &[FileRef], to: &[FileRef], request: u64, sync_every: usize) -> Install {
        let files = from.iter().copied().zip(to.iter().copied().cycle()).collect();
        Install { files, request, sync_every, next: 0 }
    }
}

impl Work for Install {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        let Some((from, to)) = self.files.get(self.next) else { return };
        self.next += 1;
        from.demand_in(Access::Read, self.request, 0, from.bytes, ops);
        ops.push_back(Op::Write { file: to.index, offset: 0, bytes: from.bytes.min(to.bytes) });
        if self.sync_every > 0 && self.next.is_multiple_of(self.sync_every) {
            ops.push_back(Op::Sync { file: to.index });
        }
    }
}
