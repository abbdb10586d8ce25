// SPDX-License-Identifier: MIT OR Apache-2.0
//! `posix_fadvise(2)` and `madvise(2)` on files (`mm/fadvise.c`, `mm/madvise.c`).

use super::account::drops_recency;
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

    /// Clean, unmapped folios that lie wholly within pages `first..=last` leave the cache (`invalidate_mapping_pages`).
    pub(super) fn invalidate(&mut self, file: u32, first: u64, last: u64, now: Nanos) {
        let mut at = first;
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (from, to) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            at = to + 1;
            let kept =
                folio.ready > now || folio.has(flag::DIRTY) || from < first || to > last || self.is_mapped(file, from, to);
            if !kept {
                let gone = self.memory.drop_folio(&mut self.store, id);
                self.evicted.push(gone);
            }
        }
        self.account_evicted(false);
    }

    fn is_mapped(&self, file: u32, first: u64, last: u64) -> bool {
        self.maps.of_file[file as usize].iter().any(|&map| {
            let map = &self.maps.all[map as usize];
            map.bits(first, last).any(|(slot, bits)| map.mapped[slot] & bits != 0)
        })
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
            Madvice::Dontneed => self.zap(map, first, last),
            Madvice::Cold | Madvice::Pageout => self.cool(map, file, (first, last), now, advice == Madvice::Pageout),
            Madvice::PopulateRead => {}
        }
        cpu::SYSCALL
    }

    /// Takes pages out of a mapping; the cache keeps them, and those that were used count as read once more, unless advice on the
    /// mapping says that this means nothing (`zap_present_folio_ptes` in `mm/memory.c`).
    fn zap(&mut self, map: usize, first: u64, last: u64) {
        let m = &mut self.maps.all[map];
        let file = self.opens[m.open].file;
        let counts = !self.rules.advice_drops_recency || !drops_recency(m.area(first).2);
        let mut used = Vec::new();
        for (slot, bits) in m.bits(first, last) {
            if m.young[slot] & bits != 0 {
                used.push((slot as u64 + m.first / 64, m.young[slot] & bits));
            }
            m.mapped[slot] &= !bits;
            m.young[slot] &= !bits;
        }
        let mut last_folio = None;
        for (stretch, mut bits) in used.into_iter().filter(|_| counts) {
            while bits != 0 {
                let folio = self.store.find(file, stretch * 64 + u64::from(bits.trailing_zeros()));
                if let Some(id) = folio.filter(|_| folio != last_folio) {
                    self.memory.accessed(&mut self.store, id);
                }
                (last_folio, bits) = (folio, bits & (bits - 1));
            }
        }
    }

    /// `munmap(2)` of a whole mapping; its number stays taken.
    pub fn munmap(&mut self, map: usize) {
        let (first, last) = (self.maps.all[map].first, self.maps.all[map].first + self.maps.all[map].pages - 1);
        self.zap(map, first, last);
        let file = self.opens[self.maps.all[map].open].file;
        self.maps.of_file[file as usize].retain(|m| *m as usize != map);
    }

    /// Mapped pages of the range are the next to go (`MADV_COLD`), or go now (`MADV_PAGEOUT`).
    fn cool(&mut self, map: usize, file: u32, (first, last): (u64, u64), now: Nanos, out: bool) {
        let mut at = first;
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (from, to) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            at = to + 1;
            let m = &mut self.maps.all[map];
            if from < first
                || to > last
                || folio.ready > now
                || !m.bits(from, to).any(|(slot, bits)| m.mapped[slot] & bits != 0)
            {
                continue;
            }
            for (slot, bits) in m.bits(from, to) {
                m.young[slot] &= !bits;
            }
            if out && !folio.has(flag::DIRTY) {
                let gone = self.memory.drop_folio(&mut self.store, id);
                self.evicted.push(gone);
            } else {
                self.memory.deactivate(&mut self.store, id);
            }
        }
        self.account_evicted(true);
    }
}
