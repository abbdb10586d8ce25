// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a window: which folios are added for it, where the marker goes, and when their data is there (`page_cache_ra_order`,
//! `page_cache_ra_unbounded`, `force_page_cache_ra` of `mm/readahead.c`).

use super::window::Decision;
use super::{Kernel, MAX_ORDER, Probe, cpu, hist_add};
use crate::cache::{Folio, flag};
use crate::event::Event;
use keepahead_core::units::{Nanos, PAGE_BYTES};

/// `force_page_cache_ra` works in chunks of 2 MiB.
const FORCED_CHUNK: u64 = 512;

/// Who asked for a window, and on whose account it goes.
pub struct Caller<'a> {
    pub open: usize,
    pub cgroup: u16,
    pub now: Nanos,
    /// `None`: advice, which is nobody's speculation.
    pub probe: Option<&'a mut Probe>,
}

/// Contiguous new pages that are submitted together.
#[derive(Default)]
struct Batch {
    first: u64,
    pages: u64,
}

impl Kernel {
    /// Carries a decision out; gives the processor time it took.
    pub(super) fn carry_out(&mut self, caller: &mut Caller, index: u64, decision: Decision) -> u64 {
        match decision {
            Decision::Nothing => 0,
            Decision::Forced(pages) => self.force(caller, index, pages),
            Decision::AsIs(pages) => {
                self.count_window(caller, pages.min(self.room(caller, index)));
                self.fill_pages(caller, index, pages, 0)
            }
            Decision::Window { order } => self.fill_window(caller, order),
        }
    }

    /// Exactly `pages` from `index`, no more than the device takes at once or the limit allows, whichever is more.
    pub(super) fn force(&mut self, caller: &mut Caller, index: u64, pages: u64) -> u64 {
        let most = self.io_pages(caller.open).max(u64::from(self.opens[caller.open].ra.ra_pages));
        let (mut left, mut at, mut spent) = (pages.min(most), index, 0);
        while left > 0 {
            let chunk = left.min(FORCED_CHUNK);
            self.count_window(caller, chunk.min(self.room(caller, at)));
            spent += self.fill_pages(caller, at, chunk, 0);
            at += chunk;
            left -= chunk;
        }
        spent
    }

    pub(super) fn io_pages(&self, open: usize) -> u64 {
        let disk = &self.disks[self.files[self.opens[open].file as usize].disk];
        u64::from(disk.disk.limits().max_sectors_kb) * 1024 / PAGE_BYTES
    }

    /// Pages from `index` to the end of the file.
    fn room(&self, caller: &Caller, index: u64) -> u64 {
        self.files[self.opens[caller.open].file as usize].pages().saturating_sub(index)
    }

    fn count_window(&mut self, caller: &Caller, pages: u64) {
        if caller.probe.is_none() || pages == 0 {
            return;
        }
        let (file, ra_pages) = (self.opens[caller.open].file, self.opens[caller.open].ra.ra_pages);
        let stale = ra_pages != self.ra_pages(file);
        let c = self.seen(file);
        c.windows += 1;
        c.window_pages += pages;
        c.stale_windows += u64::from(stale);
        hist_add(&mut c.window_hist, pages, 1);
    }

    /// The window in the file's state, in folios as large as order, alignment and end allow.
    pub(super) fn fill_window(&mut self, caller: &mut Caller, order: u8) -> u64 {
        let open = &self.opens[caller.open];
        let (file, ra) = (open.file, open.ra);
        let (start, size) = (ra.start, u64::from(ra.size));
        let order = if self.rules.order_in_state { ra.order } else { order };
        self.count_window(caller, size);
        self.trace(|| Event::RaOrder {
            file,
            index: start,
            order: ra.order,
            size: ra.size,
            async_size: ra.async_size,
            ra_pages: ra.ra_pages,
        });
        if !self.rules.large_folios(self.disks[self.files[file as usize].disk].filesystem)
            || (self.rules.small_by_page && size < 4)
        {
            self.opens[caller.open].ra.order = 0;
            return self.fill_pages(caller, start, size, u64::from(ra.async_size));
        }
        let order = self.order_for(order, size);
        if self.rules.order_in_state {
            self.opens[caller.open].ra.order = order;
        }
        let end = self.files[file as usize].pages() - 1;
        let limit = end.min(start + size - 1);
        let at_end = end < start + size;
        let mark = (!(self.rules.no_marker_at_eof && at_end)).then(|| start + size - u64::from(ra.async_size));
        let (mut index, mut batch, mut spent, mut clash) = (start, Batch { first: start, pages: 0 }, cpu::SUBMIT, false);
        while index <= limit {
            let order = self.fit(order, index, limit);
            let pages = 1u64 << order;
            if self.store.next_present(file, index, index + pages - 1).is_some() {
                clash = true;
                break;
            }
            let marker = mark.is_some_and(|mark| index == mark & !(pages - 1));
            self.add(caller, file, index, order, marker);
            spent += cpu::FOLIO;
            batch.pages += pages;
            index += pages;
        }
        self.submit(caller, file, &mut batch);
        if clash && size > index - start {
            let left = if self.rules.order_in_state { size - (index - start) } else { size };
            spent += self.fill_pages(caller, index, left, u64::from(ra.async_size));
        }
        spent
    }

