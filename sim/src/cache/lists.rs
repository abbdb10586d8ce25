// SPDX-License-Identifier: MIT OR Apache-2.0
//! A doubly linked list of folios, its links within the folios: head is the newest, tail the next to be looked at by reclaim.

use super::{Folio, FolioId};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u32,
    tail: u32,
    pub pages: u64,
}

impl Default for List {
    fn default() -> List {
        List { head: NONE, tail: NONE, pages: 0 }
    }
}

impl List {
    pub fn push_front(&mut self, folios: &mut [Folio], id: FolioId) {
        let folio = &mut folios[id as usize];
        (folio.prev, folio.next) = (NONE, self.head);
        self.pages += folio.pages();
        match self.head {
            NONE => self.tail = id,
            head => folios[head as usize].prev = id,
        }
        self.head = id;
    }

    pub fn push_back(&mut self, folios: &mut [Folio], id: FolioId) {
        let folio = &mut folios[id as usize];
        (folio.prev, folio.next) = (self.tail, NONE);
        self.pages += folio.pages();
        match self.tail {
            NONE => self.head = id,
            tail => folios[tail as usize].next = id,
        }
        self.tail = id;
    }

    pub fn unlink(&mut self, folios: &mut [Folio], id: FolioId) {
        let Folio { prev, next, .. } = folios[id as usize];
        self.pages -= folios[id as usize].pages();
        match prev {
            NONE => self.head = next,
            prev => folios[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => folios[next as usize].prev = prev,
        }
    }

    /// The folio that was longest in the list.
    pub fn oldest(&self) -> Option<FolioId> {
        (self.tail != NONE).then_some(self.tail)
    }

    /// The folio that entered the list next after `id`.
    pub fn newer(&self, folios: &[Folio], id: FolioId) -> Option<FolioId> {
        let prev = folios[id as usize].prev;
        (prev != NONE).then_some(prev)
    }

    pub fn pop_back(&mut self, folios: &mut [Folio]) -> Option<FolioId> {
        let id = self.oldest()?;
        self.unlink(folios, id);
        Some(id)
    }
}
