// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page cache against a naive model of itself: a map of pages, two queues of folios, linear scans. And what must hold whatever
//! happens: sums, lists, memory.

mod model;

use super::{Folio, List, Memory, Rmap, Store, flag, stretches};
use crate::spec::Reclaim;
use keepahead_core::units::Nanos;
use model::Model;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FILE_PAGES: u64 = 400;

/// Pages of each file that are young in some mapping.
#[derive(Default)]
struct Young(BTreeMap<(u32, u64), u32>);

impl Rmap for Young {
    fn referenced(&mut self, folio: &Folio) -> u32 {
        let first = u64::from(folio.index);
        (first..first + folio.pages()).filter_map(|page| self.0.remove(&(folio.file, page))).sum()
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Read { file: u32, page: u64, order: u8, group: u16, dirty: bool },
    Touch { file: u32, page: u64, entries: u32 },
    Drop { file: u32, page: u64 },
    Cold { file: u32, page: u64 },
    PageOut { file: u32, page: u64 },
    Clean { file: u32, page: u64 },
    Limit { group: u16, pages: u64 },
    Reclaim { group: u16, pages: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..2u32, 0..FILE_PAGES);
    // Half of the reads go to a few pages, or nothing would ever be hit.
    let read = prop_oneof![place(), (0..2u32, 0..40u64)];
    prop_oneof![
        20 => (read, 0..4u8, 0..2u16, prop::bool::weighted(0.05))
            .prop_map(|((file, page), order, group, dirty)| Op::Read { file, page, order, group, dirty }),
        3 => (place(), 1..3u32).prop_map(|((file, page), entries)| Op::Touch { file, page, entries }),
        1 => place().prop_map(|(file, page)| Op::Drop { file, page }),
        1 => place().prop_map(|(file, page)| Op::Cold { file, page }),
        1 => place().prop_map(|(file, page)| Op::PageOut { file, page }),
        1 => place().prop_map(|(file, page)| Op::Clean { file, page }),
        1 => (0..2u16, 20..200u64).prop_map(|(group, pages)| Op::Limit { group, pages }),
        1 => (0..2u16, 1..40u64).prop_map(|(group, pages)| Op::Reclaim { group, pages }),
    ]
}

struct Cache {
    store: Store,
    memory: Memory,
    young: Young,
}

impl Cache {
    fn new(kind: Reclaim, limits: &[u64]) -> Cache {
        let (mut store, mut memory) = (Store::default(), Memory::new(kind, Nanos(0)));
        limits.iter().for_each(|pages| memory.add_group(pages * 4096));
        store.add_file();
        store.add_file();
        Cache { store, memory, young: Young::default() }
    }

    /// A read of one page: whether it hit, and what went.
    fn read(&mut self, file: u32, page: u64, order: u8, group: u16, dirty: bool) -> (bool, Vec<(u32, u32)>) {
        let mut out = Vec::new();
        let hit = self.store.find(file, page);
        let id = hit.unwrap_or_else(|| {
            let mut index = page & !((1 << order) - 1);
            let mut order = order;
            if (index..index + (1 << order)).any(|p| self.store.present(file, p)) {
                (index, order) = (page, 0);
            }
            self.memory.charge(&mut self.store, group.into(), 1 << order, Nanos(0), &mut self.young, &mut out);
            let folio = Folio::new(file, index, order, group, if dirty { flag::DIRTY } else { 0 }, Nanos(0));
            self.memory.add(&mut self.store, folio)
        });
        self.memory.accessed(&mut self.store, id);
        (hit.is_some(), out.iter().map(|e| (e.folio.file, e.folio.index)).collect())
    }