    /// The order that a window starts with.
    fn order_for(&self, order: u8, size: u64) -> u8 {
        // Before the order was kept in the state, it grew here from the order of the folio that was hit.
        let grown = if self.rules.order_in_state { order } else { order + 2 };
        grown.min(MAX_ORDER).min(size.ilog2() as u8)
    }

    /// The order of the folio at `index`: aligned, and not beyond `limit`.
    fn fit(&self, order: u8, index: u64, limit: u64) -> u8 {
        let mut order = if index & ((1 << order) - 1) != 0 { index.trailing_zeros() as u8 } else { order };
        if self.rules.no_order_one && order == 1 {
            order = 0;
        }
        while order > 0 && index + (1 << order) - 1 > limit {
            order -= 1;
            if self.rules.no_order_one && order == 1 {
                order = 0;
            }
        }
        order
    }

    /// Page by page, around what is cached already (`do_page_cache_ra`).
    pub(super) fn fill_pages(&mut self, caller: &mut Caller, index: u64, pages: u64, lookahead: u64) -> u64 {
        let file = self.opens[caller.open].file;
        let Some(end) = self.files[file as usize].pages().checked_sub(1) else { return 0 };
        if index > end {
            return 0;
        }
        let (mut pages, mut lookahead) = (pages, lookahead);
        if pages > end - index {
            pages = end - index + 1;
            if self.rules.no_marker_at_eof {
                lookahead = 0;
            }
        }
        self.trace(|| Event::RaUnbounded { file, index, nr_to_read: pages, lookahead });
        let mark = (lookahead <= pages).then(|| index + pages - lookahead);
        let (mut batch, mut spent) = (Batch { first: index, pages: 0 }, cpu::SUBMIT);
        for page in index..index + pages {
            if self.store.present(file, page) {
                self.submit(caller, file, &mut batch);
                batch.first = page + 1;
                continue;
            }
            self.add(caller, file, page, 0, mark == Some(page));
            spent += cpu::FOLIO;
            batch.pages += 1;
        }
        self.submit(caller, file, &mut batch);
        spent
    }

    /// Adds a folio that is still to be read.
    pub(super) fn add(&mut self, caller: &mut Caller, file: u32, index: u64, order: u8, marker: bool) {
        let pages = 1u64 << order;
        let cgroup = usize::from(caller.cgroup);
        self.memory.charge(&mut self.store, cgroup, pages, caller.now, &mut self.maps, &mut self.evicted);
        if !self.evicted.is_empty() {
            self.account_evicted(true);
        }
        let flags = if marker { flag::MARKER } else { 0 };
        // Not there before it is submitted: no reader must take it for up to date.
        let ready = Nanos(u64::MAX);
        let folio = Folio::new(file, index, order, caller.cgroup, flags, ready);
        self.memory.add(&mut self.store, folio);
        self.trace(|| Event::Add { file, index, order });
        if let Some(probe) = caller.probe.as_deref_mut() {
            let disk = self.files[file as usize].disk;
            probe.added(&mut self.disks[disk].seen, &mut self.store, file, index, index + pages - 1);
        }
    }

    pub(super) fn submit_one(&mut self, caller: &Caller, file: u32, page: u64) {
        self.submit(caller, file, &mut Batch { first: page, pages: 1 });
    }

    /// Sends what was gathered to the disk; folios become ready as their last request completes.
    fn submit(&mut self, caller: &Caller, file: u32, batch: &mut Batch) {
        if batch.pages == 0 {
            return;
        }
        let f = &self.files[file as usize];
        let bytes = (batch.pages * PAGE_BYTES).min(f.bytes.next_multiple_of(512) - batch.first * PAGE_BYTES);
        let disk = &mut self.disks[f.disk];
        self.pieces.clear();
        disk.disk.read(caller.now, f.base + batch.first * PAGE_BYTES, bytes, &mut self.pieces);
        let c = &mut disk.seen;
        for piece in &self.pieces {
            let latency = piece.done.since(caller.now).0;
            c.dev_reads += 1;
            c.dev_read_bytes += piece.bytes;
            c.dev_read_ns += latency;
            hist_add(&mut c.dev_latency_hist, latency / 1000, 1);
            hist_add(&mut c.dev_size_hist, piece.bytes >> 10, 1);
        }
        let (mut at, mut there, mut done) = (batch.first, 0, Nanos(0));
        let mut pieces = self.pieces.iter();
        while at < batch.first + batch.pages {
            let Some(id) = self.store.find(file, at) else { break };
            let folio = &mut self.store.folios[id as usize];
            let needed = (at + folio.pages() - batch.first) * PAGE_BYTES;
            while there < needed.min(bytes) {
                let Some(piece) = pieces.next() else { break };
                there += piece.bytes;
                done = done.max(piece.done);
            }
            folio.ready = done;
            at += folio.pages();
        }
        batch.first += batch.pages;
        batch.pages = 0;
    }
}
