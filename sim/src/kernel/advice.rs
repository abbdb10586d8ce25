// SPDX-License-Identifier: MIT OR Apache-2.0
//! `posix_fadvise(2)` and `madvise(2)` on files (`mm/fadvise.c`, `mm/madvise.c`).

use super::fill::Caller;
use super::{Kernel, cpu};
use crate::cache::flag;
use crate::workload::{Fadvice, Madvice};
use keepahead_core::units::{Nanos, PAGE_BYTES};

impl Kernel {
    /// Advice on bytes `offset..offset + bytes` (0: to the end) of an open file; gives the processor time it took.
    pub fn fadvise(&mut self, open: usize, cgroup: u16, now: Nanos, offset: u64, bytes: u64, advice: Fadvice) -> u64 {
        let file = self.opens[open].file;
        let ra_pages = self.ra_pages(file);
        let o = &mut self.opens[open];
        match advice {
            Fadvice::Normal => (o.ra.ra_pages, o.random, o.noreuse) = (ra_pages, false, false),
            Fadvice::Sequential => (o.ra.ra_pages, o.random) = (ra_pages.saturating_mul(2), false),
            Fadvice::Random => o.random = true,
            Fadvice::Noreuse => o.noreuse = true,
            Fadvice::Willneed => {
                let end = if bytes == 0 { u64::MAX } else { offset.saturating_add(bytes) - 1 };
                let (first, last) = (offset / PAGE_BYTES, end / PAGE_BYTES);
                let mut caller = Caller { open, cgroup, now, probe: None };
                return cpu::SYSCALL + self.force(&mut caller, first, last - first + 1);
            }
            Fadvice::Dontneed => self.dont_need(file, offset, bytes, now),
        }
        let noreuse = self.opens[open].noreuse;
        self.maps.all.iter_mut().filter(|m| m.open == open).for_each(|m| m.noreuse = noreuse);
        cpu::SYSCALL
    }

    /// Whole pages of the range leave the cache, the last one also where it ends with the file.
    fn dont_need(&mut self, file: u32, offset: u64, bytes: u64, now: Nanos) {
        let end = if bytes == 0 { i64::MAX as u64 } else { offset.saturating_add(bytes) - 1 };
        let (first, mut last) = (offset.div_ceil(PAGE_BYTES), end / PAGE_BYTES);
        if end % PAGE_BYTES != PAGE_BYTES - 1 && end + 1 != self.files[file as usize].bytes {
            if last == 0 {
                return;
            }
            last -= 1;
        }
        if first <= last {
            self.invalidate(file, first, last, now);
        }
    }

    /// Clean, unmapped folios that lie wholly within pages `first..=last` leave the cache; dirty ones go down instead
    /// (`mapping_try_invalidate`, `deactivate_file_folio`).
    pub(super) fn invalidate(&mut self, file: u32, first: u64, last: u64, now: Nanos) {
        let mut at = first;
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (from, to) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            at = to + 1;
            if folio.ready > now || from < first || to > last || self.is_mapped(file, from, to) {
                continue;
            }
            if folio.has(flag::DIRTY) {
                self.memory.deactivate(&mut self.store, id);
            } else {
                let gone = self.memory.drop_folio(&mut self.store, id);
                self.evicted.push(gone);
            }
        }
        self.account_evicted(false);
    }

    fn is_mapped(&self, file: u32, first: u64, last: u64) -> bool {
        self.maps.of_file[file as usize].iter().any(|&map| self.maps.all[map as usize].holds(first, last))
    }

    /// Advice on pages of a mapping, counted from its start. `PopulateRead` is the world's: it touches page by page.
    pub fn madvise(&mut self, map: usize, cgroup: u16, now: Nanos, page: u64, pages: u64, advice: Madvice) -> u64 {
        let (first, last) = self.map_range(map, page, pages);
        let open = self.maps.all[map].open;
        let file = self.opens[open].file;
        match advice {
            Madvice::Normal => self.maps.all[map].advise(first, last, None),
            Madvice::Sequential | Madvice::Random => self.maps.all[map].advise(first, last, Some(advice)),
            // One area after the other, each read for itself.
            Madvice::Willneed => {
                let (mut at, mut spent) = (first, cpu::SYSCALL);
                while at <= last {
                    let end = self.maps.all[map].area(at).1.min(last);
                    let bytes = Kernel::bytes(end - at + 1);
                    spent += self.fadvise(open, cgroup, now, Kernel::bytes(at), bytes, Fadvice::Willneed);
                    at = end + 1;
                }
                return spent;
            }
            Madvice::Dontneed => self.zap(map, file, first, last),
            Madvice::Cold | Madvice::Pageout => self.cool(map, file, (first, last), now, advice == Madvice::Pageout),
            Madvice::PopulateRead => {}
        }
        cpu::SYSCALL
    }

    /// Private or shared alike: the page tables forget, the cache keeps, and a use that they knew of counts like a read
    /// (`zap_pte_range`).
    fn zap(&mut self, map: usize, file: u32, first: u64, last: u64) {
        let recent = self.maps.all[map].has_recency(first, self.rules.advice_drops_recency);
        let mut at = first;
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (from, to) = (first.max(u64::from(folio.index)), last.min(u64::from(folio.index) + folio.pages() - 1));
            at = to + 1;
            let m = &mut self.maps.all[map];
            let mut young = false;
            for (slot, bits) in m.bits(from, to) {
                young |= m.young[slot] & bits != 0;
                m.mapped[slot] &= !bits;
                m.young[slot] &= !bits;
            }
            if young && recent {
                self.memory.accessed(&mut self.store, id);
            }
        }
    }

    /// `munmap(2)` of a whole mapping; its number stays taken.
    pub fn munmap(&mut self, map: usize) {
        let (first, last) = (self.maps.all[map].first, self.maps.all[map].first + self.maps.all[map].pages - 1);
        let file = self.opens[self.maps.all[map].open].file;
        self.zap(map, file, first, last);
        self.maps.of_file[file as usize].retain(|m| *m as usize != map);
    }

    /// Pages of the range that only this mapping holds lose their recency (`MADV_COLD`), or go now (`MADV_PAGEOUT`).
    fn cool(&mut self, map: usize, file: u32, (first, last): (u64, u64), now: Nanos, out: bool) {
        let mut at = first;
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (from, to) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            at = to + 1;
            let mappings = &self.maps.of_file[file as usize];
            let alone = mappings.iter().all(|&m| self.maps.all[m as usize].holds(from, to) == (m as usize == map));
            if from < first || to > last || folio.ready > now || !alone {
                continue;
            }
            let m = &mut self.maps.all[map];
            for (slot, bits) in m.bits(from, to) {
                m.young[slot] &= !bits;
            }
            if out && !folio.has(flag::DIRTY) {
                let gone = self.memory.page_out(&mut self.store, id);
                self.evicted.push(gone);
            } else {
                self.memory.deactivate(&mut self.store, id);
            }
        }
        self.account_evicted(true);
    }
}