    /// What the operation evicted, and whether a read hit.
    fn run(&mut self, op: Op) -> (bool, Vec<(u32, u32)>) {
        let mut out = Vec::new();
        match op {
            Op::Read { file, page, order, group, dirty } => return self.read(file, page, order, group, dirty),
            Op::Touch { file, page, entries } => drop(self.young.0.insert((file, page), entries)),
            Op::Limit { group, pages } => self.memory.set_limit(group.into(), pages * 4096),
            Op::Reclaim { group, pages } => {
                self.memory.reclaim(&mut self.store, group.into(), pages, Nanos(0), &mut self.young, &mut out);
            }
            Op::Drop { file, page } | Op::Cold { file, page } | Op::PageOut { file, page } | Op::Clean { file, page } => {
                let Some(id) = self.store.find(file, page) else { return (false, Vec::new()) };
                match op {
                    Op::Drop { .. } => drop(self.memory.drop_folio(&mut self.store, id)),
                    Op::Cold { .. } => self.memory.deactivate(&mut self.store, id),
                    Op::PageOut { .. } => drop(self.memory.page_out(&mut self.store, id)),
                    _ => self.store.folios[id as usize].flags &= !flag::DIRTY,
                }
            }
        }
        (false, out.iter().map(|e| (e.folio.file, e.folio.index)).collect())
    }

    fn folios_on<'a>(&self, lists: impl Iterator<Item = &'a List>) -> Vec<u32> {
        let mut ids = Vec::new();
        for list in lists {
            let (mut at, mut pages) = (list.oldest(), 0);
            while let Some(id) = at {
                pages += self.store.folios[id as usize].pages();
                ids.push(id);
                at = list.newer(&self.store.folios, id);
            }
            assert_eq!(pages, list.pages);
        }
        ids
    }

    /// What must hold at any time.
    fn check(&mut self) {
        let mut seen = BTreeSet::new();
        let mut total = 0;
        for (number, group) in self.memory.groups.iter().enumerate() {
            let lists = [&group.active, &group.inactive].into_iter().chain(&group.generations.lists);
            let mut pages = 0;
            for id in self.folios_on(lists) {
                assert!(seen.insert(id), "folio {id} on two lists");
                let folio = &self.store.folios[id as usize];
                assert_eq!(usize::from(folio.cgroup), number);
                let first = u64::from(folio.index);
                assert!((first..first + folio.pages()).all(|page| self.store.find(folio.file, page) == Some(id)));
                pages += folio.pages();
            }
            assert_eq!(group.charged, pages);
            total += pages;
        }
        assert_eq!(self.store.cached_pages, total);
        let present: u32 = self.store.heads.iter().map(|h| h.present.count_ones()).sum();
        assert_eq!(u64::from(present), total);
        self.check_settled(&seen);
    }

    /// A read of a settled page changes nothing about its folio.
    fn check_settled(&mut self, ids: &BTreeSet<u32>) {
        for &id in ids {
            let folio = self.store.folios[id as usize];
            let (first, last) = (u64::from(folio.index), u64::from(folio.index) + folio.pages() - 1);
            let settled =
                stretches(first, last).any(|(s, bits)| self.store.head(folio.file, s).is_some_and(|h| h.settled & bits != 0));
            if settled {
                let before = (self.store.folios[id as usize], self.memory.groups[usize::from(folio.cgroup)].age);
                self.memory.accessed(&mut self.store, id);
                let after = (self.store.folios[id as usize], self.memory.groups[usize::from(folio.cgroup)].age);
                assert_eq!(format!("{before:?}"), format!("{after:?}"));
            }
        }
    }

    fn check_scans(&self, file: u32, page: u64, reach: u64) {
        let there = |p: u64| self.store.present(file, p);
        let last = page + reach;
        assert_eq!(self.store.next_present(file, page, last), (page..=last).find(|p| there(*p)));
        assert_eq!(self.store.next_miss(file, page, reach), (page..page + reach).find(|p| !there(*p)));
        let back =
            (0..reach as i64).map(|back| page as i64 - back).take_while(|p| *p >= -1).find(|p| *p < 0 || !there(*p as u64));
        assert_eq!(self.store.prev_miss(file, page, reach), back);
    }
}

