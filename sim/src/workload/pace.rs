// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a task asks: takes what it does (pieces of work) and how it is paced, gives its operations. Closed loop asks again as soon as
//! the last piece is done; open loop starts pieces at points in time, however long they take, so that a slow device builds a queue.

use super::distribution::{Distribution, random};
use super::{Op, Program};
use keepahead_core::units::Nanos;
use rand_xoshiro::Xoshiro256StarStar;
use serde::Deserialize;
use std::collections::VecDeque;

/// What a task does, piece by piece: a request, a lookup, a file.
pub trait Work: Send {
    /// Appends the operations of the next piece; none where the work is over.
    fn piece(&mut self, ops: &mut VecDeque<Op>);
}

/// When the next piece of work begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrival {
    /// When the last one is over.
    #[default]
    Closed,
    /// Every so many milliseconds.
    EveryMs(f64),
    /// At random, independent of each other, so many a second on average.
    PoissonPerS(f64),
}

/// A program from pieces of work.
pub struct Paced {
    work: Box<dyn Work>,
    arrival: Arrival,
    /// Computing after each operation that demands or writes data, microseconds.
    think_us: Distribution,
    due: Option<Nanos>,
    thinking: Option<Nanos>,
    ops: VecDeque<Op>,
    rng: Xoshiro256StarStar,
}

impl Paced {
    /// `think_us`: microseconds of computing after each operation that demands or writes data.
    pub fn new(work: Box<dyn Work>, arrival: Arrival, think_us: Distribution, seed: u64) -> Paced {
        let rng = random(seed, 0);
        Paced { work, arrival, think_us, due: None, thinking: None, ops: VecDeque::new(), rng }
    }

    /// Gap to the arrival after this one; `None` in a closed loop.
    fn gap(&mut self) -> Option<Nanos> {
        let ms = match self.arrival {
            Arrival::Closed => return None,
            Arrival::EveryMs(ms) => ms,
            Arrival::PoissonPerS(rate) => Distribution::Exponential(1000.0 / rate).sample(&mut self.rng),
        };
        Some(Nanos((ms * 1e6) as u64))
    }
}

impl Program for Paced {
    fn next(&mut self, now: Nanos) -> Op {
        if let Some(span) = self.thinking.take() {
            return Op::Think(span);
        }
        if self.ops.is_empty() {
            self.work.piece(&mut self.ops);
            if !self.ops.is_empty()
                && let Some(gap) = self.gap()
            {
                let due = self.due.map_or(now, |last| last + gap);
                self.due = Some(due);
                return Op::Until(due);
            }
        }
        let Some(op) = self.ops.pop_front() else { return Op::End };
        if matches!(op, Op::Read { .. } | Op::Touch { .. } | Op::Append { .. } | Op::Write { .. }) {
            let span = self.think_us.whole(1000.0, 0, &mut self.rng);
            self.thinking = (span > 0).then_some(Nanos(span));
        }
        op
    }
}

/// Nothing but sleep, 50 ms at a time.
pub struct Idle;

impl Work for Idle {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        ops.push_back(Op::Think(Nanos::from_millis(50)));
    }
}
