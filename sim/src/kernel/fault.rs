// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads from file mappings: fault-around, read-around, `mmap_miss`, and what advice on the mapping changes (`filemap_fault`,
//! `filemap_map_pages` of `mm/filemap.c`, `do_fault_around` of `mm/memory.c`).

use super::account::{FAULT_AROUND, VisibleFault};
use super::fill::Caller;
use super::{Kernel, PAGE_TABLE, Probe, cpu};
use crate::cache::{Folio, flag};
use crate::event::Event;
use crate::workload::Madvice;
use keepahead_core::units::{Nanos, PAGE_BYTES};

/// `MMAP_LOTSAMISS`: above it read-around stops.
const LOTS_OF_MISSES: u16 = 100;

/// A load under way.
#[derive(Clone, Copy, Debug)]
pub struct TouchCall {
    pub map: usize,
    pub cgroup: u16,
    /// Page of the file.
    page: u64,
    /// `FAULT_FLAG_TRIED`: this is the second look after a major fault.
    tried: bool,
    slept_since: Option<Nanos>,
}

impl TouchCall {
    /// `page` counts from the start of the mapping.
    pub fn new(kernel: &Kernel, map: usize, cgroup: u16, page: u64) -> TouchCall {
        let m = &kernel.maps.all[map];
        TouchCall { map, cgroup, page: m.first + page.min(m.pages - 1), tried: false, slept_since: None }
    }
}

impl Kernel {
    /// Goes on with a load at `now`, which moves on by the processor's time; `Some(when)` where it has to sleep until then.
    pub fn touch(&mut self, call: &mut TouchCall, probe: &mut Probe, now: &mut Nanos) -> Option<Nanos> {
        let file = self.opens[self.maps.all[call.map].open].file;
        let disk = self.files[file as usize].disk;
        if let Some(since) = call.slept_since.take() {
            now.0 += self.wake;
            let slept = now.since(since).0;
            probe.fault_wait(&mut self.disks[disk].seen, slept, *now);
        }
        // Beyond the end of the file: SIGBUS in the real one.
        if call.page >= self.files[file as usize].pages() {
            return None;
        }
        while !self.maps.all[call.map].is_mapped(call.page) {
            now.0 += cpu::FAULT;
            if self.fault_around(call, probe, *now) {
                break;
            }
            self.memory.in_fault = self.maps.all[call.map].has_recency(call.page, self.rules.advice_drops_recency);
            let wait = self.fault(call, file, probe, now);
            self.memory.in_fault = false;
            if let Some(until) = wait {
                call.slept_since = Some(*now);
                return Some(until);
            }
        }
        now.0 += cpu::LOAD;
        let map = &mut self.maps.all[call.map];
        map.young[(call.page / 64 - map.first / 64) as usize] |= 1 << (call.page % 64);
        self.disks[disk].touched += 1;
        if self.store.head(file, call.page / 64).is_some_and(|h| h.unused >> (call.page % 64) & 1 != 0) {
            self.used(file, call.page, call.page);
        }
        None
    }

