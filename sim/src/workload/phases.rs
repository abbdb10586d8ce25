// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workloads that change: takes programs and how long each runs, gives their operations one after the other, announcing each phase.
//! A program keeps its place while others run, and its clock stands still, so that open-loop arrivals do not pile up meanwhile.

use super::{Op, Program};
use keepahead_core::units::Nanos;

/// One phase.
pub struct Phase {
    /// Number in [`Spec::phases`](crate::spec::Spec::phases).
    pub number: u32,
    pub lasts: Nanos,
    pub program: Box<dyn Program>,
}

struct Running {
    phase: Phase,
    /// Time that passed while this program did not run.
    away: Nanos,
    left_at: Nanos,
    /// A sleep that the end of the phase cut short.
    held: Option<Op>,
}

pub struct Phases {
    phases: Vec<Running>,
    repeat: bool,
    current: usize,
    /// When the present phase ends; `None` before the first.
    ends: Option<Nanos>,
}

impl Phases {
    pub fn new(phases: Vec<Phase>, repeat: bool) -> Phases {
        let running = |phase| Running { phase, away: Nanos(0), left_at: Nanos(0), held: None };
        Phases { phases: phases.into_iter().map(running).collect(), repeat, current: 0, ends: None }
    }

    /// Begins a phase at `now`.
    fn enter(&mut self, index: usize, now: Nanos) -> Op {
        let running = &mut self.phases[index];
        running.away = running.away + now.since(running.left_at);
        self.current = index;
        self.ends = Some(now + running.phase.lasts);
        Op::Phase(running.phase.number)
    }
}

impl Program for Phases {
    fn next(&mut self, now: Nanos) -> Op {
        let Some(ends) = self.ends else {
            return if self.phases.is_empty() { Op::End } else { self.enter(0, now) };
        };
        if now >= ends {
            self.phases[self.current].left_at = now;
            let next = self.current + 1;
            return match next < self.phases.len() {
                true => self.enter(next, now),
                false if self.repeat => self.enter(0, now),
                false => Op::End,
            };
        }
        let running = &mut self.phases[self.current];
        let op = running.held.take().unwrap_or_else(|| running.phase.program.next(now.since(running.away)));
        match op {
            Op::Until(due) if due + running.away > ends => {
                running.held = Some(op);
                Op::Until(ends)
            }
            Op::Until(due) => Op::Until(due + running.away),
            // A program that is over early: the rest of its phase is quiet.
            Op::End => Op::Until(ends),
            other => other,
        }
    }
}
