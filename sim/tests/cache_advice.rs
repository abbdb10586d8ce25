// SPDX-License-Identifier: MIT OR Apache-2.0
//! What advice does to pages that are cached already: who goes next, who stays, whose use counts.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::Fixed;
use keepahead_sim::kernel::{Kernel, Probe, ReadCall, TouchCall};
use keepahead_sim::spec::{FileSystem, Generation, Reclaim};
use keepahead_sim::workload::{Fadvice, Madvice};

const PAGES: u64 = 1024;

struct Machine {
    kernel: Kernel,
    probe: Probe,
    now: Nanos,
    open: usize,
}

impl Machine {
    /// A cache of 512 pages, a file of 1024 that nothing is read ahead of.
    fn new(generation: Generation, reclaim: Reclaim) -> Machine {
        let mut kernel = Kernel::new(generation);
        kernel.memory.kind = reclaim;
        kernel.memory.add_group(512 * 4096);
        let disk = kernel.add_disk(Box::new(Fixed::new(Nanos(1000), 1280)), Kib(0), FileSystem::Ext4);
        let file = kernel.add_file(disk, PAGES * 4096);
        kernel.add_file(disk, 100 * PAGES * 4096);
        let open = kernel.open(file);
        Machine { kernel, probe: Probe::default(), now: Nanos(0), open }
    }

    fn read(&mut self, open: usize, page: u64) {
        let mut call = ReadCall::new(open, 0, page * 4096, 4096);
        while let Some(until) = self.kernel.read(&mut call, &mut self.probe, &mut self.now) {
            self.now = until;
        }
    }

    fn touch(&mut self, map: usize, page: u64) {
        let mut call = TouchCall::new(&self.kernel, map, 0, page);
        while let Some(until) = self.kernel.touch(&mut call, &mut self.probe, &mut self.now) {
            self.now = until;
        }
    }

    fn advise(&mut self, map: usize, page: u64, pages: u64, advice: Madvice) {
        self.kernel.madvise(map, 0, self.now, page, pages, advice);
    }

    fn cached(&self, first: u64, pages: u64) -> u64 {
        (first..first + pages).filter(|page| self.kernel.store.present(0, *page)).count() as u64
    }

    /// A scan of so many other pages.
    fn push(&mut self, pages: u64) {
        let other = self.kernel.open(1);
        (0..pages).for_each(|page| self.read(other, page));
    }

    /// Of 64 pages that a mapping uses all the time, how many a scan leaves; some are touched twice, so that the use shows.
    fn survivors(&mut self, map: usize) -> u64 {
        let other = self.kernel.open(1);
        for round in 0..40 {
            (0..64).for_each(|page| self.touch(map, page));
            (0..64).for_each(|page| self.read(other, round * 64 + page));
        }
        // Once more without the touches: not long enough to push out what counted as used.
        self.cached(0, 64)
    }
}

#[test]
fn dontneed_keeps_mapped_pages_and_takes_the_others() {
    let mut m = Machine::new(Generation::V6_18, Reclaim::TwoLists);
    (0..100).for_each(|page| m.read(m.open, page));
    let map = m.kernel.map(m.open, 0, 32, None);
    (0..32).for_each(|page| m.touch(map, page));
    m.kernel.fadvise(m.open, 0, m.now, 0, 0, Fadvice::Dontneed);
    assert_eq!((m.cached(0, 32), m.cached(32, 68)), (32, 0));
    // The page tables forget, the cache does not; then nothing holds it any more.
    m.advise(map, 0, 32, Madvice::Dontneed);
    assert_eq!(m.cached(0, 32), 32);
    m.kernel.fadvise(m.open, 0, m.now, 0, 0, Fadvice::Dontneed);
    assert_eq!(m.cached(0, 32), 0);
}

#[test]
fn pageout_evicts_mapped_pages_unless_another_mapping_has_them() {
    for reclaim in [Reclaim::TwoLists, Reclaim::Mglru] {
        let mut m = Machine::new(Generation::V6_12, reclaim);
        (0..64).for_each(|page| m.read(m.open, page));
        let maps = [m.kernel.map(m.open, 0, 32, None), m.kernel.map(m.open, 16, 16, None)];
        (0..32).for_each(|page| m.touch(maps[0], page));
        (0..16).for_each(|page| m.touch(maps[1], page));
        m.advise(maps[0], 0, 32, Madvice::Pageout);
        assert_eq!((m.cached(0, 16), m.cached(16, 16), m.cached(32, 32)), (0, 16, 32), "{reclaim:?}");
        let before = m.kernel.memory.refaults();
        m.read(m.open, 3);
        assert_eq!(m.kernel.memory.refaults(), before + 1, "paged out leaves a shadow");
    }
}

#[test]
fn cold_pages_go_before_those_that_were_active_with_them() {
    let mut m = Machine::new(Generation::V6_12, Reclaim::TwoLists);
    // Read twice, not one after the other: active.
    (0..2).for_each(|_| (0..200).for_each(|page| m.read(m.open, page)));
    let map = m.kernel.map(m.open, 0, 100, None);
    (0..100).for_each(|page| m.touch(map, page));
    m.advise(map, 0, 100, Madvice::Cold);
    m.push(500);
    assert_eq!((m.cached(0, 100), m.cached(100, 100)), (0, 100));
}

#[test]
fn a_use_through_a_mapping_counts_when_it_is_unmapped() {
    let mut m = Machine::new(Generation::V6_12, Reclaim::TwoLists);
    (0..200).for_each(|page| m.read(m.open, page));
    let map = m.kernel.map(m.open, 0, 100, None);
    (0..100).for_each(|page| m.touch(map, page));
    m.advise(map, 0, 100, Madvice::Dontneed);
    m.push(500);
    assert_eq!((m.cached(0, 100), m.cached(100, 100)), (100, 0));
}

#[test]
fn recency_of_mappings_depends_on_advice_and_kernel() {
    let cases = [
        (Generation::V6_1, None, false, true),
        (Generation::V6_1, Some(Madvice::Random), false, true),
        (Generation::V6_1, Some(Madvice::Sequential), false, false),
        (Generation::V6_1, None, true, true),
        (Generation::V6_12, None, false, true),
        (Generation::V6_12, Some(Madvice::Random), false, false),
        (Generation::V6_12, Some(Madvice::Sequential), false, false),
        (Generation::V6_12, None, true, false),
    ];
    for (generation, advice, noreuse, kept) in cases {
        let mut m = Machine::new(generation, Reclaim::TwoLists);
        // Before the mapping exists and after: both reach it.
        let map = m.kernel.map(m.open, 0, 64, advice);
        if noreuse {
            m.kernel.fadvise(m.open, 0, m.now, 0, 0, Fadvice::Noreuse);
        }
        (0..64).for_each(|page| m.touch(map, page));
        m.push(440);
        // Used again while it is still there, then the scan goes on.
        (0..64).for_each(|page| m.touch(map, page));
        let other = m.kernel.open(1);
        (1000..1100).for_each(|page| m.read(other, page));
        let left = m.cached(0, 64);
        assert_eq!(left == 64, kept, "{generation} {advice:?} noreuse {noreuse}: {left} of 64");
    }
}

#[test]
fn a_mapping_in_constant_use_survives_under_both_kinds_of_reclaim() {
    for reclaim in [Reclaim::TwoLists, Reclaim::Mglru] {
        let mut m = Machine::new(Generation::V6_12, reclaim);
        let map = m.kernel.map(m.open, 0, 64, None);
        assert_eq!(m.survivors(map), 64, "{reclaim:?}");
    }
}
