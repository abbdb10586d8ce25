// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mappings: which pages their page tables hold, which were used, and whether a use counts.

use super::PAGE_TABLE;
use crate::cache::{Folio, Rmap, stretches};
use crate::workload::Madvice;

/// A mapping of pages `first..first + pages` of a file; its address is aligned like page 0 of the file.
pub struct Map {
    pub open: usize,
    pub first: u64,
    pub pages: u64,
    /// Advice splits a mapping into areas (`struct vm_area_struct`), and fault-around stays within one: first page and advice of each,
    /// ascending, neighbours always different.
    pub(super) areas: Vec<(u64, Option<Madvice>)>,
    /// The open file carries `POSIX_FADV_NOREUSE`.
    pub(super) noreuse: bool,
    /// Bits of 64 file pages each, from the stretch of `first`: mapped, and used since reclaim last asked.
    pub(super) mapped: Vec<u64>,
    pub(super) young: Vec<u64>,
    /// Page tables that exist, one for each 2 MiB of the file from the block of `first`.
    pub(super) tables: Vec<bool>,
}

/// All mappings, and those of each file.
#[derive(Default)]
pub struct Maps {
    pub all: Vec<Map>,
    pub(super) of_file: Vec<Vec<u32>>,
    pub(super) recency_by_advice: bool,
}

impl Rmap for Maps {
    fn referenced(&mut self, folio: &Folio) -> u32 {
        let mut count = 0;
        for &map in &self.of_file[folio.file as usize] {
            let map = &mut self.all[map as usize];
            let page = u64::from(folio.index).max(map.first);
            // A huge page has one entry for all its pages.
            let huge = folio.pages() == PAGE_TABLE && !*map.table(page);
            let recent = map.has_recency(page, self.recency_by_advice);
            let mut entries = 0;
            for (slot, bits) in map.bits(u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1) {
                let young = map.young[slot] & bits;
                map.young[slot] &= !bits;
                entries += if recent { young.count_ones() } else { 0 };
            }
            count += if huge { entries.min(1) } else { entries };
        }
        count
    }
}

impl Map {
    /// Places in the bit sets for those of pages `first..=last` that the mapping holds.
    pub(super) fn bits(&self, first: u64, last: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (from, to) = (first.max(self.first), last.min(self.first + self.pages - 1));
        let base = self.first / 64;
        let range = (from <= to).then_some((from, to));
        range.into_iter().flat_map(move |(from, to)| stretches(from, to).map(move |(s, bits)| ((s - base) as usize, bits)))
    }

    /// The area that holds a page: first and last page, and its advice.
    pub(super) fn area(&self, page: u64) -> (u64, u64, Option<Madvice>) {
        let after = self.areas.partition_point(|(first, _)| *first <= page).max(1);
        let (first, advice) = self.areas[after - 1];
        let last = self.areas.get(after).map_or(self.first + self.pages, |(next, _)| *next) - 1;
        (first, last, advice)
    }

    /// Gives pages `first..=last` an advice; areas are split and merged as `madvise_update_vma` does.
    pub(super) fn advise(&mut self, first: u64, last: u64, advice: Option<Madvice>) {
        let after = (last + 1 < self.first + self.pages).then(|| (last + 1, self.area(last + 1).2));
        self.areas.retain(|(page, _)| *page < first || *page > last + 1);
        self.areas.push((first, advice));
        self.areas.extend(after);
        self.areas.sort_by_key(|(page, _)| *page);
        self.areas.dedup_by(|later, earlier| later.1 == earlier.1);
    }

    /// The page table that a page's entry lies in.
    pub(super) fn table(&mut self, page: u64) -> &mut bool {
        &mut self.tables[(page / PAGE_TABLE - self.first / PAGE_TABLE) as usize]
    }

    /// Whether its references say that a page will be used again (`vma_has_recency`): never where it is read through once, and since
    /// 6.3 (`by_advice`) not in random order or from a `NOREUSE` file either.
    pub(super) fn has_recency(&self, page: u64, by_advice: bool) -> bool {
        match self.area(page).2 {
            Some(Madvice::Sequential) => false,
            Some(Madvice::Random) => !by_advice,
            _ => !(by_advice && self.noreuse),
        }
    }

    pub(super) fn holds(&self, first: u64, last: u64) -> bool {
        self.bits(first, last).any(|(slot, bits)| self.mapped[slot] & bits != 0)
    }

    pub(super) fn is_mapped(&self, page: u64) -> bool {
        self.mapped[(page / 64 - self.first / 64) as usize] >> (page % 64) & 1 != 0
    }
}
