// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes down what happened: each second, each phase, each change, and all of it at the end.

use super::task::Task;
use crate::kernel::Kernel;
use crate::report::{Change, DiskReport, Figures, PhaseReport, Report, Second, TaskReport};
use keepahead_core::units::{Kib, Nanos};

/// A disk's figures at a moment.
#[derive(Clone, Default)]
struct Mark {
    at: f64,
    figures: Figures,
}

pub(super) struct Ledger {
    labels: Vec<String>,
    phase_names: Vec<String>,
    disks: Vec<DiskReport>,
    last_second: Vec<Mark>,
    last_phase: Vec<Mark>,
    in_phase: Option<u32>,
}

impl Ledger {
    pub fn new(labels: Vec<String>, phase_names: Vec<String>, kernel: &Kernel) -> Ledger {
        let disks = labels
            .iter()
            .zip(&kernel.disks)
            .map(|(label, disk)| DiskReport {
                label: label.clone(),
                figures: Figures::default(),
                phases: Vec::new(),
                seconds: Vec::new(),
                changes: Vec::new(),
                read_ahead: disk.read_ahead,
            })
            .collect();
        let marks = vec![Mark::default(); labels.len()];
        Ledger { labels, phase_names, disks, last_second: marks.clone(), last_phase: marks, in_phase: None }
    }

    fn mark(&self, disk: usize, at: f64, kernel: &Kernel, tasks: &[Task]) -> Mark {
        let work_bytes = tasks.iter().filter(|t| t.disk == Some(disk)).map(|t| t.work_bytes).sum();
        Mark { at, figures: Figures { seconds: at, counters: kernel.disks[disk].truth(), work_bytes } }
    }

    pub fn second(&mut self, now: Nanos, kernel: &Kernel, tasks: &[Task]) {
        for disk in 0..self.labels.len() {
            let mark = self.mark(disk, now.as_secs_f64(), kernel, tasks);
            let figures = since(&mark, &self.last_second[disk]);
            let read_ahead = kernel.disks[disk].read_ahead;
            self.disks[disk].seconds.push(Second { at: mark.at, read_ahead, figures });
            self.last_second[disk] = mark;
        }
    }

    /// A phase begins: what was before it is closed. Not where another task has announced the same one.
    pub fn phase(&mut self, now: Nanos, phase: u32, kernel: &Kernel, tasks: &[Task]) {
        if self.in_phase == Some(phase) {
            return;
        }
        self.close_phase(now, kernel, tasks);
        self.in_phase = Some(phase);
    }

    fn close_phase(&mut self, now: Nanos, kernel: &Kernel, tasks: &[Task]) {
        for disk in 0..self.labels.len() {
            let mark = self.mark(disk, now.as_secs_f64(), kernel, tasks);
            if let Some(phase) = self.in_phase {
                let name = self.phase_names.get(phase as usize).cloned().unwrap_or_else(|| format!("phase {phase}"));
                let figures = since(&mark, &self.last_phase[disk]);
                self.disks[disk].phases.push(PhaseReport { name, from: self.last_phase[disk].at, figures });
            }
            self.last_phase[disk] = mark;
        }
    }

    pub fn changed(&mut self, now: Nanos, disk: usize, to: Kib, by: &str) {
        self.disks[disk].changes.push(Change { at: now.as_secs_f64(), to, by: by.into() });
    }

    pub fn close(mut self, now: Nanos, kernel: &Kernel, tasks: &[Task]) -> Report {
        self.close_phase(now, kernel, tasks);
        for disk in 0..self.labels.len() {
            self.disks[disk].figures = self.mark(disk, now.as_secs_f64(), kernel, tasks).figures;
            self.disks[disk].read_ahead = kernel.disks[disk].read_ahead;
        }
        let tasks = tasks
            .iter()
            .map(|t| TaskReport {
                name: t.name.clone(),
                work_bytes: t.work_bytes,
                stall_ns: t.probe.stall_ns,
                demanded: t.demanded,
                hits: t.demanded.saturating_sub(t.probe.waited),
                finished: t.finished.map(Nanos::as_secs_f64),
            })
            .collect();
        Report {
            scenario: String::new(),
            control: String::new(),
            seed: 0,
            seconds: now.as_secs_f64(),
            disks: self.disks,
            tasks,
            records: Vec::new(),
            kept: 0,
            reverted: 0,
            partial: false,
        }
    }
}

fn since(now: &Mark, before: &Mark) -> Figures {
    Figures {
        seconds: now.at - before.at,
        counters: now.figures.counters.since(&before.figures.counters),
        work_bytes: now.figures.work_bytes - before.figures.work_bytes,
    }
}
