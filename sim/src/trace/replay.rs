// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace as a workload: takes a survey and the trace once more, gives a [`Spec`] with a task for every stream. Reads become reads,
//! mapped accesses one touch a page, writes overwrite; trims are left out. A file has its final size from the start.

use super::demux::{Demux, Next};
use super::survey::{ReplayError, SPAN_MAX, Stream, Streams, Survey};
use super::{Access, FileName, FileTable, Kind, OFFSET_MAX, Source};
use crate::spec::{CgroupSpec, DiskSpec, FileSpec, Generation, MapSpec, OpenSpec, Reclaim, Spec, TaskSpec};
use crate::workload::{Op, Program};
use keepahead_core::units::{Nanos, PAGE_BYTES};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A stream that is held asks again after so long, when the others are late: short against a disk's seek, long enough not to spin.
const ASK_AGAIN: Nanos = Nanos::from_millis(1);

/// When the accesses of a stream happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// At the recorded times divided by `speed`, counted from the first access; late where the one before is not done.
    Open { speed: f64 },
    /// Each after the one before is done. Between them the recorded think time, where the trace says how long accesses took;
    /// otherwise none.
    Closed,
}

/// How to replay a trace.
pub struct TraceSpec {
    pub name: String,
    pub seed: u64,
    pub kernel: Generation,
    pub reclaim: Reclaim,
    /// Page cache that fits, bytes.
    pub memory: u64,
    /// Holds all files of the trace.
    pub disk: DiskSpec,
    pub arrival: Arrival,
    /// Accesses held for streams that have not asked yet (56 bytes each); [`LOOK_AHEAD`] is a good number.
    pub look_ahead: usize,
}

/// 65,536 accesses, 3.5 MiB.
pub const LOOK_AHEAD: usize = 1 << 16;

/// A replay while it runs and after it.
#[derive(Clone)]
pub struct Replay(Arc<Mutex<Demux>>);

impl Replay {
    /// Accesses given to tasks.
    pub fn served(&self) -> u64 {
        lock(&self.0).served
    }
    /// How often a stream had to wait because the look-ahead was full. Above 0 in a closed loop, the slower streams set the pace.
    pub fn held(&self) -> u64 {
        lock(&self.0).held
    }
    /// Why the replay ended early: the trace is not the one that was surveyed, or could not be read again.
    pub fn fault(&self) -> Option<String> {
        lock(&self.0).fault.clone()
    }
}

impl TraceSpec {
    /// `source` is the trace of `survey`, opened anew.
    ///
    /// # Errors
    /// Every [`ReplayError`] but those of [`Survey::of`].
    pub fn spec(self, survey: &Survey, source: Box<dyn Source>) -> Result<(Spec, Replay), ReplayError> {
        self.check(survey)?;
        let files: Vec<FileSpec> = survey.files.values().map(|&bytes| FileSpec { disk: 0, bytes }).collect();
        let place: HashMap<u64, usize> = survey.files.keys().enumerate().map(|(i, &id)| (id, i)).collect();
        let names: Vec<String> = survey.streams.keys().map(|&key| stream_name(survey.by, key, source.files())).collect();
        let demux = Arc::new(Mutex::new(Demux::new(source, survey, self.look_ahead)));
        let mut tasks = Vec::with_capacity(survey.streams.len());
        for (number, (stream, name)) in survey.streams.values().zip(names).enumerate() {
            let (opens, maps, handles) = handles(stream, survey, &place);
            let program = TraceProgram {
                stream: number,
                demux: demux.clone(),
                arrival: self.arrival,
                origin: survey.first,
                handles,
                waiting: None,
                touching: None,
                before: None,
            };
            let start = program.due(stream.first).unwrap_or_default();
            tasks.push(TaskSpec { name, cgroup: 0, files: opens, maps, start, program: Box::new(program) });
        }
        let spec = Spec {
            name: self.name,
            seed: self.seed,
            kernel: self.kernel,
            reclaim: self.reclaim,
            cgroups: vec![CgroupSpec { name: "all".into(), bytes: self.memory }],
            disks: vec![self.disk],
            files,
            tasks,
            happenings: Vec::new(),
            end: Nanos(u64::MAX),
            sensor_noise: 0.0,
            wake: Nanos(crate::kernel::cpu::WAKE),
            phases: Vec::new(),
        };
        Ok((spec, Replay(demux)))
    }

    fn check(&self, survey: &Survey) -> Result<(), ReplayError> {
        let mut span = survey.last.since(survey.first);
        if let Arrival::Open { speed } = self.arrival {
            if !(speed > 0.0 && speed.is_finite()) {
                return Err(ReplayError::Speed { speed });
            }
            span = scaled(span, speed);
        }
        if span > SPAN_MAX {
            return Err(ReplayError::TooLong { seconds: span.0 / 1_000_000_000, limit: SPAN_MAX.0 / 1_000_000_000 });
        }
        let bytes: u128 = survey.files.values().map(|&b| u128::from(b.next_multiple_of(PAGE_BYTES))).sum();
        if bytes > u128::from(OFFSET_MAX) {
            return Err(ReplayError::TooLarge { bytes, limit: OFFSET_MAX });
        }
        let window = u64::from(self.disk.read_ahead.0) * 1024;
        if self.memory < window.max(PAGE_BYTES) {
            return Err(ReplayError::Memory { memory: self.memory, window });
        }
        if self.look_ahead == 0 {
            return Err(ReplayError::LookAhead { look_ahead: self.look_ahead });
        }
        Ok(())
    }
}

