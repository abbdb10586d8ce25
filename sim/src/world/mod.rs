// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual time: tasks run until they wait, the world does what it does at its times, keepahead ticks, and every second is written
//! down. The task that is furthest behind runs next, so disks see requests in order of time.

mod control;
mod ledger;
mod task;

use crate::kernel::Kernel;
use crate::report::Report;
use crate::spec::{Control, Happening, Spec};
use control::Driver;
use keepahead_core::units::{Kib, Nanos};
use ledger::Ledger;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use task::Task;

/// Dirty pages are sent to the disk this often (`dirty_writeback_centisecs`).
const FLUSH: Nanos = Nanos::from_secs(5);
const SECOND: Nanos = Nanos::from_secs(1);

/// Who looks on while a run goes on.
pub trait Watch: Sync {
    /// Asked once a virtual second: `true` ends the run with what is known so far.
    fn stop(&self) -> bool {
        false
    }
    /// Told once a virtual second.
    fn progress(&self, _now: Nanos) {}
}

/// Nobody.
impl Watch for () {}

/// Why a spec cannot run.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("task {task:?}: file {file} of {files}: a task opens files of the spec by their index, from 0")]
    NoSuchFile { task: String, file: usize, files: usize },
    #[error("task {task:?}: {what} {index} of {count}: an operation names what the task has opened or mapped, from 0")]
    NoSuchHandle { task: String, what: &'static str, index: u32, count: usize },
    #[error("task {task:?}: mapping of {pages} pages from page {page}: the file has {file_pages}")]
    Mapping { task: String, page: u64, pages: u64, file_pages: u64 },
    #[error("{name}: {value} where there are {count}: {what} are counted from 0")]
    Index { name: &'static str, value: usize, count: usize, what: &'static str },
    #[error("task {task:?} made {ops} operations that take no time, one after the other, at {at} s: it would never end")]
    Spins { task: String, ops: u32, at: f64 },
}

/// Runs a spec to its end. Equal specs and controls give equal reports.
pub fn run(spec: Spec, control: &Control, watch: &dyn Watch) -> Result<Report, WorldError> {
    World::new(spec, control)?.run(watch)
}

struct World<'a> {
    kernel: Kernel,
    tasks: Vec<Task>,
    /// (clock, task) of those that are not over.
    ready: BinaryHeap<Reverse<(Nanos, usize)>>,
    driver: Driver<'a>,
    ledger: Ledger,
    happenings: std::vec::IntoIter<(Nanos, Happening)>,
    next_happening: Option<(Nanos, Happening)>,
    next_second: Nanos,
    next_flush: Nanos,
    end: Nanos,
    name: String,
    seed: u64,
}

