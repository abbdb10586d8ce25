// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page cache: which folio holds which page of which file, who last used it, and what reclaim takes next.
//!
//! Layout for speed and for memory linear in cached pages: a file's pages hang in chunks of 64. A chunk's [`Head`] (four bit sets, 32
//! bytes) answers a hit on a page that needs nothing done; its slots lead to the folio otherwise. Evicted pages leave a shadow in
//! their slot (`mm/workingset.c`), which goes with its chunk once there are too many of those without a page.

mod lists;
mod mglru;
mod reclaim;
mod shadows;
#[cfg(test)]
mod tests;
mod tiers;
mod two_lists;
mod walk;

pub use lists::List;
pub use reclaim::{Evicted, Memory, Rmap};

use keepahead_core::units::Nanos;
use shadows::Owner;
use std::collections::BTreeMap;

/// Pages in a chunk: one bit each.
pub const CHUNK: u64 = 64;

pub type FolioId = u32;

pub mod flag {
    /// `PG_readahead`: the marker; reaching it starts the next window.
    pub const MARKER: u8 = 1;
    pub const REFERENCED: u8 = 2;
    pub const ACTIVE: u8 = 4;
    /// `PG_workingset`: was active before.
    pub const WORKINGSET: u8 = 8;
    pub const DIRTY: u8 = 16;
}

#[derive(Clone, Copy, Debug)]
pub struct Folio {
    /// When its data is there; up to date from then on.
    pub ready: Nanos,
    pub file: u32,
    /// First page. 32 bits: files up to 16 TiB.
    pub index: u32,
    pub(crate) prev: u32,
    pub(crate) next: u32,
    pub cgroup: u16,
    pub order: u8,
    pub flags: u8,
    /// Multi-generational LRU: reads beyond the first two, and the list it is on.
    pub(crate) refs: u8,
    pub(crate) generation: u8,
}

impl Folio {
    pub fn new(file: u32, index: u64, order: u8, cgroup: u16, flags: u8, ready: Nanos) -> Folio {
        Folio { ready, file, index: index as u32, prev: 0, next: 0, cgroup, order, flags, refs: 0, generation: 0 }
    }

    pub fn pages(&self) -> u64 {
        1 << self.order
    }
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a chunk knows of its 64 pages without looking at folios.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    pub present: u64,
    /// Up to date, active, referenced, not the marker, demanded before: a read changes nothing about it.
    pub settled: u64,
    /// Brought in unasked and not demanded yet: the truth.
    pub unused: u64,
    /// The same as the sensor sees it, which misses touches of mapped pages.
    pub pending: u64,
}

/// Slots hold 0 (never cached), folio + 1, or a shadow: bit 31, bit 30 for `PG_workingset`, 30 bits of the eviction clock (two lists)
/// or of the oldest generation and the reads (multi-generational).
const SHADOW: u32 = 1 << 31;
const SHADOW_WORKINGSET: u32 = 1 << 30;
const AGE_BITS: u32 = SHADOW_WORKINGSET - 1;

#[derive(Default)]
pub struct Store {
    pub folios: Vec<Folio>,
    free_folios: Vec<FolioId>,
    heads: Vec<Head>,
    slots: Vec<[u32; CHUNK as usize]>,
    free_chunks: Vec<u32>,
    /// File of each, chunk number + 1 of each of its 64-page stretches.
    files: Vec<Vec<u32>>,
    owners: Vec<Owner>,
    /// By cgroup: chunks that hold shadows only, by when they came to.
    emptied: Vec<BTreeMap<u64, u32>>,
    emptyings: u64,
    pub cached_pages: u64,
}

/// Bits `from..=to` of a chunk.
pub fn bits(from: u64, to: u64) -> u64 {
    (!0 << (from & 63)) & (!0 >> (63 - (to & 63)))
}

/// Splits pages `first..=last` into (stretch, bits).
pub fn stretches(first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
    (first / CHUNK..=last / CHUNK).map(move |s| {
        let from = if s == first / CHUNK { first % CHUNK } else { 0 };
        let to = if s == last / CHUNK { last % CHUNK } else { 63 };
        (s, bits(from, to))
    })
}

impl Store {
    pub fn add_file(&mut self) -> u32 {
        self.files.push(Vec::new());
        (self.files.len() - 1) as u32
    }

    /// Bytes that the cache's own structures take.
    pub fn bytes(&self) -> usize {
        self.folios.capacity() * size_of::<Folio>()
            + self.heads.capacity() * size_of::<Head>()
            + self.slots.capacity() * size_of::<[u32; CHUNK as usize]>()
            + self.owners.capacity() * size_of::<Owner>()
            + (self.free_folios.capacity() + self.free_chunks.capacity()) * 4
            + self.emptied.iter().map(|e| e.len() * 24).sum::<usize>()
            + self.files.iter().map(|f| f.capacity() * 4).sum::<usize>()
    }

    #[inline]
    fn chunk(&self, file: u32, stretch: u64) -> Option<usize> {
        match self.files[file as usize].get(stretch as usize) {
            Some(&c) if c != 0 => Some(c as usize - 1),
            _ => None,
        }
    }

    #[inline]
    pub fn head(&self, file: u32, stretch: u64) -> Option<&Head> {
        self.chunk(file, stretch).map(|c| &self.heads[c])
    }

    #[inline]
    pub fn head_mut(&mut self, file: u32, stretch: u64) -> Option<&mut Head> {
        self.chunk(file, stretch).map(|c| &mut self.heads[c])
    }

    #[inline]
    pub fn find(&self, file: u32, page: u64) -> Option<FolioId> {
        let chunk = self.chunk(file, page / CHUNK)?;
        (self.heads[chunk].present >> (page % CHUNK) & 1 != 0).then(|| self.slots[chunk][(page % CHUNK) as usize] - 1)
    }