fn invariants(kind: Reclaim, ops: &[Op]) {
    let mut cache = Cache::new(kind, &[100, 60]);
    for op in ops {
        cache.run(*op);
        cache.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_lists_evict_what_the_naive_model_evicts(ops in prop::collection::vec(op(), 1..600)) {
        let mut cache = Cache::new(Reclaim::TwoLists, &[100, 60]);
        let mut model = Model::new(&[100, 60]);
        for op in ops {
            prop_assert_eq!(cache.run(op), model.run(op), "{:?}", op);
        }
        prop_assert_eq!(cache.memory.refaults(), model.refaults);
    }

    #[test]
    fn two_lists_keep_their_books(ops in prop::collection::vec(op(), 1..300)) {
        invariants(Reclaim::TwoLists, &ops);
    }

    #[test]
    fn generations_keep_their_books(ops in prop::collection::vec(op(), 1..300)) {
        invariants(Reclaim::Mglru, &ops);
    }

    #[test]
    fn scans_find_what_a_look_at_each_page_finds(
        ops in prop::collection::vec(op(), 1..200),
        at in prop::collection::vec((0..2u32, 0..FILE_PAGES + 70, 0..200u64), 1..20),
    ) {
        let mut cache = Cache::new(Reclaim::TwoLists, &[300, 200]);
        ops.into_iter().for_each(|op| drop(cache.run(op)));
        at.into_iter().for_each(|(file, page, reach)| cache.check_scans(file, page, reach));
    }
}

/// Runs a trace a hundred times larger than memory through the cache; bytes of its structures for each page that fits.
fn bytes_per_page(kind: Reclaim, next: impl Fn(u64) -> u64, file_pages: u64) -> usize {
    let memory = 4096;
    let mut cache = Cache::new(kind, &[memory, memory]);
    for i in 0..100 * memory {
        let group = (i / 1000 % 2) as u16;
        cache.read(u32::from(group), next(i) % file_pages, 0, group, false);
    }
    // The table of a file's chunks grows with the file, not with the trace.
    let tables: usize = cache.store.files.iter().map(|f| f.capacity() * 4).sum();
    (cache.store.bytes() - tables) / (2 * memory as usize)
}

fn scattered(i: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

#[test]
fn shadows_are_forgotten_as_a_long_trace_runs_through() {
    for kind in [Reclaim::TwoLists, Reclaim::Mglru] {
        let sequential = bytes_per_page(kind, |i| i, 1 << 30);
        assert!(sequential < 150, "{kind:?}: {sequential} B a page");
        // One page to each chunk of 64: the worst that can be.
        let random = bytes_per_page(kind, scattered, 10 << 20);
        assert!(random < 1000, "{kind:?}: {random} B a page");
    }
}

#[test]
fn invalidated_chunks_leave_nothing_behind() {
    let mut cache = Cache::new(Reclaim::TwoLists, &[1000, 1000]);
    for page in 0..100_000 {
        cache.read(0, page, 0, 0, false);
        cache.run(Op::Drop { file: 0, page });
    }
    assert!(cache.store.heads.len() <= 2, "{} chunks for nothing", cache.store.heads.len());
    assert!(cache.store.emptied.iter().all(BTreeMap::is_empty));
}

/// Hits of a hot set that takes 60 % of memory, beside a scan that reads two pages for each of it and never comes back.
fn hot_hits(kind: Reclaim) -> f64 {
    let mut cache = Cache::new(kind, &[2000]);
    let (mut hits, mut reads) = (0, 0);
    for i in 0..200_000u64 {
        let hit = cache.read(0, scattered(i) % 1200, 0, 0, false).0;
        cache.read(1, i, 0, 0, false);
        cache.read(1, 1_000_000 + i, 0, 0, false);
        if i > 50_000 {
            (hits, reads) = (hits + u64::from(hit), reads + 1);
        }
    }
    hits as f64 / reads as f64
}

#[test]
fn a_scan_does_not_push_the_hot_set_out() {
    for kind in [Reclaim::TwoLists, Reclaim::Mglru] {
        let hits = hot_hits(kind);
        assert!(hits > 0.8, "{kind:?}: {hits}");
    }
}

#[test]
fn generations_keep_what_page_tables_used() {
    let mut cache = Cache::new(Reclaim::Mglru, &[1000]);
    let mut kept = 0;
    for i in 0..50_000u64 {
        let page = i % 300;
        kept += u64::from(cache.read(0, page, 0, 0, false).0);
        cache.young.0.insert((0, page), 1);
        (0..3).for_each(|k| drop(cache.read(1, 3 * i + k, 0, 0, false)));
    }
    assert!(kept > 45_000, "{kept}");
}
