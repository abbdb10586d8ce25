// SPDX-License-Identifier: MIT OR Apache-2.0
//! The multi-generational LRU (`CONFIG_LRU_GEN`, `lru_gen_*` of `mm/vmscan.c` and `mm/workingset.c`, rules read in 6.12): file pages
//! of a memory cgroup in up to four generations, tiers by reads through file descriptors, and a controller that protects the tiers
//! that refault more than the first.
//!
//! Simplified: aging asks about every folio at once where the kernel walks page tables in batches, guided by Bloom filters, and looks
//! around a young entry on eviction; a promoted folio moves at once and not when the eviction meets it; no anonymous pages, so no
//! balance between the types; later kernels may count reads into tiers differently, which is not told apart.

use super::tiers::{TIERS, Tier, evictable, tier};
use super::{AGE_BITS, Evicted, FolioId, List, Memory, Rmap, SHADOW, SHADOW_WORKINGSET, Store, flag};
use keepahead_core::units::Nanos;

const MIN_GENERATIONS: u64 = 2;
const GENERATIONS: usize = 4;
/// Most reads that a folio counts beyond the first two (`LRU_REFS_WIDTH` is 2).
const MAX_REFS: u8 = 3;
const REFS_BITS: u32 = 2;
/// Folios that one batch of eviction isolates, and looks at (`MIN_LRU_BATCH`, `MAX_LRU_BATCH`, 64 bits).
pub(super) const ISOLATE: u64 = 64;
const LOOK: u64 = 64 * 64;
const PRIORITY: u32 = 12;

pub struct Generations {
    pub(super) lists: [List; GENERATIONS],
    min_seq: u64,
    max_seq: u64,
    tiers: [Tier; TIERS],
}

impl Default for Generations {
    fn default() -> Generations {
        Generations { lists: Default::default(), min_seq: 0, max_seq: MIN_GENERATIONS + 1, tiers: Default::default() }
    }
}

impl Generations {
    pub(super) fn pages(&self) -> u64 {
        self.lists.iter().map(|l| l.pages).sum()
    }

    fn size(&self, seq: u64) -> u64 {
        self.lists[place(seq)].pages
    }

    fn count(&self) -> u64 {
        self.max_seq - self.min_seq + 1
    }

    /// Where an inactive folio goes: the oldest generation, or the one before it while there are four.
    fn inactive_seq(&self) -> u64 {
        if self.min_seq + MIN_GENERATIONS >= self.max_seq { self.min_seq } else { self.min_seq + 1 }
    }

    pub(super) fn put(&mut self, store: &mut Store, id: FolioId, seq: u64, next_to_go: bool) {
        let list = place(seq);
        store.folios[id as usize].generation = list as u8;
        if next_to_go {
            self.lists[list].push_back(&mut store.folios, id);
        } else {
            self.lists[list].push_front(&mut store.folios, id);
        }
    }

    pub(super) fn unlink(&mut self, store: &mut Store, id: FolioId) {
        let list = usize::from(store.folios[id as usize].generation);
        self.lists[list].unlink(&mut store.folios, id);
    }

    /// A folio enters the cache; `in_fault` is a fault on a mapping that counts for recency. Whether its refault was recent.
    pub(super) fn add(&mut self, store: &mut Store, id: FolioId, shadow: Option<u32>, in_fault: bool) -> bool {
        let folio = &mut store.folios[id as usize];
        let mut recent = false;
        if let Some(shadow) = shadow {
            let token = shadow & AGE_BITS;
            recent = u64::from(token >> REFS_BITS) == self.min_seq & u64::from(AGE_BITS >> REFS_BITS);
            let refs = (token as u8 & MAX_REFS) + u8::from(shadow & SHADOW_WORKINGSET != 0);
            if recent {
                self.tiers[tier(refs)].refaulted += folio.pages();
            }
            if recent && (in_fault || refs >= MAX_REFS) {
                folio.refs = MAX_REFS;
                folio.flags |= flag::WORKINGSET;
            }
        }
        if in_fault {
            forget_reads(store, id, flag::REFERENCED);
        }
        let seq = if in_fault { self.max_seq } else { self.inactive_seq() };
        self.put(store, id, seq, false);
        recent
    }

    /// A read through a file descriptor (`folio_inc_refs`): counted, and nothing moves. Whether another one would change nothing.
    pub(super) fn accessed(store: &mut Store, id: FolioId) -> bool {
        let folio = &mut store.folios[id as usize];
        if !folio.has(flag::REFERENCED) {
            folio.flags |= flag::REFERENCED;
        } else if !folio.has(flag::WORKINGSET) {
            folio.flags |= flag::WORKINGSET;
        } else {
            folio.refs = (folio.refs + 1).min(MAX_REFS);
        }
        folio.has(flag::REFERENCED) && folio.has(flag::WORKINGSET) && folio.refs == MAX_REFS
    }

    /// `MADV_COLD`: back among the inactive ones.
    pub(super) fn deactivate(&mut self, store: &mut Store, id: FolioId) {
        self.unlink(store, id);
        store.folios[id as usize].flags &= !flag::REFERENCED;
        self.put(store, id, self.inactive_seq(), false);
    }

    /// The shadow of a folio that leaves, which its tier counts as evicted.
    pub(super) fn shadow(&mut self, store: &Store, id: FolioId) -> u32 {
        let folio = &store.folios[id as usize];
        let refs = reads(folio.refs, folio.flags);
        self.tiers[tier(refs)].evicted += folio.pages();
        let token = ((self.min_seq as u32) << REFS_BITS | u32::from(refs.saturating_sub(1))) & AGE_BITS;
        SHADOW | token | if refs > 0 { SHADOW_WORKINGSET } else { 0 }
    }

