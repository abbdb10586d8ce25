// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan: takes the ranges that a program is about to read and how far it has come, gives the next piece to prefetch within the
//! budget, what to judge and what to drop. Pure: no file, no clock.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A piece of a file, by its number in the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub file: u64,
    pub offset: u64,
    pub length: u64,
}

/// Ranges and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub ranges: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.ranges += 1;
        self.bytes += bytes;
    }
}

/// What was found when the reader came to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// All of it had been read; whether it is still there the kernel must say.
    Ready,
    Late,
    Missed,
}

/// One thing to do for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Start reading this piece of range number `index`.
    Prefetch { index: u64, piece: Range },
    /// The reader has come to this range.
    Judge { range: Range, arrival: Arrival },
    /// The reader is past this range. `ours`: none of it was cached before it was prefetched.
    Passed { range: Range, ours: bool },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    range: Range,
    /// Bytes that were asked of the kernel, and bytes that have come.
    asked: u64,
    done: u64,
    /// Bytes of it counted as ahead of the reader.
    ahead: u64,
    foreign: bool,
}

/// The ranges from the reader's on; what lies behind him is forgotten.
#[derive(Debug, Default)]
pub struct Plan {
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    base: u64,
    /// The range being read, and how far; before the first `Position`, none.
    position: Option<(u64, u64)>,
    /// Next range to ask for.
    cursor: u64,
    /// Next range to judge.
    judged: u64,
    /// Judged when the reader came, not yet handed out.
    arrived: VecDeque<(Range, Arrival)>,
    ahead: u64,
}

impl Plan {
    pub fn append(&mut self, ranges: impl IntoIterator<Item = Range>) {
        let entry = |range| Entry { range, asked: 0, done: 0, ahead: 0, foreign: false };
        self.entries.extend(ranges.into_iter().map(entry));
        self.judge();
    }

