// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated kernel: reads, faults and advice come in, the page cache and the disks answer. Calls that have to wait say until when
//! and are called again then, so that tasks interleave where they do in the real one: at waits for pages.

mod account;
mod advice;
mod fault;
mod fill;
mod map;
mod read;
mod rules;
mod window;
mod write;

use account::Cut;
pub use account::{Demand, Probe, hist_add};
pub use fault::TouchCall;
pub use map::{Map, Maps};
pub use read::ReadCall;
pub use rules::{MAX_ORDER, Rules};

use crate::cache::{Evicted, Memory, Store, stretches};
use crate::device::{Disk, Piece};
use crate::event::{Event, RaState};
use crate::spec::{FileSystem, Generation, Reclaim};
use crate::workload::Madvice;
use keepahead_core::sample::Counters;
use keepahead_core::units::{Kib, Nanos, PAGE_BYTES};

/// Time that the processor takes, ns: measured on a 3 GHz x86-64 of 2023 with `fio` and loops over cached pages. They bound cached
/// throughput; beside a disk they hardly show.
pub mod cpu {
    pub const SYSCALL: u64 = 250;
    /// Copying one page to the program.
    pub const COPY: u64 = 120;
    /// A load from a mapped page.
    pub const LOAD: u64 = 4;
    /// A fault that fault-around answers.
    pub const FAULT: u64 = 700;
    /// Allocating and adding a folio.
    pub const FOLIO: u64 = 300;
    /// Submitting a window.
    pub const SUBMIT: u64 = 2_000;
    /// From the end of I/O to the waiting task's next instruction, on hardware. Between two CPUs of a virtual machine that idle it was
    /// measured at 28 µs (a byte through a pipe), which the machine's exits to its host take.
    pub const WAKE: u64 = 5_000;
}

/// Pages that one page table maps (2 MiB): fault-around does not cross.
const PAGE_TABLE: u64 = 512;

pub struct File {
    pub disk: usize,
    pub bytes: u64,
    /// Where it lies on the disk.
    base: u64,
    dirty: Vec<u32>,
}

impl File {
    pub fn pages(&self) -> u64 {
        self.bytes.div_ceil(PAGE_BYTES)
    }
}

/// An open file description.
pub struct Open {
    pub file: u32,
    pub ra: RaState,
    /// `FMODE_RANDOM`.
    pub random: bool,
    /// `FMODE_NOREUSE`.
    pub noreuse: bool,
}

pub struct DiskState {
    pub disk: Box<dyn Disk>,
    pub read_ahead: Kib,
    pub filesystem: FileSystem,
    /// What the probes count.
    pub seen: Counters,
    /// What they cannot see: every touched page, and speculative pages used and evicted in truth.
    pub touched: u64,
    pub used: u64,
    pub wasted: u64,
    end: u64,
}

impl DiskState {
    /// The counters with the truth in the place of what the probes estimate of mapped pages.
    pub fn truth(&self) -> Counters {
        let mut c = self.seen;
        c.mmap_pages = self.touched;
        c.spec_used = self.used;
        c.spec_evicted = self.wasted;
        c
    }
}

pub struct Kernel {
    pub rules: Rules,
    pub store: Store,
    pub memory: Memory,
    pub files: Vec<File>,
    pub opens: Vec<Open>,
    pub maps: Maps,
    pub disks: Vec<DiskState>,
    /// Tracepoints, where somebody listens.
    pub log: Option<Vec<Event>>,
    /// From the end of I/O to the waiting task's next instruction, ns.
    pub wake: u64,
    dirty: write::Dirty,
    pieces: Vec<Piece>,
    evicted: Vec<Evicted>,
}

impl Kernel {
    pub fn new(generation: Generation) -> Kernel {
        let rules = Rules::of(generation);
        Kernel {
            rules,
            store: Store::default(),
            memory: Memory::new(Reclaim::TwoLists, rules.stats_period),
            files: Vec::new(),
            opens: Vec::new(),
            maps: Maps { recency_by_advice: rules.advice_drops_recency, ..Maps::default() },
            disks: Vec::new(),
            log: None,
            wake: cpu::WAKE,
            dirty: write::Dirty::default(),
            pieces: Vec::new(),
            evicted: Vec::new(),
        }
    }

    pub fn add_disk(&mut self, disk: Box<dyn Disk>, read_ahead: Kib, filesystem: FileSystem) -> usize {
        self.disks.push(DiskState {
            disk,
            read_ahead,
            filesystem,
            seen: Counters::default(),
            touched: 0,
            used: 0,
            wasted: 0,
            end: 0,
        });
        self.disks.len() - 1
    }

    pub fn add_file(&mut self, disk: usize, bytes: u64) -> u32 {
        let base = self.disks[disk].end;
        // A gap of 1 MiB: the next file's first read does not continue this one's last.
        self.disks[disk].end += bytes.next_multiple_of(1 << 20) + (1 << 20);
        self.files.push(File { disk, bytes, base, dirty: Vec::new() });
        self.maps.of_file.push(Vec::new());
        self.store.add_file()
    }

    /// `open(2)`: the limit is copied from the bdi here and never again, but by advice.
    pub fn open(&mut self, file: u32) -> usize {
        let ra = RaState { ra_pages: self.ra_pages(file), prev_pos: -1, ..RaState::default() };
        self.opens.push(Open { file, ra, random: false, noreuse: false });
        self.opens.len() - 1
    }