    /// Whether a new generation is due before more is evicted (`should_run_aging`).
    fn aging_is_due(&self) -> bool {
        let total = self.pages();
        if self.min_seq + MIN_GENERATIONS != self.max_seq {
            return self.min_seq + MIN_GENERATIONS > self.max_seq;
        }
        let (young, old) = (self.size(self.max_seq), self.size(self.min_seq));
        young * MIN_GENERATIONS > total || old * (MIN_GENERATIONS + 2) < total
    }

    /// Folios used through page tables rise to the youngest generation, then a new one begins.
    fn age(&mut self, store: &mut Store, rmap: &mut impl Rmap) {
        for list in 0..GENERATIONS {
            let mut at = self.lists[list].oldest();
            while let Some(id) = at {
                at = self.lists[list].newer(&store.folios, id);
                if rmap.referenced(&store.folios[id as usize]) > 0 {
                    forget_reads(store, id, flag::REFERENCED | flag::WORKINGSET);
                    if list != place(self.max_seq) {
                        self.unlink(store, id);
                        self.put(store, id, self.max_seq, false);
                    }
                }
            }
        }
        self.max_seq += 1;
    }

    /// Drops generations at the old end that hold nothing.
    fn drop_empty(&mut self) {
        let before = self.min_seq;
        while self.min_seq + MIN_GENERATIONS <= self.max_seq && self.size(self.min_seq) == 0 {
            self.min_seq += 1;
        }
        if self.min_seq != before {
            self.tiers.iter_mut().for_each(Tier::carry_over);
        }
    }

    /// Takes the next folios to evict off the oldest generation; protected ones go to the next. Gives pages looked at
    /// (`scan_folios`).
    fn isolate(&mut self, store: &mut Store, isolated: &mut Vec<FolioId>) -> u64 {
        if self.count() == MIN_GENERATIONS {
            return 0;
        }
        let highest = evictable(&self.tiers);
        let (mut scanned, mut pages, mut looks) = (0, 0, LOOK);
        while looks > 0 && pages < ISOLATE {
            let Some(id) = self.lists[place(self.min_seq)].pop_back(&mut store.folios) else { break };
            looks -= 1;
            let folio = &store.folios[id as usize];
            let (size, refs) = (folio.pages(), reads(folio.refs, folio.flags));
            scanned += size;
            if tier(refs) > highest || refs > MAX_REFS {
                self.tiers[tier(refs)].protected += size;
                forget_reads(store, id, flag::REFERENCED | flag::WORKINGSET);
                self.put(store, id, self.min_seq + 1, true);
            } else {
                isolated.push(id);
                pages += size;
            }
        }
        if pages > 0 || looks == 0 { scanned } else { 0 }
    }
}

fn place(seq: u64) -> usize {
    (seq % GENERATIONS as u64) as usize
}

/// Reads beyond the first (`folio_lru_refs`).
fn reads(refs: u8, flags: u8) -> u8 {
    refs + u8::from(flags & flag::WORKINGSET != 0)
}

fn forget_reads(store: &mut Store, id: FolioId, flags: u8) {
    let folio = &mut store.folios[id as usize];
    folio.flags &= !flags;
    folio.refs = 0;
    store.settle(id, false);
}

impl Memory {
    /// Takes at least `target` pages where it can (`lru_gen_shrink_lruvec`, called for ever more of the memory).
    pub(super) fn reclaim_generations(
        &mut self,
        store: &mut Store,
        group: usize,
        target: u64,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
    ) -> u64 {
        let mut taken = 0;
        for priority in (0..=PRIORITY).rev() {
            let mut scanned = 0;
            loop {
                let generations = &mut self.groups[group].generations;
                let due = generations.aging_is_due();
                if due && (priority != PRIORITY || generations.count() <= MIN_GENERATIONS) {
                    if priority != PRIORITY {
                        generations.age(store, rmap);
                    }
                    break;
                }
                let most = generations.pages() >> priority;
                let looked = if most > 0 { self.evict(store, group, now, rmap, out, &mut taken) } else { 0 };
                scanned += looked;
                if looked == 0 || scanned >= most {
                    break;
                }
            }
            if taken >= target {
                break;
            }
        }
        taken
    }

    /// One batch; gives pages looked at (`evict_folios`).
    fn evict(
        &mut self,
        store: &mut Store,
        group: usize,
        now: Nanos,
        rmap: &mut impl Rmap,
        out: &mut Vec<Evicted>,
        taken: &mut u64,
    ) -> u64 {
        let mut isolated = Vec::new();
        let generations = &mut self.groups[group].generations;
        let scanned = generations.isolate(store, &mut isolated);
        generations.drop_empty();
        let stalled = generations.count() == MIN_GENERATIONS;
        for id in isolated {
            let folio = &mut store.folios[id as usize];
            let size = folio.pages();
            if !folio.has(flag::REFERENCED) {
                (folio.refs, folio.flags) = (0, folio.flags & !flag::WORKINGSET);
            }
            folio.flags &= !flag::REFERENCED;
            let kept = folio.ready > now || folio.has(flag::DIRTY) || rmap.referenced(folio) > 0;
            let generations = &mut self.groups[group].generations;
            if kept {
                // What cannot go does not wait in the oldest generation for the next look.
                forget_reads(store, id, flag::WORKINGSET);
                generations.put(store, id, generations.max_seq, false);
                continue;
            }
            let shadow = generations.shadow(store, id);
            self.groups[group].age += size;
            out.push(self.take_out(store, id, shadow));
            *taken += size;
        }
        if stalled { 0 } else { scanned }
    }
}
