// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory by cgroup: what is charged, when something has to go, and what a read, a refault or advice does to a folio's place. What goes
//! is up to the kind of page replacement (`two_lists`, `mglru`).

use super::mglru::Generations;
use super::{AGE_BITS, Folio, FolioId, List, SHADOW_WORKINGSET, Store, flag};
use crate::spec::Reclaim;
use keepahead_core::units::Nanos;

/// Pages that reclaim takes at least and looks at a time (`SWAP_CLUSTER_MAX`).
pub(super) const CLUSTER: u64 = 32;

/// A folio that reclaim took.
#[derive(Clone, Copy, Debug)]
pub struct Evicted {
    pub folio: Folio,
    /// Of its pages: brought in unasked and never demanded, in truth and as the sensor sees it.
    pub unused: u32,
    pub pending: u32,
}

/// Who maps a folio: asked by reclaim.
pub trait Rmap {
    /// Page table entries of the folio that were used since the last question, in mappings that count for recency; the question
    /// clears them.
    fn referenced(&mut self, folio: &Folio) -> u32;
}

#[derive(Default)]
pub(super) struct Group {
    limit: u64,
    pub(super) charged: u64,
    pub(super) active: List,
    pub(super) inactive: List,
    /// Pages that left or rose in the lists so far: the clock of refault distances (`nonresident_age`).
    pub(super) age: u64,
    /// Folios activated by a refault so far, as far as the last reclaim knew.
    pub(super) activations: u64,
    pub(super) activations_seen: u64,
    /// What the statistics say of active pages, inactive pages and activations.
    pub(super) stats: (u64, u64, u64),
    refaults: u64,
    /// In the place of the two lists.
    pub(super) generations: Generations,
}

pub struct Memory {
    pub kind: Reclaim,
    /// How long the two lists decide by the same statistics (`FLUSH_TIME` of `mm/memcontrol.c`; 0: they are always exact).
    stats_period: Nanos,
    stats_until: Nanos,
    pub(super) groups: Vec<Group>,
    /// A fault on a mapping that counts for recency is under way (`lru_gen_in_fault`); the two lists do not ask.
    pub in_fault: bool,
}

impl Memory {
    pub fn new(kind: Reclaim, stats_period: Nanos) -> Memory {
        Memory { kind, stats_period, stats_until: Nanos(0), groups: Vec::new(), in_fault: false }
    }

    pub fn add_group(&mut self, bytes: u64) {
        self.groups.push(Group { limit: bytes / 4096, ..Group::default() });
    }

    pub fn set_limit(&mut self, group: usize, bytes: u64) {
        self.groups[group].limit = bytes / 4096;
    }

    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    pub fn limit_pages(&self, group: usize) -> u64 {
        self.groups[group].limit
    }

    pub fn charged_pages(&self, group: usize) -> u64 {
        self.groups[group].charged
    }

    /// File pages that came back after eviction, all groups (`workingset_refault_file`).
    pub fn refaults(&self) -> u64 {
        self.groups.iter().map(|g| g.refaults).sum()
    }

    /// Makes room for `pages` in a group; what had to go is appended to `out`. Room is made in clusters, never refused: where
    /// everything is still being read, the group overshoots.
    pub fn charge(
        &mut self,
        store: &mut Store,
        group: usize,
        pages: u64,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) {
        self.flush_stats(now);
        let over = |g: &Group| (g.charged + pages).saturating_sub(g.limit);
        while over(&self.groups[group]) > 0 {
            if self.reclaim(store, group, pages.max(CLUSTER), now, rmap, out) == 0 {
                break;
            }
        }
        self.groups[group].charged += pages;
    }

    /// Takes over the true numbers, where it is time.
    pub(super) fn flush_stats(&mut self, now: Nanos) {
        if now < self.stats_until {
            return;
        }
        let periods = now.0.checked_div(self.stats_period.0);
        self.stats_until = periods.map_or(Nanos(0), |n| Nanos((n + 1) * self.stats_period.0));
        self.groups.iter_mut().for_each(|g| g.stats = (g.active.pages, g.inactive.pages, g.activations));
    }

    /// Puts a charged folio into the cache and on a list; one that was evicted recently enough to have stayed in a cache of the
    /// active list's size comes back active (`workingset_refault`).
    pub fn add(&mut self, store: &mut Store, mut folio: Folio) -> FolioId {
        let group = &mut self.groups[usize::from(folio.cgroup)];
        let (id, shadow) = store.insert(folio);
        if self.kind == Reclaim::Mglru {
            group.refaults += if shadow.is_some() { folio.pages() } else { 0 };
            group.generations.add(store, id, shadow, self.in_fault);
            return id;
        }
        if let Some(shadow) = shadow {
            group.refaults += folio.pages();
            let distance = (group.age as u32).wrapping_sub(shadow) & AGE_BITS;
            let active = if self.stats_period.0 == 0 { group.active.pages } else { group.stats.0 };
            if u64::from(distance) <= active {
                folio.flags |= flag::ACTIVE | if shadow & SHADOW_WORKINGSET != 0 { flag::WORKINGSET } else { 0 };
                group.age += folio.pages();
                group.activations += folio.pages();
                store.folios[id as usize].flags = folio.flags;
            }
        }
        let list = if folio.has(flag::ACTIVE) { &mut group.active } else { &mut group.inactive };
        list.push_front(&mut store.folios, id);
        id
    }