    /// Maps what is cached, up to date and unmarked around the page; whether the page itself was.
    fn fault_around(&mut self, call: &TouchCall, probe: &mut Probe, now: Nanos) -> bool {
        let map = &self.maps.all[call.map];
        let (open, file) = (map.open, self.opens[map.open].file);
        let (area_first, end, advice) = map.area(call.page);
        let first = (call.page & !(FAULT_AROUND - 1)).max(area_first);
        let file_end = self.files[file as usize].pages() - 1;
        let table_end = (first / PAGE_TABLE + 1) * PAGE_TABLE - 1;
        let last = (first + FAULT_AROUND - 1).min(table_end).min(end).min(file_end);
        let (mut at, mut found, mut hit, mut misses) = (first, false, false, 0u64);
        while let Some(page) = self.store.next_present(file, at, last) {
            let Some(id) = self.store.find(file, page) else { break };
            let folio = self.store.folios[id as usize];
            let (folio_first, folio_last) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            at = folio_last + 1;
            if folio.ready > now || folio.has(flag::MARKER) {
                continue;
            }
            if !found && self.map_huge(call, &folio, (area_first, end), file_end) {
                return true;
            }
            if !found && !self.has_table(call, folio_last, file_end) {
                return false;
            }
            found = true;
            let whole = self.rules.maps_whole_folio
                && folio_last < file_end
                && folio_first >= area_first
                && folio_last <= end
                && folio_first / PAGE_TABLE == folio_last / PAGE_TABLE;
            let (from, to) = if whole { (folio_first, folio_last) } else { (folio_first.max(first), folio_last.min(last)) };
            let here = (from..=to).contains(&call.page) && self.map_pages(call.map, from, to, call.page);
            if !(from..=to).contains(&call.page) {
                self.map_pages(call.map, from, to, call.page);
            }
            hit |= here;
            let spared = self.rules.miss_spares_workingset && folio.has(flag::WORKINGSET);
            let sequential = advice == Some(Madvice::Sequential);
            misses += match self.rules.miss_by_fault {
                _ if spared => 0,
                true => u64::from(here && !call.tried && !sequential),
                false => to - from + 1,
            };
        }
        let ra = &mut self.opens[open].ra;
        ra.mmap_miss = (u64::from(ra.mmap_miss).saturating_sub(misses)) as u16;
        if found {
            self.trace(|| Event::MapPages { file, first, last });
            let disk = self.files[file as usize].disk;
            let seen = VisibleFault { file, first, last, is_fault: false };
            let cut = probe.fault(&mut self.disks[disk].seen, &mut self.store, now, seen);
            self.count_cut(cut, |c| (&mut c.mmap_cuts, &mut c.mmap_cut_pages));
        }
        hit
    }

    /// A folio of 2 MiB where no page table is: mapped as a huge page, and no event says so (`filemap_map_pmd`).
    fn map_huge(&mut self, call: &TouchCall, folio: &Folio, area: (u64, u64), file_end: u64) -> bool {
        let (first, last) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
        let fits = folio.pages() == PAGE_TABLE && first >= area.0 && last <= area.1;
        let beyond_end = self.rules.no_table_at_eof && last >= file_end;
        let map = &mut self.maps.all[call.map];
        if !fits || beyond_end || *map.table(call.page) || !(first..=last).contains(&call.page) {
            return false;
        }
        self.map_pages(call.map, first, last, call.page);
        true
    }

    /// Whether fault-around finds a page table; it makes one, but for the last folio of a file, where the check that keeps huge pages
    /// from reaching beyond the end skips that too (6.18.x and stable kernels since end of 2025).
    fn has_table(&mut self, call: &TouchCall, folio_last: u64, file_end: u64) -> bool {
        let table = self.maps.all[call.map].table(call.page);
        *table |= !self.rules.no_table_at_eof || folio_last < file_end;
        *table
    }

    /// Maps pages `from..=to`; whether `page` was not mapped before and is now.
    fn map_pages(&mut self, map: usize, from: u64, to: u64, page: u64) -> bool {
        let map = &mut self.maps.all[map];
        let fresh = (from..=to).contains(&page) && !map.is_mapped(page);
        for (slot, bits) in map.bits(from, to) {
            // Page table entries start out used on x86-64, those around the fault too.
            map.young[slot] |= bits & !map.mapped[slot];
            map.mapped[slot] |= bits;
        }
        fresh
    }

