// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Sample`s in, `Window` out: deltas over a sliding window of 1 s slots. Subtracts and refuses short windows, nothing else.

use crate::sample::{Completeness, Counters, Sample};
use crate::units::Nanos;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Slots are 1 s; a tick that comes a little early still closes one.
const SLOT: Nanos = Nanos::from_millis(950);

/// Counters over a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub seconds: f64,
    pub counters: Counters,
}

impl Span {
    /// Two spans, one after the other.
    pub fn plus(&self, other: &Span) -> Span {
        Span { seconds: self.seconds + other.seconds, counters: self.counters.plus(&other.counters) }
    }

    /// `count` a second; 0 over no time.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

/// A point in time with the cumulative counters at it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub at: Nanos,
    pub counters: Counters,
}

impl Mark {
    /// What happened from this mark to a later one.
    pub fn until(&self, later: &Mark) -> Span {
        Span { seconds: later.at.since(self.at).as_secs_f64(), counters: later.counters.since(&self.counters) }
    }
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub span: Span,
    pub completeness: Completeness,
}

/// The last full slots of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slots {
    /// Measured by a trial, under the value that it has proven.
    #[serde(default)]
    carried: VecDeque<Span>,
    /// At the borders of those since.
    marks: VecDeque<Mark>,
}

impl Slots {
    /// Takes a sample; keeps it where a slot is over, and says so. `most`: slots of the window.
    pub fn push(&mut self, now: Nanos, sample: &Sample, most: u32) -> bool {
        if self.marks.back().is_some_and(|last| now.since(last.at) < SLOT) {
            return false;
        }
        self.marks.push_back(Mark { at: now, counters: sample.counters });
        while self.carried.len() + self.marks.len() > most as usize + 1 {
            if self.carried.pop_front().is_none() {
                self.marks.pop_front();
            }
        }
        true
    }

    /// The full slots one by one, oldest first.
    pub fn spans(&self) -> Vec<Span> {
        let since = self.marks.iter().zip(self.marks.iter().skip(1)).map(|(a, b)| a.until(b));
        self.carried.iter().copied().chain(since).collect()
    }

    /// The latest slot alone.
    pub fn latest(&self, completeness: Completeness) -> Option<Window> {
        let (last, before) = (self.marks.back()?, self.marks.iter().rev().nth(1)?);
        Some(Window { span: before.until(last), completeness })
    }

    /// Forgets everything but the latest `slots`; with 0, what comes now begins the next one.
    pub fn keep_latest(&mut self, slots: usize) {
        self.carried.clear();
        self.marks.drain(..self.marks.len().saturating_sub(slots + 1));
    }

    /// Forgets everything: what was seen under another value says nothing about this one.
    pub fn clear(&mut self) {
        self.carry(&[], 0);
    }

    /// Forgets everything but `blocks`, which were measured under the present value, as slots of their own. One of the window's `most`
    /// slots is left to be seen anew.
    pub fn carry(&mut self, blocks: &[Span], most: u32) {
        self.marks.clear();
        self.carried.clear();
        let mut slot = Span::default();
        for block in blocks.iter().rev() {
            slot = block.plus(&slot);
            if slot.seconds >= SLOT.as_secs_f64() {
                self.carried.push_front(std::mem::take(&mut slot));
            }
        }
        while self.carried.len() >= most.max(1) as usize {
            self.carried.pop_front();
        }
    }

    /// The window up to now, or `None` until `most` slots are full.
    pub fn window(&self, most: u32, completeness: Completeness) -> Option<Window> {
        self.so_far(most, completeness)
    }

    /// All slots up to now, or `None` where they are fewer than `least`.
    pub fn so_far(&self, least: u32, completeness: Completeness) -> Option<Window> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let carried = self.carried.iter().fold(Span::default(), |sum, span| sum.plus(span));
        let enough = self.carried.len() + self.marks.len() > least as usize;
        enough.then(|| Window { span: carried.plus(&first.until(last)), completeness })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(read_pages: u64) -> Sample {
        Sample { counters: Counters { read_pages, ..Counters::default() }, completeness: Completeness::Full }
    }

    #[test]
    fn slides_and_refuses_short_windows() {
        let mut slots = Slots::default();
        for second in 0..10 {
            assert_eq!(slots.window(3, Completeness::Full).is_some(), second > 3, "at {second} s");
            slots.push(Nanos::from_secs(second), &sample(second * 100), 3);
        }
        let window = slots.window(3, Completeness::Full).unwrap();
        assert_eq!((window.span.seconds, window.span.counters.read_pages), (3.0, 300));
        slots.clear();
        assert!(slots.window(3, Completeness::Full).is_none());
    }

    #[test]
    fn blocks_of_a_trial_are_slots_of_the_value_that_it_kept() {
        let block = |read_pages| Span { seconds: 0.5, counters: Counters { read_pages, ..Counters::default() } };
        let blocks: Vec<Span> = (1..=7).map(block).collect();
        let mut slots = Slots::default();
        slots.push(Nanos(0), &sample(0), 3);
        slots.carry(&blocks, 3);
        let pages = |slots: &Slots| slots.spans().iter().map(|s| s.counters.read_pages).collect::<Vec<_>>();
        assert_eq!(pages(&slots), [4 + 5, 6 + 7], "the latest");
        for (second, seen) in [(10, None), (11, Some(122)), (12, Some(213)), (13, Some(300)), (14, Some(300))] {
            slots.push(Nanos::from_secs(second), &sample(second * 100), 3);
            let window = slots.window(3, Completeness::Full);
            assert_eq!(window.map(|w| w.span.counters.read_pages), seen, "at {second} s");
        }
    }

    #[test]
    fn ticks_faster_than_a_slot_change_nothing() {
        let mut slots = Slots::default();
        for tick in 0..31 {
            slots.push(Nanos::from_millis(tick * 100), &sample(tick), 3);
        }
        assert_eq!(slots.window(3, Completeness::Full).unwrap().span.counters.read_pages, 30);
    }
}
