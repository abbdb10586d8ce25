// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the sensor's probes would count (`bpf/*.bpf.h`, the same rules in the same order), beside the truth that no probe can see:
//! touches of pages that are mapped already.

use crate::cache::Store;
use keepahead_core::features::LONG_RUN;
use keepahead_core::sample::{Counters, HIST_SLOTS, Hist};
use keepahead_core::units::Nanos;

/// Reach of fault-around (`fault_around_bytes`, 64 KiB), pages.
pub const FAULT_AROUND: u64 = 16;
/// Gaps between faults count as work up to here (`THINK_MAX_NS` of the probes).
const THINK_MAX: u64 = 250_000;
/// Of each gap this is the kernel's own work (`FAULT_COST_NS`).
const FAULT_COST: u64 = 1_000;
/// Sets of two places for what a task reads by turns.
const STREAM_SETS: usize = 32;
const LARGE_FOLIO_PAGES: u64 = 512;

/// A log2 histogram's slot for a value.
pub fn hist_add(hist: &mut Hist, value: u64, count: u64) {
    let slot = (63 - (value | 1).leading_zeros() as usize).min(HIST_SLOTS - 1);
    hist[slot] += count;
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    file: u32,
    next: u64,
    end: u64,
    run: u64,
}

#[derive(Clone, Debug)]
struct Streams {
    places: [Stream; 2 * STREAM_SETS],
    coin: u32,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams { places: [Stream { file: NO_FILE, next: 0, end: 0, run: 0 }; 2 * STREAM_SETS], coin: 1 }
    }
}

impl Streams {
    /// The file's stream, or the place that it is to take; of two that are taken chance gives one up.
    fn of(&mut self, file: u32) -> &mut Stream {
        let set = 2 * (file.wrapping_mul(0x9E37_79B9) >> 27) as usize;
        let holds = |i: usize| self.places[i].file;
        let place = match (holds(set), holds(set + 1)) {
            (first, _) if first == file => 0,
            (_, second) if second == file => 1,
            (NO_FILE, _) => 0,
            (_, NO_FILE) => 1,
            _ => {
                // A linear congruential generator's high bit (Numerical Recipes): the probes ask the kernel for a random bit.
                self.coin = self.coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (self.coin >> 31) as usize
            }
        };
        &mut self.places[set + place]
    }
}

const NO_FILE: u32 = u32::MAX;

/// A short run that lost its place to that of another file: its pages, and how far in its file it is known to have come (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: u32,
    pub read_to: u64,
    pub run: u64,
}

impl Stream {
    fn cut_by(&self, file: u32, read_to: u64) -> Option<Cut> {
        let cut = self.file != NO_FILE && self.file != file && (self.run as f64) < LONG_RUN;
        cut.then_some(Cut { file: self.file, read_to, run: self.run })
    }
}

/// Pages that a task has asked for and not got yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    None,
    /// A read's miss: pages `.0.. .1`.
    Sync(u64, u64),
    /// The marker was reached: all that is read now is a guess.
    Async,
    /// A fault on this page.
    Fault(u64),
}

/// What the probes keep of a task.
#[derive(Clone, Debug)]
pub struct Probe {
    pub demand: Demand,
    pub missed: bool,
    pub late: bool,
    /// Pages of this task's demands that it had to wait for, and how long it did, ns: all of its life.
    pub waited: u64,
    pub stall_ns: u64,
    /// The open fault's page was speculative.
    own: u64,
    mmap_last: Nanos,
    /// Files of the last request and of the last fault.
    read_of: u32,
    fault_of: u32,
    read: Streams,
    mmap: Streams,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe {
            demand: Demand::None,
            missed: false,
            late: false,
            waited: 0,
            stall_ns: 0,
            own: 0,
            mmap_last: Nanos(0),
            read_of: NO_FILE,
            fault_of: NO_FILE,
            read: Streams::default(),
            mmap: Streams::default(),
        }
    }
}

/// What a probe says of a fault: fault-around on pages `first..=last`, or a fault on one (`is_fault`).
#[derive(Clone, Copy, Debug)]
pub struct VisibleFault {
    pub file: u32,
    pub first: u64,
    pub last: u64,
    pub is_fault: bool,
}

impl Probe {
    /// A read request of pages `index..=last`.
    pub fn request(&mut self, c: &mut Counters, file: u32, index: u64, last: u64) -> Option<Cut> {
        let pages = last - index + 1;
        c.events += 1;
        c.read_requests += 1;
        c.read_pages += pages;
        hist_add(&mut c.request_hist, pages, 1);
        c.read_turns += u64::from(![NO_FILE, file].contains(&self.read_of));
        self.read_of = file;
        let s = self.read.of(file);
        let cut = s.cut_by(file, s.next);
        if s.file == file && (index == s.next || index + 1 == s.next) {
            s.run += if index == s.next { pages } else { pages - 1 };
            c.seq_requests += 1;
        } else {
            if s.file == file && s.run > 0 {
                hist_add(&mut c.read_run_hist, s.run, 1);
                hist_add(&mut c.jump_hist, index.abs_diff(s.next), 1);
            }
            (s.file, s.run) = (file, pages);
        }
        s.next = last + 1;
        cut
    }

    /// A reader slept `ns` for a page.
    pub fn read_wait(&mut self, c: &mut Counters, ns: u64, speculative: bool) {
        c.read_stall_ns += ns;
        self.stall_ns += ns;
        hist_add(&mut c.stall_hist, ns / 1000, 1);
        if !matches!(self.demand, Demand::Sync(..)) {
            c.read_late += 1;
            self.waited += 1;
            c.spec_used_late += u64::from(speculative);
        }
    }

