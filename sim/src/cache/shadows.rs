// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long shadows of evicted pages live: with their chunk while it holds a page; else until there are too many such chunks, first in,
//! first out by cgroup, as the kernel's shadow nodes go (`mm/workingset.c`). This bounds memory by cached pages, however long a run.

use super::{CHUNK, Store};
use std::collections::BTreeMap;

/// Whose a chunk is, and since when it holds shadows only.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    pub file: u32,
    pub stretch: u32,
    /// Which emptying it was, counted over all: its key in [`Store::emptied`]; 0 while it holds pages.
    pub emptied: u64,
    pub group: u16,
}

impl Store {
    /// The last page of a chunk left: it goes at once where it holds no shadow, else it waits its turn.
    pub(super) fn empty(&mut self, chunk: usize, group: u16) {
        if self.slots[chunk].iter().all(|slot| *slot == 0) {
            return self.free(chunk);
        }
        if self.emptied.len() <= usize::from(group) {
            self.emptied.resize_with(usize::from(group) + 1, BTreeMap::new);
        }
        self.emptyings += 1;
        (self.owners[chunk].emptied, self.owners[chunk].group) = (self.emptyings, group);
        self.emptied[usize::from(group)].insert(self.emptyings, chunk as u32);
    }

    fn free(&mut self, chunk: usize) {
        self.slots[chunk] = [0; CHUNK as usize];
        let Owner { file, stretch, .. } = std::mem::take(&mut self.owners[chunk]);
        self.files[file as usize][stretch as usize] = 0;
        self.free_chunks.push(chunk as u32 + 1);
    }

    /// Frees the oldest chunks with nothing but shadows, until a cgroup has no more than `most` (`scan_shadow_nodes`; a chunk is as
    /// large as a node of the kernel's tree).
    pub(super) fn forget(&mut self, group: usize, most: u64) {
        while self.emptied.get(group).is_some_and(|emptied| emptied.len() as u64 > most) {
            let Some((_, chunk)) = self.emptied[group].pop_first() else { break };
            self.free(chunk as usize);
        }
    }
}