    /// Ranges so far, those behind the reader included.
    pub fn total(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Ranges held in memory.
    pub fn held(&self) -> usize {
        self.entries.len()
    }

    pub fn position(&self) -> Option<u64> {
        self.position.map(|(range, _)| range)
    }

    /// Bytes asked for that the reader has not come to.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }

    /// Whether every range was asked for.
    pub fn is_exhausted(&self) -> bool {
        self.cursor >= self.total()
    }

    /// The reader begins with range `index`, `offset` bytes into it. Going back changes nothing.
    pub fn advance(&mut self, index: u64, offset: u64) {
        let to = (index.min(self.total()), offset);
        if self.position.is_some_and(|now| now >= to) {
            return;
        }
        self.position = Some(to);
        if let Some(entry) = at(&mut self.entries, self.base, to.0) {
            let left = entry.asked.saturating_sub(offset);
            self.ahead -= entry.ahead.saturating_sub(left);
            entry.ahead = entry.ahead.min(left);
        }
        self.judge();
    }

    /// What to do next: judge and let go of what the reader has come to, then prefetch up to `budget` bytes ahead of him, at most
    /// `step` bytes at once. `None`: nothing for now.
    pub fn next_task(&mut self, budget: u64, step: u64) -> Option<Task> {
        let arrived = self.arrived.pop_front().map(|(range, arrival)| Task::Judge { range, arrival });
        arrived.or_else(|| self.pass()).or_else(|| self.ask(budget, step))
    }

    /// At the very moment, because what is in flight now will soon have come.
    fn judge(&mut self) {
        let Some((position, _)) = self.position else { return };
        while self.judged <= position {
            let Some(entry) = at(&mut self.entries, self.base, self.judged) else { return };
            let arrival = match () {
                () if entry.done >= entry.range.length => Arrival::Ready,
                () if entry.asked == 0 => Arrival::Missed,
                () => Arrival::Late,
            };
            self.arrived.push_back((entry.range, arrival));
            self.judged += 1;
        }
    }

    fn pass(&mut self) -> Option<Task> {
        let (position, _) = self.position?;
        if self.base >= position {
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.base += 1;
        self.ahead -= entry.ahead;
        Some(Task::Passed { range: entry.range, ours: !entry.foreign })
    }

    fn ask(&mut self, budget: u64, step: u64) -> Option<Task> {
        let (position, offset) = self.position.unwrap_or_default();
        self.cursor = self.cursor.max(position);
        if budget == 0 {
            return None;
        }
        loop {
            let index = self.cursor;
            let entry = at(&mut self.entries, self.base, index)?;
            // What the reader has read himself need not come any more.
            let behind = if index == position { offset } else { 0 };
            entry.asked = entry.asked.max(behind).min(entry.range.length);
            entry.done = entry.done.max(behind).min(entry.range.length);
            let length = (entry.range.length - entry.asked).min(step).min(budget);
            if length == 0 {
                self.cursor += 1;
                continue;
            }
            // Not cut to what is left: a reader who moves in small steps would make small requests of it.
            if self.ahead + length > budget {
                return None;
            }
            let piece = Range { offset: entry.range.offset + entry.asked, length, ..entry.range };
            entry.asked += length;
            entry.ahead += length;
            self.ahead += length;
            return Some(Task::Prefetch { index, piece });
        }
    }

    /// A piece of a range has come. `was_there`: some of it had been cached before.
    pub fn came(&mut self, index: u64, length: u64, was_there: bool) {
        if let Some(entry) = at(&mut self.entries, self.base, index) {
            entry.done = (entry.done + length).min(entry.range.length);
            entry.foreign |= was_there;
        }
    }

    /// Bytes that were prefetched for a reader who never came, and the pieces they are in.
    pub fn unread(&self) -> impl Iterator<Item = (Range, u64)> {
        let unread = self.entries.iter().filter(|e| e.ahead > 0 && !e.foreign);
        unread.map(|e| (Range { length: e.asked, ..e.range }, e.ahead))
    }
}

fn at(entries: &mut VecDeque<Entry>, base: u64, index: u64) -> Option<&mut Entry> {
    entries.get_mut(usize::try_from(index.checked_sub(base)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(lengths: &[u64]) -> Plan {
        let mut plan = Plan::default();
        plan.append(lengths.iter().enumerate().map(|(file, length)| Range { file: file as u64, offset: 0, length: *length }));
        plan
    }

    /// Does all there is to do; what was asked comes at once.
    fn run(plan: &mut Plan, budget: u64) -> Vec<Task> {
        let mut done = Vec::new();
        while let Some(task) = plan.next_task(budget, 100) {
            if let Task::Prefetch { index, piece } = task {
                plan.came(index, piece.length, false);
            }
            done.push(task);
        }
        done
    }

    fn arrivals(tasks: &[Task]) -> Vec<Arrival> {
        let arrival = |t: &Task| if let Task::Judge { arrival, .. } = t { Some(*arrival) } else { None };
        tasks.iter().filter_map(arrival).collect()
    }

    #[test]
    fn it_stays_within_the_budget_and_follows_the_reader() {
        let mut plan = plan(&[150, 150, 150, 150]);
        run(&mut plan, 300);
        assert_eq!(plan.ahead(), 300);
        plan.advance(0, 0);
        assert_eq!(arrivals(&run(&mut plan, 300)), [Arrival::Ready]);
        plan.advance(1, 0);
        let tasks = run(&mut plan, 300);
        assert_eq!(arrivals(&tasks), [Arrival::Ready]);
        assert!(tasks.contains(&Task::Passed { range: Range { file: 0, offset: 0, length: 150 }, ours: true }));
        assert!(tasks.iter().any(|t| matches!(t, Task::Prefetch { index: 2, .. })));
    }

    #[test]
    fn late_and_missed_are_told_apart() {
        let mut plan = plan(&[100, 100, 100]);
        let Some(Task::Prefetch { index: 0, .. }) = plan.next_task(100, 100) else { panic!() };
        plan.advance(0, 0);
        assert_eq!(
            plan.next_task(0, 100),
            Some(Task::Judge { range: Range { file: 0, offset: 0, length: 100 }, arrival: Arrival::Late })
        );
        plan.advance(2, 0);
        assert_eq!(arrivals(&run(&mut plan, 0)), [Arrival::Missed, Arrival::Missed]);
        // What comes after the reader is past it changes nothing.
        plan.came(0, 100, false);
    }

    #[test]
    fn a_reader_deep_in_a_range_is_not_served_what_he_has_read() {
        let mut plan = plan(&[1000]);
        plan.advance(0, 700);
        let Some(Task::Judge { .. }) = plan.next_task(200, 100) else { panic!() };
        let Some(Task::Prefetch { piece, .. }) = plan.next_task(200, 100) else { panic!() };
        assert_eq!((piece.offset, piece.length), (700, 100));
    }

    proptest! {
        /// Whatever the reader does: the bytes ahead are within budget and step, every range is judged once and passed once, and
        /// nothing is asked for twice.
        #[test]
        fn accounts_balance(
            lengths in prop::collection::vec(0u64..500, 1..30),
            moves in prop::collection::vec((0u64..35, 0u64..600), 0..30),
            budget in 0u64..1000,
        ) {
            let mut plan = plan(&lengths);
            let mut tasks = run(&mut plan, budget);
            for (index, offset) in moves {
                plan.advance(index, offset);
                tasks.extend(run(&mut plan, budget));
                prop_assert!(plan.ahead() <= budget);
                prop_assert_eq!(plan.ahead(), plan.entries.iter().map(|e| e.ahead).sum::<u64>());
            }
            plan.advance(u64::MAX, 0);
            tasks.extend(run(&mut plan, budget));
            prop_assert_eq!((plan.ahead(), plan.held()), (0, 0));
            prop_assert_eq!(arrivals(&tasks).len(), lengths.len());
            prop_assert_eq!(tasks.iter().filter(|t| matches!(t, Task::Passed { .. })).count(), lengths.len());
            for (file, length) in lengths.iter().enumerate() {
                let pieces = tasks.iter().filter_map(|t| match t {
                    Task::Prefetch { piece, .. } if piece.file == file as u64 => Some(piece.length),
                    _ => None,
                });
                prop_assert!(pieces.sum::<u64>() <= *length);
            }
        }
    }
}
