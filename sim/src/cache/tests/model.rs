// SPDX-License-Identifier: MIT OR Apache-2.0
//! Active and inactive list as slowly and plainly as can be: queues of folios, a map of pages, every question a search.

use super::Op;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Copy, Debug)]
struct Entry {
    file: u32,
    index: u64,
    pages: u64,
    group: usize,
    referenced: bool,
    workingset: bool,
    dirty: bool,
}

#[derive(Default)]
struct Group {
    limit: u64,
    /// Front: newest.
    active: VecDeque<Entry>,
    inactive: VecDeque<Entry>,
    age: u64,
    activations: u64,
    activations_seen: u64,
}

impl Group {
    fn pages(&self) -> (u64, u64) {
        (self.inactive.iter().map(|e| e.pages).sum(), self.active.iter().map(|e| e.pages).sum())
    }
}

pub struct Model {
    groups: Vec<Group>,
    /// Evicted pages: age then, and whether the folio was active once.
    shadows: BTreeMap<(u32, u64), (u64, bool)>,
    /// Stretches of 64 pages with shadows and no page, oldest first: file, stretch, cgroup of the last page.
    emptied: Vec<(u32, u64, usize)>,
    young: BTreeMap<(u32, u64), u32>,
    pub refaults: u64,
}

type Evicted = Vec<(u32, u32)>;

impl Model {
    pub fn new(limits: &[u64]) -> Model {
        let groups = limits.iter().map(|&limit| Group { limit, ..Group::default() }).collect();
        Model { groups, shadows: BTreeMap::new(), emptied: Vec::new(), young: BTreeMap::new(), refaults: 0 }
    }

    /// (group, on the active list, place) of the folio that holds a page.
    fn find(&self, file: u32, page: u64) -> Option<(usize, bool, usize)> {
        let holds = |e: &Entry| e.file == file && (e.index..e.index + e.pages).contains(&page);
        self.groups.iter().enumerate().find_map(|(g, group)| {
            let active = group.active.iter().position(holds).map(|at| (g, true, at));
            active.or_else(|| group.inactive.iter().position(holds).map(|at| (g, false, at)))
        })
    }

    fn list(&mut self, group: usize, active: bool) -> &mut VecDeque<Entry> {
        if active { &mut self.groups[group].active } else { &mut self.groups[group].inactive }
    }

    pub fn run(&mut self, op: Op) -> (bool, Evicted) {
        match op {
            Op::Read { file, page, order, group, dirty } => return self.read(file, page, order, group.into(), dirty),
            Op::Touch { file, page, entries } => drop(self.young.insert((file, page), entries)),
            Op::Limit { group, pages } => self.groups[usize::from(group)].limit = pages,
            Op::Reclaim { group, pages } => return (false, self.reclaim(group.into(), pages).1),
            Op::Drop { file, page } | Op::Cold { file, page } | Op::PageOut { file, page } | Op::Clean { file, page } => {
                let Some((group, active, at)) = self.find(file, page) else { return (false, Vec::new()) };
                match op {
                    Op::Clean { .. } => self.list(group, active)[at].dirty = false,
                    Op::Cold { .. } => self.cold(group, active, at),
                    _ => {
                        let Some(entry) = self.list(group, active).remove(at) else { return (false, Vec::new()) };
                        self.leave(entry, matches!(op, Op::PageOut { .. }));
                    }
                }
            }
        }
        (false, Vec::new())
    }

    fn cold(&mut self, group: usize, active: bool, at: usize) {
        self.list(group, active)[at].referenced = false;
        if active && let Some(entry) = self.groups[group].active.remove(at) {
            self.groups[group].inactive.push_front(Entry { workingset: true, ..entry });
        }
    }

    fn leave(&mut self, entry: Entry, remembered: bool) {
        let group = &mut self.groups[entry.group];
        for page in entry.index..entry.index + entry.pages {
            if remembered {
                self.shadows.insert((entry.file, page), (group.age, entry.workingset));
            } else {
                self.shadows.remove(&(entry.file, page));
            }
        }
        if remembered {
            group.age += entry.pages;
        }
        // The largest folio here has 8 pages, so it lies within one stretch.
        let (file, stretch) = (entry.file, entry.index / 64);
        let mut pages = stretch * 64..stretch * 64 + 64;
        if pages.clone().all(|p| self.find(file, p).is_none()) && pages.any(|p| self.shadows.contains_key(&(file, p))) {
            self.emptied.push((file, stretch, entry.group));
        }
    }

    /// No more than an eighth as many stretches without a page as there are pages.
    fn forget(&mut self, group: usize) {
        let (inactive, active) = self.groups[group].pages();
        while self.emptied.iter().filter(|e| e.2 == group).count() as u64 > (inactive + active) / 8 {
            let Some(at) = self.emptied.iter().position(|e| e.2 == group) else { return };
            let (file, stretch, _) = self.emptied.remove(at);
            self.shadows.retain(|(f, page), _| (*f, page / 64) != (file, stretch));
        }
    }