    /// `filemap_fault`: `Some(when)` where the page has to be waited for, else look again.
    fn fault(&mut self, call: &mut TouchCall, file: u32, probe: &mut Probe, now: &mut Nanos) -> Option<Nanos> {
        let page = call.page;
        self.trace(|| Event::Fault { file, index: page });
        let disk = self.files[file as usize].disk;
        let seen = VisibleFault { file, first: page, last: page, is_fault: true };
        let cut = probe.fault(&mut self.disks[disk].seen, &mut self.store, *now, seen);
        self.count_cut(cut, |c| (&mut c.mmap_cuts, &mut c.mmap_cut_pages));
        let Some(id) = self.store.find(file, page) else {
            call.tried = true;
            let began = *now;
            self.read_around(call, file, probe, now);
            probe.filled(&mut self.disks[disk].seen, now.since(began).0);
            let id = self.store.find(file, page)?;
            return Some(self.store.folios[id as usize].ready.max(*now));
        };
        let reached_marker = !call.tried && self.async_fault(call, id, probe, now);
        let folio = self.store.folios[id as usize];
        if folio.ready > *now {
            return Some(folio.ready);
        }
        if !reached_marker {
            let (from, to) = if self.rules.maps_whole_folio {
                (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1)
            } else {
                (page, page)
            };
            *self.maps.all[call.map].table(page) = true;
            self.map_pages(call.map, from, to, page);
        }
        None
    }

    /// A fault on a page that is cached (`do_async_mmap_readahead`): whether it reached the marker.
    fn async_fault(&mut self, call: &TouchCall, id: u32, probe: &mut Probe, now: &mut Nanos) -> bool {
        let map = &self.maps.all[call.map];
        let (open, advice) = (map.open, map.area(call.page).2);
        let folio = self.store.folios[id as usize];
        let ra = &mut self.opens[open].ra;
        if advice == Some(Madvice::Random) || ra.ra_pages == 0 {
            return false;
        }
        let locked = self.rules.miss_spares_locked && folio.ready > *now;
        let sequential = self.rules.miss_by_fault && advice == Some(Madvice::Sequential);
        if !locked && !sequential {
            ra.mmap_miss = ra.mmap_miss.saturating_sub(1);
        }
        if !folio.has(flag::MARKER) {
            return false;
        }
        let request = u64::from(ra.ra_pages);
        self.async_ra(open, call.cgroup, probe, now, id, (call.page, request));
        // The window goes to the disk after its last page.
        probe.fault_added(Nanos(now.0.saturating_sub(cpu::SUBMIT)));
        true
    }

    /// A fault on a page that is not cached (`do_sync_mmap_readahead`): afterwards the page is there or on its way.
    fn read_around(&mut self, call: &TouchCall, file: u32, probe: &mut Probe, now: &mut Nanos) {
        let map = &self.maps.all[call.map];
        let (open, advice) = (map.open, map.area(call.page).2);
        let ra_pages = u64::from(self.opens[open].ra.ra_pages);
        let mut caller = Caller { open, cgroup: call.cgroup, now: *now, probe: Some(probe) };
        if advice == Some(Madvice::Sequential) && ra_pages > 0 {
            now.0 += self.sync(&mut caller, call.page, ra_pages);
        } else if advice != Some(Madvice::Random) && ra_pages > 0 {
            let ra = &mut self.opens[open].ra;
            ra.mmap_miss = (ra.mmap_miss + 1).min(LOTS_OF_MISSES * 10);
            if ra.mmap_miss <= LOTS_OF_MISSES {
                ra.start = call.page.saturating_sub(ra_pages / 2);
                ra.size = ra_pages as u32;
                ra.async_size = (ra_pages / 4) as u32;
                if self.rules.order_in_state {
                    ra.order = 0;
                }
                now.0 += self.fill_window(&mut caller, 0);
            }
        }
        if self.store.find(file, call.page).is_none() {
            self.read_one(&mut caller, file, call.page);
            now.0 += cpu::FOLIO + cpu::SUBMIT;
        }
    }

    /// `MADV_POPULATE_READ` and the like: pages of the mapping, for the callers that walk them.
    pub fn map_range(&self, map: usize, page: u64, pages: u64) -> (u64, u64) {
        let m = &self.maps.all[map];
        let first = m.first + page.min(m.pages - 1);
        (first, (first + pages.max(1) - 1).min(m.first + m.pages - 1))
    }

    /// Bytes of `pages` pages.
    pub const fn bytes(pages: u64) -> u64 {
        pages * PAGE_BYTES
    }
}