    /// Closes and opens again.
    pub fn reopen(&mut self, open: usize) {
        let file = self.opens[open].file;
        let ra = RaState { ra_pages: self.ra_pages(file), prev_pos: -1, ..RaState::default() };
        self.opens[open] = Open { file, ra, random: false, noreuse: false };
    }

    /// `mmap(2)` of a part of an open file.
    pub fn map(&mut self, open: usize, first: u64, pages: u64, advice: Option<Madvice>) -> usize {
        let words = ((first + pages - 1) / 64 - first / 64 + 1) as usize;
        let tables = vec![false; ((first + pages - 1) / PAGE_TABLE - first / PAGE_TABLE + 1) as usize];
        let (mapped, young) = (vec![0; words], vec![0; words]);
        let noreuse = self.opens[open].noreuse;
        self.maps.all.push(Map { open, first, pages, areas: vec![(first, advice)], noreuse, mapped, young, tables });
        let map = self.maps.all.len() - 1;
        self.maps.of_file[self.opens[open].file as usize].push(map as u32);
        map
    }

    /// Counts a run that was cut before its file's end (`cut_run` of the probes), in what `of` gives: how many there are, and their pages.
    fn count_cut(&mut self, cut: Option<Cut>, of: fn(&mut Counters) -> (&mut u64, &mut u64)) {
        let Some(Cut { file, read_to, run }) = cut else { return };
        let file = &self.files[file as usize];
        if read_to < file.pages() {
            let (cuts, pages) = of(&mut self.disks[file.disk].seen);
            (*cuts, *pages) = (*cuts + 1, *pages + run);
        }
    }

    /// The bdi's value in pages, as a write to `read_ahead_kb` leaves it.
    fn ra_pages(&self, file: u32) -> u32 {
        self.disks[self.files[file as usize].disk].read_ahead.pages() as u32
    }

    /// A write to `read_ahead_kb`; with `reach`, open files that carry the old value and no advice are refreshed as keepahead does
    /// (`POSIX_FADV_NORMAL`). Gives how many there were.
    pub fn set_read_ahead(&mut self, disk: usize, value: Kib, reach: bool) -> u32 {
        let old = std::mem::replace(&mut self.disks[disk].read_ahead, value).pages() as u32;
        let mut refreshed = 0;
        for open in &mut self.opens {
            let mine = self.files[open.file as usize].disk == disk && !open.random && !open.noreuse;
            if reach && mine && open.ra.ra_pages == old {
                open.ra.ra_pages = value.pages() as u32;
                refreshed += 1;
            }
        }
        refreshed
    }

    pub fn disk_of(&mut self, file: u32) -> &mut DiskState {
        &mut self.disks[self.files[file as usize].disk]
    }

    fn seen(&mut self, file: u32) -> &mut Counters {
        &mut self.disks[self.files[file as usize].disk].seen
    }

    fn trace(&mut self, event: impl FnOnce() -> Event) {
        if let Some(log) = &mut self.log {
            log.push(event());
        }
    }

    /// Pages `first..=last` were demanded: in truth they are speculative no more.
    fn used(&mut self, file: u32, first: u64, last: u64) {
        let mut used = 0;
        for (s, bits) in stretches(first, last) {
            if let Some(head) = self.store.head_mut(file, s) {
                used += u64::from((head.unused & bits).count_ones());
                head.unused &= !bits;
            }
        }
        self.disk_of(file).used += used;
    }

    /// What reclaim or invalidation took: mappings lose it, and the books are told.
    fn account_evicted(&mut self, by_reclaim: bool) {
        let mut evicted = std::mem::take(&mut self.evicted);
        for e in evicted.drain(..) {
            let (file, first) = (e.folio.file, u64::from(e.folio.index));
            self.unmap(file, first, first + e.folio.pages() - 1);
            self.trace(|| Event::Delete { file, index: first, order: e.folio.order });
            let disk = self.disk_of(file);
            if by_reclaim {
                disk.wasted += u64::from(e.unused);
                disk.seen.spec_evicted += u64::from(e.pending);
            } else {
                disk.seen.spec_dropped += u64::from(e.pending);
            }
        }
        self.evicted = evicted;
    }

    fn unmap(&mut self, file: u32, first: u64, last: u64) {
        for &map in &self.maps.of_file[file as usize] {
            let map = &mut self.maps.all[map as usize];
            for (slot, bits) in map.bits(first, last) {
                map.mapped[slot] &= !bits;
                map.young[slot] &= !bits;
            }
        }
    }

    /// A memory limit changes; what is above it is reclaimed at once.
    pub fn limit_memory(&mut self, cgroup: usize, bytes: u64, now: Nanos) {
        self.memory.set_limit(cgroup, bytes);
        let over = self.memory.charged_pages(cgroup).saturating_sub(self.memory.limit_pages(cgroup));
        if over > 0 {
            self.memory.reclaim(&mut self.store, cgroup, over, now, &mut self.maps, &mut self.evicted);
            self.account_evicted(true);
        }
    }

    /// Everything clean leaves the cache (`/proc/sys/vm/drop_caches`).
    pub fn drop_caches(&mut self, now: Nanos) {
        for file in 0..self.files.len() as u32 {
            self.invalidate(file, 0, u64::MAX, now);
        }
    }
}