/// A task's number of an open file, of its mapping, and the file's size.
type Handle = (u32, Option<u32>, u64);

fn handles(
    stream: &Stream,
    survey: &Survey,
    place: &HashMap<u64, usize>,
) -> (Vec<OpenSpec>, Vec<MapSpec>, HashMap<u64, Handle>) {
    let (mut opens, mut maps, mut handles) = (Vec::new(), Vec::new(), HashMap::new());
    for (open, (id, uses)) in stream.files.iter().enumerate() {
        opens.push(OpenSpec { file: place[id], advice: None });
        let map = uses.mapped.then(|| {
            maps.push(MapSpec { open, page: 0, pages: survey.files[id].div_ceil(PAGE_BYTES), advice: None });
            maps.len() as u32 - 1
        });
        handles.insert(*id, (open as u32, map, survey.files[id]));
    }
    (opens, maps, handles)
}

fn stream_name(by: Streams, key: u64, files: &FileTable) -> String {
    match by {
        Streams::PerProcess => format!("process {key}"),
        Streams::PerFile => match files.get(key).map(|entry| &entry.name) {
            Some(FileName::Plain(name)) => name.clone(),
            Some(FileName::Hashed(hash)) => format!("file {hash:016x}"),
            Some(FileName::Unknown) | None => format!("file {key}"),
        },
    }
}

fn scaled(span: Nanos, speed: f64) -> Nanos {
    if speed == 1.0 { span } else { Nanos((span.0 as f64 / speed) as u64) }
}

fn lock(demux: &Mutex<Demux>) -> MutexGuard<'_, Demux> {
    // A panic elsewhere ends the run anyway; what is counted up to it is still true.
    demux.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream's accesses as operations.
struct TraceProgram {
    stream: usize,
    demux: Arc<Mutex<Demux>>,
    arrival: Arrival,
    origin: Nanos,
    handles: HashMap<u64, Handle>,
    /// Its time has been slept for, now it is done.
    waiting: Option<Access>,
    /// Mapping, next page, pages left.
    touching: Option<(u32, u64, u64)>,
    before: Option<Access>,
}

impl Program for TraceProgram {
    fn next(&mut self, now: Nanos) -> Op {
        if let Some((map, page, left)) = self.touching {
            self.touching = (left > 1).then_some((map, page + 1, left - 1));
            return Op::Touch { map, page };
        }
        if let Some(access) = self.waiting.take() {
            return self.op(access);
        }
        let next = lock(&self.demux).next(self.stream);
        match next {
            Next::End => Op::End,
            Next::Hold(newest) => Op::Until(self.due(newest).unwrap_or_default().max(now + ASK_AGAIN)),
            Next::Access(access) => {
                let wait = self.due(access.at).map(Op::Until).or_else(|| self.think(&access).map(Op::Think));
                self.before = Some(access);
                match wait {
                    Some(wait) => {
                        self.waiting = Some(access);
                        wait
                    }
                    None => self.op(access),
                }
            }
        }
    }
}

impl TraceProgram {
    /// When an access recorded at `at` is due; never, closed-loop.
    fn due(&self, at: Nanos) -> Option<Nanos> {
        match self.arrival {
            Arrival::Open { speed } => Some(scaled(at.since(self.origin), speed)),
            Arrival::Closed => None,
        }
    }

    /// Time between the end of the access before and this one, where the trace says.
    fn think(&self, access: &Access) -> Option<Nanos> {
        let before = self.before.as_ref()?;
        let think = access.at.since(before.at + before.took?);
        (think > Nanos(0)).then_some(think)
    }

    fn op(&mut self, access: Access) -> Op {
        let Access { offset, bytes, .. } = access;
        let handle = self.handles.get(&access.file).filter(|(_, _, size)| offset + u64::from(bytes) <= *size);
        let Some(&(file, map, _)) = handle else {
            let fault = "it has an access to a file, or beyond its end, that was not there when it was surveyed";
            lock(&self.demux).fault.get_or_insert_with(|| fault.into());
            return Op::End;
        };
        match (access.kind, map) {
            (Kind::Write, _) => Op::Write { file, offset, bytes: bytes.into() },
            (Kind::Mmap, Some(map)) => {
                let (first, last) = (offset / PAGE_BYTES, (offset + u64::from(bytes) - 1) / PAGE_BYTES);
                self.touching = (last > first).then_some((map, first + 1, last - first));
                Op::Touch { map, page: first }
            }
            (Kind::Read | Kind::Mmap | Kind::Trim, _) => Op::Read { file, offset, bytes: bytes.into() },
        }
    }
}