    pub fn present(&self, file: u32, page: u64) -> bool {
        self.head(file, page / CHUNK).is_some_and(|h| h.present >> (page % CHUNK) & 1 != 0)
    }

    /// First page of `first..=last` that is cached.
    pub fn next_present(&self, file: u32, first: u64, last: u64) -> Option<u64> {
        let end = (self.files[file as usize].len() as u64 * CHUNK).checked_sub(1)?;
        if first > last.min(end) {
            return None;
        }
        stretches(first, last.min(end)).find_map(|(s, bits)| {
            let found = self.head(file, s)?.present & bits;
            (found != 0).then(|| s * CHUNK + u64::from(found.trailing_zeros()))
        })
    }

    /// First page at or after `page` that is not cached, looking at no more than `max` pages; `None` where all of them are.
    pub fn next_miss(&self, file: u32, page: u64, max: u64) -> Option<u64> {
        if max == 0 {
            return None;
        }
        stretches(page, page + max - 1).find_map(|(s, bits)| {
            let missing = !self.head(file, s).map_or(0, |h| h.present) & bits;
            (missing != 0).then(|| s * CHUNK + u64::from(missing.trailing_zeros()))
        })
    }

    /// Last page at or before `page` that is not cached, looking at no more than `max` pages: `Some(-1)` where page 0 was looked at
    /// and is cached, `None` where all of them are.
    pub fn prev_miss(&self, file: u32, page: u64, max: u64) -> Option<i64> {
        let first = (page + 1).saturating_sub(max);
        for s in (first / CHUNK..=page / CHUNK).rev() {
            let from = if s == first / CHUNK { first % CHUNK } else { 0 };
            let to = if s == page / CHUNK { page % CHUNK } else { 63 };
            let missing = !self.head(file, s).map_or(0, |h| h.present) & bits(from, to);
            if missing != 0 {
                return Some((s * CHUNK + 63 - u64::from(missing.leading_zeros())) as i64);
            }
        }
        // The walk steps below page 0 only where it may look at one page more than there are.
        (max > page + 1).then_some(-1)
    }

    fn chunk_for(&mut self, file: u32, stretch: u64) -> usize {
        let chunks = &mut self.files[file as usize];
        if chunks.len() <= stretch as usize {
            chunks.resize(stretch as usize + 1, 0);
        }
        if chunks[stretch as usize] == 0 {
            chunks[stretch as usize] = match self.free_chunks.pop() {
                Some(c) => c,
                None => {
                    self.heads.push(Head::default());
                    self.slots.push([0; CHUNK as usize]);
                    self.owners.push(Owner::default());
                    self.heads.len() as u32
                }
            };
            let chunk = chunks[stretch as usize] as usize - 1;
            self.owners[chunk] = Owner { file, stretch: stretch as u32, ..Owner::default() };
        }
        chunks[stretch as usize] as usize - 1
    }

    /// Puts a folio at pages `index..index + (1 << order)`, all of which must be absent. Gives its id and the shadow that its last
    /// slot held, if any.
    fn insert(&mut self, folio: Folio) -> (FolioId, Option<u32>) {
        let (file, first, last) = (folio.file, u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
        self.cached_pages += folio.pages();
        let id = match self.free_folios.pop() {
            Some(id) => {
                self.folios[id as usize] = folio;
                id
            }
            None => {
                self.folios.push(folio);
                (self.folios.len() - 1) as u32
            }
        };
        let mut shadow = None;
        for (s, bits) in stretches(first, last) {
            let chunk = self.chunk_for(file, s);
            if self.heads[chunk].present == 0 && self.owners[chunk].emptied != 0 {
                let owner = &mut self.owners[chunk];
                self.emptied[usize::from(owner.group)].remove(&owner.emptied);
                owner.emptied = 0;
            }
            self.heads[chunk].present |= bits;
            let mut left = bits;
            while left != 0 {
                let slot = &mut self.slots[chunk][left.trailing_zeros() as usize];
                if *slot & SHADOW != 0 {
                    shadow = Some(*slot);
                }
                *slot = id + 1;
                left &= left - 1;
            }
        }
        (id, shadow)
    }

    /// Takes a folio out, leaving `shadow` (or nothing) in its slots. Gives how many of its pages were unused: (truth, sensor).
    fn take_out(&mut self, id: FolioId, shadow: u32) -> (u32, u32) {
        let folio = self.folios[id as usize];
        self.cached_pages -= folio.pages();
        self.free_folios.push(id);
        let (mut unused, mut pending) = (0, 0);
        for (s, bits) in stretches(u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1) {
            let Some(chunk) = self.chunk(folio.file, s) else { continue };
            let head = &mut self.heads[chunk];
            unused += (head.unused & bits).count_ones();
            pending += (head.pending & bits).count_ones();
            head.present &= !bits;
            head.settled &= !bits;
            head.unused &= !bits;
            head.pending &= !bits;
            let mut left = bits;
            while left != 0 {
                self.slots[chunk][left.trailing_zeros() as usize] = shadow;
                left &= left - 1;
            }
            if self.heads[chunk].present == 0 {
                self.empty(chunk, folio.cgroup);
            }
        }
        (unused, pending)
    }

    /// Marks every page of a folio as needing nothing done on a read, or takes that back.
    pub fn settle(&mut self, id: FolioId, settled: bool) {
        let folio = self.folios[id as usize];
        for (s, bits) in stretches(u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1) {
            if let Some(head) = self.head_mut(folio.file, s) {
                head.settled =
                    if settled { head.settled | (bits & !head.unused & !head.pending) } else { head.settled & !bits };
            }
        }
    }
}
