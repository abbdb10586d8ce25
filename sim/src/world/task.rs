// SPDX-License-Identifier: MIT OR Apache-2.0
//! One task: asks its program for the next operation and carries it out until it has to wait or has run ahead of the others.

use super::WorldError;
use crate::kernel::{Kernel, Probe, ReadCall, TouchCall};
use crate::spec::TaskSpec;
use crate::workload::{Fadvice, Madvice, Op, Program};
use keepahead_core::units::{Nanos, PAGE_BYTES};

/// Operations without any time between them after which a task is taken for one that never ends.
const SPIN: u32 = 1_000_000;

enum Doing {
    Nothing,
    Read(ReadCall, u64),
    Touch(TouchCall),
    /// `MADV_POPULATE_READ`: pages left to touch, of a mapping.
    Populate {
        map: usize,
        next: u64,
        last: u64,
    },
    Sleeping,
    Over,
}

pub(super) struct Task {
    pub name: String,
    pub clock: Nanos,
    pub probe: Probe,
    /// Bytes asked for and got, pages demanded; by disk of the first open file.
    pub work_bytes: u64,
    pub demanded: u64,
    pub finished: Option<Nanos>,
    /// The disk that its work is booked on: that of its first file.
    pub disk: Option<usize>,
    /// A phase that began in the last stretch.
    pub entered: Option<u32>,
    cgroup: u16,
    opens: Vec<usize>,
    /// Given to each file whenever it is opened.
    advice: Vec<Option<Fadvice>>,
    maps: Vec<usize>,
    doing: Doing,
    program: Box<dyn Program>,
}

impl Task {
    pub fn new(spec: TaskSpec, kernel: &mut Kernel) -> Result<Task, WorldError> {
        let cgroup = spec.cgroup as u16;
        let mut opens = Vec::new();
        for open in &spec.files {
            if open.file >= kernel.files.len() {
                return Err(WorldError::NoSuchFile { task: spec.name, file: open.file, files: kernel.files.len() });
            }
            let id = kernel.open(open.file as u32);
            if let Some(advice) = open.advice {
                kernel.fadvise(id, cgroup, spec.start, 0, 0, advice);
            }
            opens.push(id);
        }
        let mut maps = Vec::new();
        for map in &spec.maps {
            let handle =
                |count| WorldError::NoSuchHandle { task: spec.name.clone(), what: "file", index: map.open as u32, count };
            let open = *opens.get(map.open).ok_or_else(|| handle(opens.len()))?;
            let file_pages = kernel.files[kernel.opens[open].file as usize].pages();
            if map.pages == 0 || map.page.saturating_add(map.pages) > file_pages {
                return Err(WorldError::Mapping { task: spec.name, page: map.page, pages: map.pages, file_pages });
            }
            maps.push(kernel.map(open, map.page, map.pages, map.advice));
        }
        let disk = spec.files.first().map(|open| kernel.files[open.file].disk);
        Ok(Task {
            name: spec.name,
            clock: spec.start,
            probe: Probe::default(),
            work_bytes: 0,
            demanded: 0,
            finished: None,
            disk,
            entered: None,
            cgroup,
            opens,
            advice: spec.files.iter().map(|open| open.advice).collect(),
            maps,
            doing: Doing::Nothing,
            program: spec.program,
        })
    }

    /// Runs until the clock passes `horizon`, a page has to be waited for, a phase begins or the program ends; gives when to go on.
    pub fn run(&mut self, kernel: &mut Kernel, horizon: Nanos) -> Result<Option<Nanos>, WorldError> {
        let (mut still, mut last) = (0, self.clock);
        loop {
            if let Some(until) = self.go_on(kernel) {
                self.clock = self.clock.max(until);
                return Ok(Some(self.clock));
            }
            if matches!(self.doing, Doing::Over) {
                self.finished = Some(self.clock);
                return Ok(None);
            }
            if self.entered.is_some() || self.clock > horizon {
                return Ok(Some(self.clock));
            }
            still = if self.clock == last { still + 1 } else { 0 };
            last = self.clock;
            if still > SPIN {
                return Err(WorldError::Spins { task: self.name.clone(), ops: SPIN, at: self.clock.as_secs_f64() });
            }
            let op = self.program.next(self.clock);
            self.begin(kernel, op)?;
        }
    }

