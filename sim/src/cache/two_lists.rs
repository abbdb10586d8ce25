// SPDX-License-Identifier: MIT OR Apache-2.0
//! An active and an inactive list, second chances, and refault distance, as `mm/vmscan.c`, `mm/swap.c` and `mm/workingset.c` do it for
//! file pages on a machine without swap (rules read in 6.1 to 7.x; this part is the same).

use super::reclaim::{CLUSTER, Group};
use super::{AGE_BITS, Evicted, Folio, Memory, Rmap, SHADOW, SHADOW_WORKINGSET, Store, flag};
use keepahead_core::units::Nanos;

/// Reclaim starts by looking at 1/4096 of a list and doubles from there (`DEF_PRIORITY`).
const PRIORITY: u32 = 12;

impl Memory {
    pub(super) fn reclaim_lists(
        &mut self,
        store: &mut Store,
        group: usize,
        target: u64,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) -> u64 {
        self.flush_stats(now);
        let g = &self.groups[group];
        let deactivate = g.stats.2 != g.activations_seen || inactive_is_low(g.stats);
        let mut taken = self.passes(store, group, (target, deactivate), now, rmap, out);
        if taken == 0 && !deactivate {
            taken = self.passes(store, group, (target, true), now, rmap, out);
        }
        let g = &mut self.groups[group];
        g.activations_seen = g.stats.2;
        taken
    }

    fn passes(
        &mut self,
        store: &mut Store,
        group: usize,
        (target, deactivate): (u64, bool),
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) -> u64 {
        let mut taken = 0;
        for priority in (0..=PRIORITY).rev() {
            let g = &self.groups[group];
            let mut scan = (g.inactive.pages >> priority, g.active.pages >> priority);
            while scan.0 > 0 || scan.1 > 0 {
                let batch = (scan.0.min(CLUSTER), scan.1.min(CLUSTER));
                scan = (scan.0 - batch.0, scan.1 - batch.1);
                taken += self.shrink_inactive(store, group, batch.0, now, rmap, out);
                if deactivate {
                    self.shrink_active(store, group, batch.1, rmap);
                }
                if taken >= target {
                    return taken;
                }
            }
        }
        taken
    }

    fn shrink_active(&mut self, store: &mut Store, group: usize, pages: u64, rmap: &mut impl Rmap) {
        let mut scanned = 0;
        while scanned < pages {
            let Some(id) = self.groups[group].active.pop_back(&mut store.folios) else { return };
            let folio = &mut store.folios[id as usize];
            scanned += folio.pages();
            folio.flags = (folio.flags | flag::WORKINGSET) & !flag::ACTIVE;
            // File pages go down whether used or not; the question clears their page table references.
            rmap.referenced(folio);
            self.groups[group].inactive.push_front(&mut store.folios, id);
            store.settle(id, false);
        }
    }

    fn shrink_inactive(
        &mut self,
        store: &mut Store,
        group: usize,
        pages: u64,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) -> u64 {
        let (mut scanned, mut taken) = (0, 0);
        while scanned < pages {
            let Some(id) = self.groups[group].inactive.pop_back(&mut store.folios) else { break };
            let folio = &mut store.folios[id as usize];
            let size = folio.pages();
            scanned += size;
            if folio.ready > now || folio.has(flag::DIRTY) {
                self.groups[group].inactive.push_front(&mut store.folios, id);
                continue;
            }
            let entries = rmap.referenced(folio);
            let referenced = folio.has(flag::REFERENCED);
            folio.flags &= !flag::REFERENCED;
            if entries > 0 {
                folio.flags |= flag::REFERENCED;
                if referenced || entries > 1 {
                    folio.flags |= flag::ACTIVE;
                    self.groups[group].age += size;
                    self.groups[group].active.push_front(&mut store.folios, id);
                } else {
                    self.groups[group].inactive.push_front(&mut store.folios, id);
                }
                continue;
            }
            let shadow = self.groups[group].shadow(folio);
            self.groups[group].age += size;
            out.push(self.take_out(store, id, shadow));
            taken += size;
        }
        taken
    }
}

impl Group {
    pub(super) fn shadow(&self, folio: &Folio) -> u32 {
        let workingset = if folio.has(flag::WORKINGSET) { SHADOW_WORKINGSET } else { 0 };
        SHADOW | workingset | (self.age as u32 & AGE_BITS)
    }
}

/// The inactive list should hold about 1/sqrt(10 GiB) of the memory, half of it below 1 GiB (`inactive_is_low`).
fn inactive_is_low((active, inactive, _): (u64, u64, u64)) -> bool {
    let gib = (inactive + active) >> 18;
    let ratio = if gib > 0 { (10 * gib).isqrt() } else { 1 };
    inactive * ratio < active
}
