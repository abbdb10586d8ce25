// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes, as far as they matter to reads: written pages are cached and dirty, and a flusher sends them to the disk.
//!
//! Dirty pages cannot be evicted, so there is a limit on them (`mm/page-writeback.c`): from a tenth of the memory on
//! (`dirty_background_ratio`) the flusher sends them off, and with that tenth under way a second one makes the writer wait
//! (`dirty_ratio`, a fifth). Pages on their way count as clean here.

use super::fill::Caller;
use super::{Kernel, cpu};
use crate::cache::{Folio, flag};
use keepahead_core::units::{Nanos, PAGE_BYTES};

/// One part in so many of a group's memory may be dirty before the flusher starts.
const BACKGROUND: u64 = 10;

/// Dirty pages of all files.
#[derive(Default)]
pub(super) struct Dirty {
    pages: u64,
    /// When those that the limit sent off last are stable.
    stable: Nanos,
}

impl Kernel {
    /// `write(2)` at `offset` (`None`: at the end, the file grows); gives the time it took. Partial pages of what is not
    /// cached are not read first: file systems do, once a page.
    pub fn write(&mut self, open: usize, cgroup: u16, now: Nanos, offset: Option<u64>, bytes: u64) -> u64 {
        if bytes == 0 {
            return cpu::SYSCALL;
        }
        let file = self.opens[open].file;
        let start = offset.unwrap_or(self.files[file as usize].bytes);
        let f = &mut self.files[file as usize];
        f.bytes = f.bytes.max(start + bytes);
        let (first, last) = (start / PAGE_BYTES, (start + bytes - 1) / PAGE_BYTES);
        for page in first..=last {
            let id = match self.store.find(file, page) {
                Some(id) => id,
                None => self.add_written(cgroup, now, file, page),
            };
            let folio = &mut self.store.folios[id as usize];
            if !folio.has(flag::DIRTY) {
                folio.flags |= flag::DIRTY;
                self.files[file as usize].dirty.push(page as u32);
                self.dirty.pages += 1;
            }
            self.memory.accessed(&mut self.store, id);
        }
        cpu::SYSCALL + (last - first + 1) * cpu::COPY + self.balance_dirty(cgroup, now)
    }

    /// Keeps the limit; gives how long the writer waits for it (`balance_dirty_pages`).
    fn balance_dirty(&mut self, cgroup: u16, now: Nanos) -> u64 {
        if self.dirty.pages <= self.memory.limit_pages(usize::from(cgroup)) / BACKGROUND {
            return 0;
        }
        let waits = self.dirty.stable.since(now).0;
        self.dirty.stable = self.flush_all(now);
        waits
    }

    fn add_written(&mut self, cgroup: u16, now: Nanos, file: u32, page: u64) -> u32 {
        self.memory.charge(&mut self.store, usize::from(cgroup), 1, now, &mut self.maps, &mut self.evicted);
        self.account_evicted(true);
        let folio = Folio::new(file, page, 0, cgroup, 0, now);
        self.memory.add(&mut self.store, folio)
    }

    /// Sends a file's dirty pages to its disk; when they are stable.
    pub fn flush(&mut self, file: u32, now: Nanos) -> Nanos {
        if self.files[file as usize].dirty.is_empty() {
            return now;
        }
        let mut dirty = std::mem::take(&mut self.files[file as usize].dirty);
        dirty.sort_unstable();
        let mut done = now;
        let (base, disk) = (self.files[file as usize].base, self.files[file as usize].disk);
        for run in dirty.chunk_by(|a, b| a + 1 == *b) {
            let offset = base + u64::from(run[0]) * PAGE_BYTES;
            done = done.max(self.disks[disk].disk.write(now, offset, run.len() as u64 * PAGE_BYTES));
            for page in run {
                if let Some(id) = self.store.find(file, u64::from(*page)) {
                    self.store.folios[id as usize].flags &= !flag::DIRTY;
                    self.dirty.pages -= 1;
                }
            }
        }
        done
    }

    /// All files; when they are stable.
    pub fn flush_all(&mut self, now: Nanos) -> Nanos {
        (0..self.files.len() as u32).map(|file| self.flush(file, now)).fold(now, Nanos::max)
    }

    /// Reads one page for a fault that reads nothing ahead.
    pub(super) fn read_one(&mut self, caller: &mut Caller, file: u32, page: u64) {
        self.add(caller, file, page, 0, false);
        self.submit_one(caller, file, page);
    }
}