    /// Goes on with what is under way; `Some(when)` where it has to wait.
    #[inline]
    fn go_on(&mut self, kernel: &mut Kernel) -> Option<Nanos> {
        match &mut self.doing {
            Doing::Nothing | Doing::Over => None,
            Doing::Sleeping => {
                self.doing = Doing::Nothing;
                None
            }
            Doing::Read(call, bytes) => {
                let wait = kernel.read(call, &mut self.probe, &mut self.clock);
                if wait.is_none() {
                    self.work_bytes += *bytes;
                    self.demanded += bytes.div_ceil(PAGE_BYTES);
                    self.doing = Doing::Nothing;
                }
                wait
            }
            Doing::Touch(call) => {
                let wait = kernel.touch(call, &mut self.probe, &mut self.clock);
                if wait.is_none() {
                    self.work_bytes += PAGE_BYTES;
                    self.demanded += 1;
                    self.doing = Doing::Nothing;
                }
                wait
            }
            Doing::Populate { .. } => self.populate(kernel),
        }
    }

    fn populate(&mut self, kernel: &mut Kernel) -> Option<Nanos> {
        while let Doing::Populate { map, next, last } = self.doing {
            if next > last {
                self.doing = Doing::Nothing;
                break;
            }
            let mut call = TouchCall::new(kernel, map, self.cgroup, next);
            if let Some(until) = kernel.touch(&mut call, &mut self.probe, &mut self.clock) {
                return Some(until);
            }
            self.doing = Doing::Populate { map, next: next + 1, last };
        }
        None
    }

    #[inline]
    fn begin(&mut self, kernel: &mut Kernel, op: Op) -> Result<(), WorldError> {
        match op {
            Op::Read { file, offset, bytes } => {
                let open = self.open(file)?;
                let size = kernel.files[kernel.opens[open].file as usize].bytes;
                let got = bytes.min(size.saturating_sub(offset));
                self.doing = Doing::Read(ReadCall::new(open, self.cgroup, offset, bytes), got);
            }
            Op::Touch { map, page } => {
                let map = self.map(map)?;
                self.doing = Doing::Touch(TouchCall::new(kernel, map, self.cgroup, page));
            }
            Op::Think(span) => self.clock = self.clock + span,
            Op::Until(at) => self.clock = self.clock.max(at),
            Op::Phase(phase) => self.entered = Some(phase),
            Op::End => self.doing = Doing::Over,
            other => self.rare(kernel, other)?,
        }
        Ok(())
    }

    fn rare(&mut self, kernel: &mut Kernel, op: Op) -> Result<(), WorldError> {
        let (cgroup, now) = (self.cgroup, self.clock);
        let spent = match op {
            Op::Fadvise { file, offset, bytes, advice } => kernel.fadvise(self.open(file)?, cgroup, now, offset, bytes, advice),
            Op::Madvise { map, page, pages, advice: Madvice::PopulateRead } => {
                let map = self.map(map)?;
                let (first, last) = kernel.map_range(map, page, pages);
                let base = kernel.maps.all[map].first;
                self.doing = Doing::Populate { map, next: first - base, last: last - base };
                0
            }
            Op::Madvise { map, page, pages, advice } => kernel.madvise(self.map(map)?, cgroup, now, page, pages, advice),
            Op::Append { file, bytes } => kernel.write(self.open(file)?, cgroup, now, None, bytes),
            Op::Write { file, offset, bytes } => kernel.write(self.open(file)?, cgroup, now, Some(offset), bytes),
            Op::Reopen { file } => {
                let open = self.open(file)?;
                kernel.reopen(open);
                if let Some(advice) = self.advice[file as usize] {
                    kernel.fadvise(open, cgroup, now, 0, 0, advice);
                }
                0
            }
            Op::Sync { file } => {
                let open = self.open(file)?;
                let done = kernel.flush(kernel.opens[open].file, now);
                self.doing = Doing::Sleeping;
                done.since(now).0
            }
            _ => 0,
        };
        self.clock = self.clock + Nanos(spent);
        Ok(())
    }

    fn open(&self, file: u32) -> Result<usize, WorldError> {
        self.handle("file", &self.opens, file)
    }

    fn map(&self, map: u32) -> Result<usize, WorldError> {
        self.handle("mapping", &self.maps, map)
    }

    #[inline]
    fn handle(&self, what: &'static str, handles: &[usize], index: u32) -> Result<usize, WorldError> {
        let count = handles.len();
        handles.get(index as usize).copied().ok_or_else(|| WorldError::NoSuchHandle {
            task: self.name.clone(),
            what,
            index,
            count,
        })
    }
}