    /// A read of the folio (`folio_mark_accessed`): first it is referenced, then it rises to the active list.
    pub fn accessed(&mut self, store: &mut Store, id: FolioId) {
        if self.kind == Reclaim::Mglru {
            if Generations::accessed(store, id) && !store.folios[id as usize].has(flag::MARKER) {
                store.settle(id, true);
            }
            return;
        }
        let folio = &mut store.folios[id as usize];
        if !folio.has(flag::REFERENCED) {
            folio.flags |= flag::REFERENCED;
        } else if !folio.has(flag::ACTIVE) {
            let pages = folio.pages();
            folio.flags = (folio.flags | flag::ACTIVE) & !flag::REFERENCED;
            let group = &mut self.groups[usize::from(folio.cgroup)];
            group.inactive.unlink(&mut store.folios, id);
            group.active.push_front(&mut store.folios, id);
            group.age += pages;
        }
        let folio = &store.folios[id as usize];
        if folio.has(flag::ACTIVE) && folio.has(flag::REFERENCED) && !folio.has(flag::MARKER) {
            store.settle(id, true);
        }
    }

    /// Takes a folio out without a trace (invalidation, truncation).
    pub fn drop_folio(&mut self, store: &mut Store, id: FolioId) -> Evicted {
        self.off_list(store, id);
        self.take_out(store, id, 0)
    }

    /// Takes a folio out as reclaim does (`MADV_PAGEOUT`).
    pub fn page_out(&mut self, store: &mut Store, id: FolioId) -> Evicted {
        self.off_list(store, id);
        let group = &mut self.groups[usize::from(store.folios[id as usize].cgroup)];
        let shadow = match self.kind {
            Reclaim::Mglru => group.generations.shadow(store, id),
            Reclaim::TwoLists => group.shadow(&store.folios[id as usize]),
        };
        group.age += store.folios[id as usize].pages();
        self.take_out(store, id, shadow)
    }

    /// Takes a folio down to the inactive list, its references forgotten (`folio_deactivate`): an inactive one stays where it is.
    pub fn deactivate(&mut self, store: &mut Store, id: FolioId) {
        store.settle(id, false);
        let folio = &mut store.folios[id as usize];
        let group = &mut self.groups[usize::from(folio.cgroup)];
        folio.flags &= !flag::REFERENCED;
        if self.kind == Reclaim::Mglru {
            group.generations.deactivate(store, id);
        } else if folio.has(flag::ACTIVE) {
            folio.flags = (folio.flags & !flag::ACTIVE) | flag::WORKINGSET;
            group.active.unlink(&mut store.folios, id);
            group.inactive.push_front(&mut store.folios, id);
        }
    }

    fn off_list(&mut self, store: &mut Store, id: FolioId) {
        let folio = store.folios[id as usize];
        let group = &mut self.groups[usize::from(folio.cgroup)];
        if self.kind == Reclaim::Mglru {
            return group.generations.unlink(store, id);
        }
        let list = if folio.has(flag::ACTIVE) { &mut group.active } else { &mut group.inactive };
        list.unlink(&mut store.folios, id);
    }

    pub(super) fn take_out(&mut self, store: &mut Store, id: FolioId, shadow: u32) -> Evicted {
        let folio = store.folios[id as usize];
        let group = &mut self.groups[usize::from(folio.cgroup)];
        group.charged -= folio.pages();
        let (unused, pending) = store.take_out(id, shadow);
        Evicted { folio, unused, pending }
    }

    /// Takes at least `target` pages from a group where it can; gives how many (`try_to_free_mem_cgroup_pages`).
    pub fn reclaim(
        &mut self,
        store: &mut Store,
        group: usize,
        target: u64,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) -> u64 {
        let taken = match self.kind {
            Reclaim::TwoLists => self.reclaim_lists(store, group, target, now, rmap, out),
            Reclaim::Mglru => self.reclaim_generations(store, group, target, now, rmap, out),
        };
        // As many nodes without a page as would take 1/8 of the cached pages (`count_shadow_nodes`).
        store.forget(group, self.groups[group].charged >> 3);
        taken
    }
}