    fn read(&mut self, file: u32, page: u64, order: u8, group: usize, dirty: bool) -> (bool, Evicted) {
        let hit = self.find(file, page).is_some();
        let out = if hit { Vec::new() } else { self.add(file, page, order, group, dirty) };
        if let Some((group, active, at)) = self.find(file, page) {
            let entry = &mut self.list(group, active)[at];
            if !entry.referenced {
                entry.referenced = true;
            } else if !active && let Some(mut entry) = self.groups[group].inactive.remove(at) {
                entry.referenced = false;
                self.groups[group].age += entry.pages;
                self.groups[group].active.push_front(entry);
            }
        }
        (hit, out)
    }

    fn add(&mut self, file: u32, page: u64, order: u8, group: usize, dirty: bool) -> Evicted {
        let mut pages = 1 << order;
        let mut index = page / pages * pages;
        if (index..index + pages).any(|p| self.find(file, p).is_some()) {
            (index, pages) = (page, 1);
        }
        let mut out = Vec::new();
        loop {
            let (inactive, active) = self.groups[group].pages();
            if inactive + active + pages <= self.groups[group].limit {
                break;
            }
            let (taken, gone) = self.reclaim(group, pages.max(32));
            out.extend(gone);
            if taken == 0 {
                break;
            }
        }
        self.emptied.retain(|e| (e.0, e.1) != (file, index / 64));
        let shadow = (index..index + pages).filter_map(|p| self.shadows.remove(&(file, p))).last();
        let mut entry = Entry { file, index, pages, group, referenced: false, workingset: false, dirty };
        let (_, active) = self.groups[group].pages();
        let group = &mut self.groups[group];
        self.refaults += if shadow.is_some() { pages } else { 0 };
        match shadow {
            // Another group's clock may be ahead: the distance wraps and is far.
            Some((age, workingset)) if group.age.checked_sub(age).is_some_and(|distance| distance <= active) => {
                entry.workingset = workingset;
                group.age += pages;
                group.activations += pages;
                group.active.push_front(entry);
            }
            _ => group.inactive.push_front(entry),
        }
        out
    }

    fn reclaim(&mut self, group: usize, target: u64) -> (u64, Evicted) {
        let mut out = Vec::new();
        let g = &self.groups[group];
        let (inactive, active) = g.pages();
        let deactivate = g.activations != g.activations_seen || inactive < active;
        let mut taken = self.passes(group, target, deactivate, &mut out);
        if taken == 0 && !deactivate {
            taken = self.passes(group, target, true, &mut out);
        }
        let g = &mut self.groups[group];
        g.activations_seen = g.activations;
        self.forget(group);
        (taken, out)
    }

    fn passes(&mut self, group: usize, target: u64, deactivate: bool, out: &mut Evicted) -> u64 {
        let mut taken = 0;
        for priority in (0..=12).rev() {
            let (inactive, active) = self.groups[group].pages();
            let (mut inactive, mut active) = (inactive >> priority, active >> priority);
            while inactive + active > 0 {
                taken += self.shrink_inactive(group, inactive.min(32), out);
                if deactivate {
                    self.shrink_active(group, active.min(32));
                }
                (inactive, active) = (inactive.saturating_sub(32), active.saturating_sub(32));
                if taken >= target {
                    return taken;
                }
            }
        }
        taken
    }

    fn young(&mut self, entry: &Entry) -> u32 {
        (entry.index..entry.index + entry.pages).filter_map(|page| self.young.remove(&(entry.file, page))).sum()
    }

    fn shrink_active(&mut self, group: usize, pages: u64) {
        let mut scanned = 0;
        while scanned < pages {
            let Some(entry) = self.groups[group].active.pop_back() else { return };
            scanned += entry.pages;
            self.young(&entry);
            self.groups[group].inactive.push_front(Entry { workingset: true, ..entry });
        }
    }

    fn shrink_inactive(&mut self, group: usize, pages: u64, out: &mut Evicted) -> u64 {
        let (mut scanned, mut taken) = (0, 0);
        while scanned < pages {
            let Some(mut entry) = self.groups[group].inactive.pop_back() else { break };
            scanned += entry.pages;
            if entry.dirty {
                self.groups[group].inactive.push_front(entry);
                continue;
            }
            let (entries, referenced) = (self.young(&entry), entry.referenced);
            entry.referenced = entries > 0;
            match entries {
                0 => {
                    taken += entry.pages;
                    out.push((entry.file, entry.index as u32));
                    self.leave(entry, true);
                }
                1 if !referenced => self.groups[group].inactive.push_front(entry),
                _ => {
                    self.groups[group].age += entry.pages;
                    self.groups[group].active.push_front(entry);
                }
            }
        }
        taken
    }
}