    /// A fault that the probes see.
    pub fn fault(&mut self, c: &mut Counters, store: &mut Store, now: Nanos, fault: VisibleFault) -> Option<Cut> {
        let VisibleFault { file, first, last, is_fault } = fault;
        let own = take_pending(store, file, first, first);
        let mut used = own;
        if self.mmap_last.0 != 0 {
            c.mmap_think_ns += now.since(self.mmap_last).0.min(THINK_MAX).saturating_sub(FAULT_COST);
        }
        let s = self.mmap.of(file);
        let cut = s.cut_by(file, s.end + FAULT_AROUND);
        if s.file == file && first <= s.end && last >= s.next {
            self.demand = Demand::None;
        } else {
            c.faults += 1;
            c.events += 1;
            c.mmap_turns += u64::from(![NO_FILE, file].contains(&self.fault_of));
            self.fault_of = file;
            let mut pages = 1;
            if s.file == file && within_reach(store, file, s.next, first) {
                pages = first.abs_diff(s.next);
                c.seq_faults += 1;
                let (from, to) = if first > s.next { (s.next + 1, first) } else { (first, s.next.saturating_sub(1)) };
                if from <= to {
                    used += take_pending(store, file, from, to);
                }
                s.run += pages;
            } else {
                if s.file == file {
                    hist_add(&mut c.mmap_run_hist, s.run, 1);
                    hist_add(&mut c.jump_hist, first.abs_diff(s.next), 1);
                }
                (s.file, s.run) = (file, 1);
            }
            c.mmap_pages += pages;
            (self.missed, self.late, self.demand) = (false, false, Demand::None);
        }
        (s.next, s.end) = (first, last);
        c.spec_used += used;
        if is_fault {
            self.demand = Demand::Fault(first);
            self.own = own;
        }
        self.mmap_last = now;
        cut
    }

    /// The faulting task itself has added pages until `now`: no work of the program's.
    pub fn fault_added(&mut self, now: Nanos) {
        self.mmap_last = now;
    }

    /// The kernel worked `ns` for the open demand.
    pub fn filled(&self, c: &mut Counters, ns: u64) {
        if matches!(self.demand, Demand::Fault(_)) {
            c.mmap_fill_ns += ns;
        } else {
            c.read_fill_ns += ns;
        }
    }

    /// A faulting task slept `ns` for its page, until `now`.
    pub fn fault_wait(&mut self, c: &mut Counters, ns: u64, now: Nanos) {
        c.mmap_stall_ns += ns;
        self.stall_ns += ns;
        hist_add(&mut c.stall_hist, ns / 1000, 1);
        self.mmap_last = now;
        if !self.missed && !self.late {
            self.late = true;
            c.mmap_late += 1;
            self.waited += 1;
            c.spec_used_late += self.own;
        }
    }

    /// Pages `first..=last` enter the cache for the open demand: misses within it, guesses around it.
    pub fn added(&mut self, c: &mut Counters, store: &mut Store, file: u32, first: u64, last: u64) {
        let (from, to) = match self.demand {
            Demand::Sync(start, end) => (start.max(first), end.min(last + 1)),
            Demand::Fault(page) => (page.max(first), (page + 1).min(last + 1)),
            _ => (0, 0),
        };
        c.events += 1;
        if from >= to {
            return guess(c, store, file, first, last);
        }
        self.waited += to - from;
        if matches!(self.demand, Demand::Fault(_)) {
            self.missed = true;
            c.mmap_miss += to - from;
        } else {
            c.read_miss += to - from;
        }
        if from > first {
            guess(c, store, file, first, from - 1);
        }
        if to <= last {
            guess(c, store, file, to, last);
        }
    }
}

fn guess(c: &mut Counters, store: &mut Store, file: u32, first: u64, last: u64) {
    c.spec_added += last - first + 1;
    for (s, bits) in crate::cache::stretches(first, last) {
        if let Some(head) = store.head_mut(file, s) {
            head.unused |= bits;
            head.pending |= bits;
        }
    }
}

/// Takes pages out of what the sensor holds for speculative; how many there were.
pub fn take_pending(store: &mut Store, file: u32, first: u64, last: u64) -> u64 {
    let mut taken = 0;
    for (s, bits) in crate::cache::stretches(first, last) {
        if let Some(head) = store.head_mut(file, s) {
            taken += u64::from((head.pending & bits).count_ones());
            head.pending &= !bits;
        }
    }
    taken
}

fn within_reach(store: &Store, file: u32, from: u64, to: u64) -> bool {
    if from.abs_diff(to) <= FAULT_AROUND {
        return true;
    }
    if from.abs_diff(to) > LARGE_FOLIO_PAGES {
        return false;
    }
    let Some(id) = store.find(file, from) else { return false };
    let folio = &store.folios[id as usize];
    let first = u64::from(folio.index);
    if to > from { to <= first + folio.pages() } else { to + FAULT_AROUND >= first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_between_two_faults_of_one_fault_around_window_is_work() {
        let (mut probe, mut c, mut store) = (Probe::default(), Counters::default(), Store::default());
        let file = store.add_file();
        let mut touch = |page: u64, at: u64| {
            for (first, last, is_fault) in [(0, 15, false), (page, page, true)] {
                probe.fault(&mut c, &mut store, Nanos(at), VisibleFault { file, first, last, is_fault });
            }
        };
        touch(2, 1_000);
        touch(13, 51_000);
        touch(7, 91_000);
        // Less what the kernel takes for the second and the third.
        assert_eq!((c.faults, c.mmap_think_ns), (1, 88_000));
    }
}
