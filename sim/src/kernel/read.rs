// SPDX-License-Identifier: MIT OR Apache-2.0
//! `read(2)` through the page cache (`filemap_read`): takes what is cached, reads ahead on a miss and on the marker, waits for what is
//! still on its way.

use super::fill::Caller;
use super::window::Around;
use super::{Demand, Kernel, Probe, cpu};
use crate::cache::{bits, flag, stretches};
use crate::event::Event;
use keepahead_core::units::{Nanos, PAGE_BYTES};

/// A read under way.
#[derive(Clone, Copy, Debug)]
pub struct ReadCall {
    pub open: usize,
    pub cgroup: u16,
    /// Next byte, and the byte after the request.
    pos: u64,
    end: u64,
    /// Where the folio that was read last in this call began.
    last_pos: i64,
    begun: bool,
    slept_since: Option<Nanos>,
}

impl ReadCall {
    pub fn new(open: usize, cgroup: u16, offset: u64, bytes: u64) -> ReadCall {
        ReadCall { open, cgroup, pos: offset, end: offset + bytes, last_pos: 0, begun: false, slept_since: None }
    }
}

impl Kernel {
    /// Goes on with a read at `now`, which moves on by the processor's time; `Some(when)` where it has to sleep until then.
    pub fn read(&mut self, call: &mut ReadCall, probe: &mut Probe, now: &mut Nanos) -> Option<Nanos> {
        let file = self.opens[call.open].file;
        if !call.begun {
            now.0 += cpu::SYSCALL;
            let end = call.end.min(self.files[file as usize].bytes);
            if call.pos >= end {
                self.beyond_end(call, probe, now);
                return None;
            }
            let (index, last) = (call.pos / PAGE_BYTES, (end - 1) / PAGE_BYTES);
            let disk = self.files[file as usize].disk;
            let cut = probe.request(&mut self.disks[disk].seen, file, index, last);
            self.count_cut(cut, |c| (&mut c.read_cuts, &mut c.read_cut_pages));
            call.begun = true;
            call.last_pos = self.opens[call.open].ra.prev_pos;
            if self.settled(file, index, last) {
                now.0 += (last - index + 1) * cpu::COPY;
                self.opens[call.open].ra.prev_pos = end as i64;
                return None;
            }
        }
        self.read_on(call, file, probe, now)
    }

    /// Every page is there and a read of it changes nothing but `prev_pos`.
    fn settled(&self, file: u32, first: u64, last: u64) -> bool {
        if first / 64 == last / 64 {
            let bits = bits(first % 64, last % 64);
            return self.store.head(file, first / 64).is_some_and(|h| h.settled & bits == bits);
        }
        stretches(first, last).all(|(s, bits)| self.store.head(file, s).is_some_and(|h| h.settled & bits == bits))
    }

    fn read_on(&mut self, call: &mut ReadCall, file: u32, probe: &mut Probe, now: &mut Nanos) -> Option<Nanos> {
        let last_index = call.end.div_ceil(PAGE_BYTES);
        let end = call.end.min(self.files[file as usize].bytes);
        while call.pos < end {
            let index = call.pos / PAGE_BYTES;
            let id = match self.store.find(file, index) {
                Some(id) => id,
                None => {
                    self.sync_ra(call, probe, now, index, last_index - index);
                    match self.store.find(file, index) {
                        Some(id) => id,
                        // Evicted again before it was looked at: memory smaller than the window.
                        None => continue,
                    }
                }
            };
            let folio = self.store.folios[id as usize];
            let first = u64::from(folio.index);
            if folio.has(flag::MARKER) {
                self.async_ra(call.open, call.cgroup, probe, now, id, (first, last_index.saturating_sub(first)));
            }
            if folio.ready > *now {
                call.slept_since = call.slept_since.or(Some(*now));
                return Some(folio.ready);
            }
            let last = (first + folio.pages() - 1).min((end - 1) / PAGE_BYTES);
            self.take(call, file, probe, now, index, last);
            // Several reads within one folio count as one use of it.
            let same = (call.last_pos - 1) / PAGE_BYTES as i64;
            if call.last_pos <= 0 || !(first as i64..(first + folio.pages()) as i64).contains(&same) {
                self.memory.accessed(&mut self.store, id);
            }
            call.pos = end.min((first + folio.pages()) * PAGE_BYTES);
            call.last_pos = call.pos as i64;
            if self.rules.prev_pos_by_folio {
                self.opens[call.open].ra.prev_pos = call.last_pos;
            }
        }
        self.beyond_end(call, probe, now);
        probe.demand = Demand::None;
        self.opens[call.open].ra.prev_pos = call.last_pos;
        None
    }

