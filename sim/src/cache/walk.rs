// SPDX-License-Identifier: MIT OR Apache-2.0
//! The holes that the kernel's walk finds. `page_cache_next_miss` and `page_cache_prev_miss` step through the xarray slot by slot with
//! `xas_next` and `xas_prev`. Where the walk begins within a folio of 2 to 32 pages, it begins at the folio's first slot but counts
//! from the page asked for: index and slot are apart from then on, and come together again, or further apart, at the border of a node
//! of 64 slots. What the walk answers decides where the next window begins, so it is walked here the same way (`lib/xarray.c`).

use super::Store;

const SLOTS: u64 = 64;

/// A node of the tree, by what it covers: slots of `1 << shift` pages, from page `id << (shift + 6)`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    shift: u32,
    id: u64,
}

enum Entry {
    Empty,
    Folio,
    Child(Node),
}

struct Walk<'a> {
    store: &'a Store,
    file: u32,
    root: u32,
    index: u64,
    node: Node,
    offset: u64,
}

impl Store {
    /// Whether a walk that begins at `page` begins at another slot: the one of the first page of its folio.
    fn starts_apart(&self, file: u32, page: u64) -> Option<u64> {
        let folio = &self.folios[self.find(file, page)? as usize];
        (folio.order < 6 && u64::from(folio.index) != page).then_some(u64::from(folio.index))
    }

    /// `page_cache_next_miss`: the index at which the walk from `page` meets a hole within `max` steps.
    pub fn next_miss_walked(&self, file: u32, page: u64, max: u64) -> Option<u64> {
        let Some(slot) = self.starts_apart(file, page) else { return self.next_miss(file, page, max) };
        let mut walk = Walk::new(self, file, page, slot);
        (1..max).find_map(|_| (!walk.next()).then_some(walk.index))
    }

    /// `page_cache_prev_miss`, the same backwards; -1 for the hole before page 0.
    pub fn prev_miss_walked(&self, file: u32, page: u64, max: u64) -> Option<i64> {
        let Some(slot) = self.starts_apart(file, page) else { return self.prev_miss(file, page, max) };
        let mut walk = Walk::new(self, file, page, slot);
        (1..max).find_map(|_| (!walk.previous()).then_some(walk.index as i64))
    }

    /// Whether any slot of a stretch of 64 pages holds a folio or a shadow.
    fn has_entries(&self, file: u32, stretch: u64) -> bool {
        self.chunk(file, stretch).is_some_and(|c| self.slots[c].iter().any(|slot| *slot != 0))
    }
}

impl<'a> Walk<'a> {
    fn new(store: &'a Store, file: u32, page: u64, slot: u64) -> Walk<'a> {
        let stretches = store.files[file as usize].len() as u64;
        let last = (0..stretches).rev().find(|s| store.has_entries(file, *s)).unwrap_or(0);
        let mut root = 0;
        while (last * SLOTS) >> root >= SLOTS {
            root += 6;
        }
        let node = Node { shift: 0, id: slot / SLOTS };
        Walk { store, file, root, index: page, node, offset: slot % SLOTS }
    }

    fn entry(&self) -> Entry {
        let slot = self.node.id * SLOTS + self.offset;
        match self.node.shift {
            0 if self.store.present(self.file, slot) => Entry::Folio,
            0 => Entry::Empty,
            6 => match self.store.find(self.file, slot * SLOTS) {
                Some(id) if self.store.folios[id as usize].order >= 6 => Entry::Folio,
                _ if self.store.has_entries(self.file, slot) => Entry::Child(Node { shift: 0, id: slot }),
                _ => Entry::Empty,
            },
            shift => {
                let children = SLOTS.pow(shift / 6 - 1);
                let any = (slot * children..(slot + 1) * children).any(|s| self.store.has_entries(self.file, s));
                if any { Entry::Child(Node { shift: shift - 6, id: slot }) } else { Entry::Empty }
            }
        }
    }

    /// The slot that the index stands for in the present node.
    fn offset_of_index(&self) -> u64 {
        self.index >> self.node.shift & (SLOTS - 1)
    }

    /// One step on; whether a folio is there.
    fn next(&mut self) -> bool {
        self.index = self.index.wrapping_add(1);
        if self.node.shift == 0 && self.offset != SLOTS - 1 {
            self.offset += 1;
            return matches!(self.entry(), Entry::Folio);
        }
        if self.offset != self.offset_of_index() {
            self.offset += 1;
        }
        while self.offset == SLOTS {
            if !self.climb() {
                return false;
            }
            self.offset += 1;
        }
        self.descend()
    }

    /// One step back; whether a folio is there.
    fn previous(&mut self) -> bool {
        self.index = self.index.wrapping_sub(1);
        if self.node.shift == 0 && self.offset != 0 {
            self.offset -= 1;
            return matches!(self.entry(), Entry::Folio);
        }
        let mut below = false;
        if self.offset != self.offset_of_index() {
            below = self.offset == 0;
            self.offset = self.offset.saturating_sub(1);
        }
        while below {
            if !self.climb() {
                return false;
            }
            below = self.offset == 0;
            self.offset = self.offset.saturating_sub(1);
        }
        self.descend()
    }

    fn climb(&mut self) -> bool {
        if self.node.shift >= self.root {
            return false;
        }
        self.offset = self.node.id % SLOTS;
        self.node = Node { shift: self.node.shift + 6, id: self.node.id / SLOTS };
        true
    }

    fn descend(&mut self) -> bool {
        loop {
            match self.entry() {
                Entry::Empty => return false,
                Entry::Folio => return true,
                Entry::Child(node) => {
                    self.node = node;
                    self.offset = self.offset_of_index();
                }
            }
        }
    }
}
