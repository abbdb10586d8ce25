// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what a scenario says about a task to the program that does it, files opened on the way.

use super::build::nanos;
use super::error::ScenarioError;
use super::opens::Opens;
use super::program::*;
use super::schema::TaskEntry;
use crate::workload::Program;
use crate::workload::distribution::Distribution;
use crate::workload::loader::{Epochs, Install, Weights};
use crate::workload::log::Log;
use crate::workload::pace::{Arrival, Idle, Paced, Work};
use crate::workload::phases::{Phase, Phases};
use crate::workload::place::Access;
use crate::workload::random::{Random, Runs};
use crate::workload::rocksdb::{Database, DbShape};
use crate::workload::scan::{Scan, ScanShape};
use crate::workload::streams::Streams;
use rand::RngCore;
use rand_xoshiro::Xoshiro256StarStar;

const KIB: u64 = 1024;

/// What building a task's program adds to.
pub struct Built<'a, 'b> {
    pub opens: &'a mut Opens<'b>,
    /// Names of all phases so far.
    pub phases: &'a mut Vec<String>,
    pub rng: &'a mut Xoshiro256StarStar,
}

impl ProgramSpec {
    /// Whether anything is got at through a mapping.
    pub fn maps(&self) -> bool {
        let access = match self {
            ProgramSpec::Idle {} | ProgramSpec::Install(_) | ProgramSpec::Log(_) => Access::Read,
            ProgramSpec::Sequential(s) | ProgramSpec::Reverse(s) => s.access,
            ProgramSpec::Strided(s) => s.access,
            ProgramSpec::Random(s) => s.access,
            ProgramSpec::Runs(s) => s.access,
            ProgramSpec::Streams(s) => s.access,
            ProgramSpec::Rocksdb(s) => s.access,
            ProgramSpec::Epochs(s) => s.access,
            ProgramSpec::Weights(s) => s.access,
            ProgramSpec::Phases(s) => return s.of.iter().any(|p| p.program.maps()),
        };
        access == Access::Mmap
    }
}

pub fn task(built: &mut Built<'_, '_>, entry: &TaskEntry) -> Result<Box<dyn Program>, ScenarioError> {
    let ProgramSpec::Phases(spec) = &entry.program else {
        return paced(built, &entry.program, entry.arrival, &entry.think_us);
    };
    let mut phases = Vec::new();
    for phase in &spec.of {
        // Copies of a task go through the same phases: a name is one phase, however many tasks announce it.
        let known = built.phases.iter().position(|name| *name == phase.name);
        let number = known.unwrap_or_else(|| {
            built.phases.push(phase.name.clone());
            built.phases.len() - 1
        });
        let program = paced(built, &phase.program, phase.arrival, &phase.think_us)?;
        phases.push(Phase { number: number as u32, lasts: nanos(phase.lasts_s), program });
    }
    Ok(Box::new(Phases::new(phases, spec.repeat)))
}

fn paced(
    built: &mut Built<'_, '_>,
    spec: &ProgramSpec,
    arrival: Arrival,
    think_us: &Distribution,
) -> Result<Box<dyn Program>, ScenarioError> {
    let seed = built.rng.next_u64();
    let work = work(built, spec, seed)?;
    Ok(Box::new(Paced::new(work, arrival, think_us.clone(), seed)))
}

fn work(built: &mut Built<'_, '_>, spec: &ProgramSpec, seed: u64) -> Result<Box<dyn Work>, ScenarioError> {
    let opens = &mut *built.opens;
    Ok(match spec {
        // Nested phases do not pass the checks.
        ProgramSpec::Idle {} | ProgramSpec::Phases(_) => Box::new(Idle),
        ProgramSpec::Sequential(s) => Box::new(Scan::new(opens.group(&s.files)?, scan(s, false))),
        ProgramSpec::Reverse(s) => Box::new(Scan::new(opens.group(&s.files)?, scan(s, true))),
        ProgramSpec::Strided(s) => {
            let (request, stride) = (s.request_kib * KIB, s.stride_kib * KIB);
            let shape = ScanShape { access: s.access, request, stride, start: 0, reverse: false, repeat: s.repeat };
            Box::new(Scan::new(opens.group(&s.files)?, shape))
        }
        ProgramSpec::Random(s) => Box::new(Random::new(opens.group(&s.files)?, s.access, s.request_kib * KIB, s.zipf, seed)),
        ProgramSpec::Runs(s) => {
            Box::new(Runs::new(opens.group(&s.files)?, s.access, s.request_kib * KIB, s.pages.clone(), seed))
        }
        ProgramSpec::Streams(s) => Box::new(streams(opens, s, seed)?),
        ProgramSpec::Rocksdb(s) => Box::new(database(opens, s, seed)?),
        ProgramSpec::Epochs(s) => Box::new(Epochs::new(opens.group(&s.files)?, s.access, s.request_kib * KIB, s.epochs, seed)),
        ProgramSpec::Weights(s) => {
            let files = opens.group(&s.files)?;
            Box::new(Weights::new(files, s.access, s.request_kib * KIB, &s.tensor_kib, s.repeat, seed))
        }
        ProgramSpec::Install(s) => {
            let (from, to) = (opens.group(&s.files)?, opens.group(&s.to)?);
            Box::new(Install::new(&from, &to, s.request_kib * KIB, s.sync_every as usize))
        }
        ProgramSpec::Log(s) => {
            let writer = opens.another(&s.files, 0)?;
            let reader = |lag: &u64| Ok((opens.another(&s.files, 0)?, lag * KIB));
            let readers = s.reader_lag_kib.iter().map(reader).collect::<Result<Vec<_>, ScenarioError>>()?;
            Box::new(Log::new(writer, s.record_kib.clone(), s.sync_every, readers, seed))
        }
    })
}

fn scan(s: &ScanSpec, reverse: bool) -> ScanShape {
    let request = s.request_kib * KIB;
    ScanShape { access: s.access, request, stride: request, start: s.start_kib * KIB, reverse, repeat: s.repeat }
}

fn streams(opens: &mut Opens<'_>, s: &StreamsSpec, seed: u64) -> Result<Streams, ScenarioError> {
    let count = opens.count(&s.files)?;
    let mut files = Vec::new();
    for i in 0..s.streams {
        let file = (i % count) as usize;
        files.push(match s.descriptors {
            Descriptors::Shared => opens.group(&s.files)?[file],
            Descriptors::Own => opens.another(&s.files, file)?,
        });
    }
    Ok(Streams::new(&files, count, s.access, s.request_kib * KIB, s.turns, s.burst, seed))
}

fn database(opens: &mut Opens<'_>, s: &RocksdbSpec, seed: u64) -> Result<Database, ScenarioError> {
    let log = match &s.log {
        Some(name) => Some(opens.another(name, 0)?),
        None => None,
    };
    let shape = DbShape {
        benchmark: s.benchmark,
        access: s.access,
        block: s.block_bytes,
        entry: s.entry_bytes,
        nexts: s.nexts,
        memtable: s.memtable_kib * KIB,
        compaction_tables: s.compaction_tables,
    };
    Ok(Database::new(opens.group(&s.files)?, log, shape, seed))
}