    /// A read that asks for more than there is.
    fn beyond_end(&mut self, call: &mut ReadCall, probe: &mut Probe, now: &mut Nanos) {
        let file = self.opens[call.open].file;
        let page = call.pos / PAGE_BYTES;
        let none_there = call.pos < call.end && page >= self.files[file as usize].pages();
        if !self.rules.reads_beyond_end || !none_there || self.store.find(file, page).is_some() {
            return;
        }
        self.sync_ra(call, probe, now, page, call.end.div_ceil(PAGE_BYTES) - page);
        self.add(&mut Caller { open: call.open, cgroup: call.cgroup, now: *now, probe: None }, file, page, 0, false);
        // Zeros: there is nothing to wait for.
        if let Some(id) = self.store.find(file, page) {
            self.store.folios[id as usize].ready = *now;
        }
    }

    /// Pages `index..=last` of one folio are copied to the program.
    fn take(&mut self, call: &mut ReadCall, file: u32, probe: &mut Probe, now: &mut Nanos, index: u64, last: u64) {
        let pending = super::account::take_pending(&mut self.store, file, index, last);
        let disk = self.files[file as usize].disk;
        let c = &mut self.disks[disk].seen;
        c.spec_used += pending;
        if let Some(since) = call.slept_since.take() {
            now.0 += self.wake;
            probe.read_wait(c, now.since(since).0, pending > 0);
        }
        self.used(file, index, last);
        now.0 += (last - index + 1) * cpu::COPY;
    }

    fn sync_ra(&mut self, call: &ReadCall, probe: &mut Probe, now: &mut Nanos, index: u64, request: u64) {
        probe.demand = Demand::Sync(index, index + request);
        let mut caller = Caller { open: call.open, cgroup: call.cgroup, now: *now, probe: Some(probe) };
        let spent = self.sync(&mut caller, index, request);
        now.0 += spent;
        let file = self.opens[call.open].file;
        probe.filled(self.seen(file), spent);
    }

    /// `page_cache_sync_ra`; gives the processor time it took.
    pub(super) fn sync(&mut self, caller: &mut Caller, index: u64, request: u64) -> u64 {
        let open = caller.open;
        let file = self.opens[open].file;
        self.seen(file).sync_ra += 1;
        let mut ra = self.opens[open].ra;
        self.trace(|| Event::SyncRa { file, index, req_count: request, ra });
        let around = self.around(open, file);
        let decision = around.sync(&mut ra, index, request);
        self.opens[open].ra = ra;
        self.carry_out(caller, index, decision)
    }

    /// `page_cache_async_ra` for the marked folio `id`, reached at `index` with `request` pages to read from there.
    pub(super) fn async_ra(
        &mut self,
        open: usize,
        cgroup: u16,
        probe: &mut Probe,
        now: &mut Nanos,
        id: u32,
        (index, request): (u64, u64),
    ) {
        let mut ra = self.opens[open].ra;
        if ra.ra_pages == 0 {
            return;
        }
        let folio = &mut self.store.folios[id as usize];
        folio.flags &= !flag::MARKER;
        let (file, order) = (folio.file, folio.order);
        self.seen(file).async_ra += 1;
        if !matches!(probe.demand, Demand::Fault(_)) {
            probe.demand = Demand::Async;
        }
        self.trace(|| Event::AsyncRa { file, index, req_count: request, ra });
        let around = self.around(open, file);
        let decision = around.asynchronous(&mut ra, index, request, order);
        self.opens[open].ra = ra;
        let mut caller = Caller { open, cgroup, now: *now, probe: Some(probe) };
        let spent = self.carry_out(&mut caller, index, decision);
        now.0 += spent;
        // The window goes to the disk after its last page, the last that the probes see of it.
        probe.filled(self.seen(file), spent.saturating_sub(cpu::SUBMIT));
    }

    fn around(&self, open: usize, file: u32) -> Around<'_> {
        let io_pages = self.io_pages(open);
        Around { rules: &self.rules, store: &self.store, file, random: self.opens[open].random, io_pages }
    }
}