impl<'a> World<'a> {
    fn new(spec: Spec, control: &'a Control) -> Result<World<'a>, WorldError> {
        let mut kernel = Kernel::new(spec.kernel);
        kernel.memory.kind = spec.reclaim;
        for group in &spec.cgroups {
            kernel.memory.add_group(group.bytes);
        }
        let labels: Vec<String> = spec.disks.iter().map(|d| d.label.clone()).collect();
        for disk in spec.disks {
            let value = if let Control::Static(value) = control { *value } else { disk.read_ahead };
            kernel.add_disk(disk.disk, value, disk.filesystem);
        }
        for file in &spec.files {
            check("files", file.disk, labels.len(), "disks")?;
            kernel.add_file(file.disk, file.bytes);
        }
        let mut tasks = Vec::new();
        for task in spec.tasks {
            check("tasks", task.cgroup, spec.cgroups.len(), "cgroups")?;
            tasks.push(Task::new(task, &mut kernel)?);
        }
        let ready = tasks.iter().enumerate().map(|(i, t)| Reverse((t.clock, i))).collect();
        let mut happenings = spec.happenings;
        happenings.sort_by_key(|(at, _)| *at);
        for (_, happening) in &happenings {
            check_happening(happening, labels.len(), spec.cgroups.len())?;
        }
        let mut happenings = happenings.into_iter();
        let next_happening = happenings.next();
        kernel.wake = spec.wake.0;
        let driver = Driver::new(control, &labels, &kernel, spec.seed, spec.sensor_noise);
        let ledger = Ledger::new(labels, spec.phases, &kernel);
        Ok(World {
            kernel,
            tasks,
            ready,
            driver,
            ledger,
            happenings,
            next_happening,
            next_second: SECOND,
            next_flush: FLUSH,
            end: spec.end,
            name: spec.name,
            seed: spec.seed,
        })
    }

    fn run(mut self, watch: &dyn Watch) -> Result<Report, WorldError> {
        let mut now = Nanos(0);
        let mut partial = false;
        while let Some(&Reverse((at, index))) = self.ready.peek() {
            let timer = self.next_timer();
            if at >= timer {
                now = timer;
                if timer >= self.end {
                    break;
                }
                if self.on_timer(timer, watch) {
                    partial = true;
                    break;
                }
                continue;
            }
            self.ready.pop();
            let horizon = self.ready.peek().map_or(timer, |Reverse((other, _))| timer.min(*other));
            let again = self.tasks[index].run(&mut self.kernel, horizon)?;
            if let Some(phase) = self.tasks[index].entered.take() {
                let at = self.tasks[index].clock;
                self.ledger.phase(at, phase, &self.kernel, &self.tasks);
                self.driver.phase(at, phase, &mut self.kernel, &mut self.ledger);
            }
            match again {
                Some(when) => self.ready.push(Reverse((when, index))),
                None => now = now.max(self.tasks[index].clock),
            }
        }
        let end = now.min(self.end);
        let mut report = self.ledger.close(end, &self.kernel, &self.tasks);
        (report.scenario, report.seed, report.partial) = (self.name, self.seed, partial);
        self.driver.close(&mut report);
        Ok(report)
    }

    fn next_timer(&self) -> Nanos {
        let happening = self.next_happening.as_ref().map_or(self.end, |(at, _)| *at);
        self.end.min(happening).min(self.next_second).min(self.next_flush).min(self.driver.next_tick())
    }

    /// Everything that is due at `now`; whether the run is to stop.
    fn on_timer(&mut self, now: Nanos, watch: &dyn Watch) -> bool {
        while let Some((_, happening)) = self.next_happening.take_if(|(at, _)| *at <= now) {
            self.happen(now, happening);
            self.next_happening = self.happenings.next();
        }
        if self.next_flush <= now {
            self.kernel.flush_all(now);
            self.next_flush = self.next_flush + FLUSH;
        }
        if self.driver.next_tick() <= now {
            self.driver.tick(now, &mut self.kernel, &mut self.ledger);
        }
        if self.next_second <= now {
            self.ledger.second(now, &self.kernel, &self.tasks);
            self.next_second = self.next_second + SECOND;
            watch.progress(now);
            return watch.stop();
        }
        false
    }

    fn happen(&mut self, now: Nanos, happening: Happening) {
        match happening {
            Happening::AdminWrites { disk, value } => {
                self.set(now, disk, value, "admin");
                self.driver.admin_wrote(disk);
            }
            Happening::KernelRaises { disk, value, limits } => {
                self.set(now, disk, value, "kernel");
                self.driver.limits_changed(disk, limits);
            }
            Happening::MemoryLimit { cgroup, bytes } => self.kernel.limit_memory(cgroup, bytes, now),
            Happening::Degrade { disk, latency, slowdown } => self.kernel.disks[disk].disk.degrade(latency, slowdown),
            Happening::DropCaches => self.kernel.drop_caches(now),
            Happening::Sensor { disk, sees } => self.driver.sensor(disk, sees),
            Happening::MemoryPressure { percent } => self.driver.pressure(percent),
        }
    }

    fn set(&mut self, now: Nanos, disk: usize, value: Kib, by: &str) {
        self.kernel.set_read_ahead(disk, value, false);
        self.ledger.changed(now, disk, value, by);
    }
}

fn check(name: &'static str, value: usize, count: usize, what: &'static str) -> Result<(), WorldError> {
    if value < count { Ok(()) } else { Err(WorldError::Index { name, value, count, what }) }
}

fn check_happening(happening: &Happening, disks: usize, cgroups: usize) -> Result<(), WorldError> {
    match happening {
        Happening::AdminWrites { disk, .. }
        | Happening::KernelRaises { disk, .. }
        | Happening::Degrade { disk, .. }
        | Happening::Sensor { disk, .. } => check("happenings", *disk, disks, "disks"),
        Happening::MemoryLimit { cgroup, .. } => check("happenings", *cgroup, cgroups, "cgroups"),
        Happening::DropCaches | Happening::MemoryPressure { .. } => Ok(()),
    }
}
