// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recorded programs: takes a trace's bytes and what is known of the program, gives rows as of a generated world. The machine is drawn
//! from the seed; of the program its accesses and their times are real.

use super::draw::{Machine, machine_with};
use super::observe::{self, About};
use super::{LADDER, Outcome};
use crate::scenario::{Scenario, ScenarioError};
use crate::spec::Spec;
use crate::trace::{Arrival, LOOK_AHEAD, ReadOptions, ReplayError, Streams, Survey, TraceError, TraceSpec, open};
use crate::workload::distribution::random;
use crate::world::WorldError;
use keepahead_core::event::Pattern;
use keepahead_policies::dataset::Row;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// What they are replayed on is like what they were recorded on: on a faster device an excerpt would be over before the agent's first
/// window is.
const DEVICE: &str = "recorded-volume";

/// One recorded program, an entry of `fixtures/traces/programs/programs.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: String,
    /// What it needs, made before it is recorded; a line for bash.
    #[serde(default)]
    pub prepare: String,
    /// What was run, a line for bash.
    pub command: String,
    /// So much of it was recorded.
    pub seconds: u64,
    /// What it does, in the policies' words.
    pub pattern: Pattern,
    /// Why.
    pub because: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("{program}: not a readable trace: {error}")]
    Trace { program: String, error: Box<TraceError> },
    #[error("{program}: cannot be replayed: {error}")]
    Replay { program: String, error: Box<ReplayError> },
    #[error("{program}: its machine is no scenario: {error}")]
    Machine { program: String, error: Box<ScenarioError> },
    #[error("{program} at {kib} KiB: {error}")]
    World { program: String, kib: u32, error: WorldError },
}

/// The list itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    pub program: Vec<Program>,
}

impl Program {
    /// Name of its trace, beside the list.
    pub fn file(&self) -> String {
        format!("{}.katrace", self.name)
    }

    /// The rows of this program, run number `run`, on a machine drawn from `seed`.
    ///
    /// # Errors
    /// Every [`ProgramError`].
    pub fn rows(&self, trace: &[u8], seed: u64, run: u32) -> Result<Vec<Row>, ProgramError> {
        let machine = machine_with(DEVICE, &mut random(seed, u64::from(run) + 1));
        let outcomes = LADDER
            .into_par_iter()
            .map(|kib| {
                let spec = self.spec(trace, &machine, seed)?;
                observe::outcome(spec, kib, 0.0, &()).map_err(|error| ProgramError::World {
                    program: self.name.clone(),
                    kib,
                    error,
                })
            })
            .collect::<Result<Vec<Option<Outcome>>, ProgramError>>()?;
        let about = About {
            workload: self.name.clone(),
            family: format!("program-{}", self.name),
            device: machine.device.into(),
            kernel: machine.kernel.name().into(),
            memory_mib: machine.memory_mib,
            run,
            pattern: self.pattern,
        };
        Ok(observe::rows(&about, &outcomes))
    }

    /// The replay on a machine: each process a task, each access at its recorded time or after the one before it, whichever is later. (The
    /// traces do not say how long accesses took, so how much of the time between two was computing is not known.)
    fn spec(&self, trace: &[u8], machine: &Machine, seed: u64) -> Result<Spec, ProgramError> {
        let program = || self.name.clone();
        let source = || {
            let bytes = Box::new(Cursor::new(trace.to_vec()));
            let opened = open(bytes, None, &ReadOptions::default());
            opened.map(|(_, source)| source).map_err(|error| ProgramError::Trace { program: program(), error: Box::new(error) })
        };
        let survey = Survey::of(&mut *source()?, Streams::PerProcess);
        let survey = survey.map_err(|error| ProgramError::Replay { program: program(), error: Box::new(error) })?;
        let empty = "[[task]]\nname = \"none\"\nprogram.idle = {}\n";
        let text =
            format!("name = \"{}\"\nshows = \"training\"\nduration_s = 1\nseed = {seed}\n{}{empty}", self.name, machine.text);
        let built = Scenario::parse(&text).and_then(|scenario| scenario.spec());
        let mut host = built.map_err(|error| ProgramError::Machine { program: program(), error: Box::new(error) })?;
        let spec = TraceSpec {
            name: self.name.clone(),
            seed,
            kernel: host.kernel,
            reclaim: host.reclaim,
            memory: host.cgroups[0].bytes,
            disk: host.disks.remove(0),
            arrival: Arrival::Open { speed: 1.0 },
            look_ahead: LOOK_AHEAD,
        };
        let made =
            spec.spec(&survey, source()?).map_err(|error| ProgramError::Replay { program: program(), error: Box::new(error) });
        made.map(|(spec, _)| Spec { sensor_noise: host.sensor_noise, ..spec })
    }
}
