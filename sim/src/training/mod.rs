// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the policies learn from: takes a seed and a number, gives worlds (workload × device × kernel × memory) and, run at every size
//! of the ladder, the rows of [`keepahead_policies::dataset`]; the same for recorded programs. Equal seeds give equal rows, whatever
//! the number of threads.

mod draw;
mod families;
mod observe;
mod program;
mod runs;
mod table;

pub use families::FAMILIES;
pub use observe::{Outcome, outcome};
pub use program::{Program, ProgramError, Programs};
pub use table::{DataError, SCHEMA_VERSION, read, word, write};

use crate::scenario::{Scenario, ScenarioError};
use crate::spec::Generation;
use crate::world::{Watch, WorldError};
use keepahead_core::event::Pattern;
use keepahead_policies::dataset::Row;
use rayon::prelude::*;

/// Sizes that every world is run at, KiB: what `read_ahead_kb` is set to on real machines, from one page up. Without 8, which lies between two
/// that are run, to save time, and without 16384, because the memory of few machines holds such windows.
pub const LADDER: [u32; 11] = [4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
/// Virtual seconds of a world's run, warm-up included.
pub const DURATION_S: u32 = 12;
/// Worlds of a data set: each family comes up fifty times. They take eight minutes of processor time.
pub const WORLDS: u32 = 800;

#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error("world {workload:?} is no scenario: {error}")]
    Scenario { workload: String, error: Box<ScenarioError> },
    #[error("world {workload:?} at {kib} KiB: {error}")]
    World { workload: String, kib: u32, error: WorldError },
}

/// One generated machine and what runs on it.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Number of the world; of its run in the rows.
    pub number: u32,
    /// Kind of program, finer than the family: whole workloads are left out in splits.
    pub workload: String,
    pub family: String,
    pub device: String,
    pub kernel: Generation,
    pub memory_mib: u32,
    /// What the program does, by construction.
    pub pattern: Pattern,
    pub scenario: Scenario,
}

/// The first `count` worlds of a seed: families come up in turn, all else is drawn.
///
/// # Errors
/// [`TrainingError::Scenario`]: a family drew what the scenario's checks refuse.
pub fn worlds(seed: u64, count: u32) -> Result<Vec<World>, TrainingError> {
    (0..count).map(|number| families::world(seed, number)).collect()
}

/// Runs all worlds at all sizes on all threads; rows in the order of the worlds and sizes. Worlds that ask for nothing, and those that
/// `watch` stopped, give no row.
///
/// # Errors
/// [`TrainingError::World`].
pub fn rows(worlds: &[World], watch: &dyn Watch) -> Result<Vec<Row>, TrainingError> {
    let runs: Vec<(usize, u32)> = (0..worlds.len()).flat_map(|world| LADDER.map(|kib| (world, kib))).collect();
    let outcomes = runs
        .into_par_iter()
        .map(|(index, kib)| if watch.stop() { Ok(None) } else { observe::world(&worlds[index], kib, watch) })
        .collect::<Result<Vec<Option<Outcome>>, TrainingError>>()?;
    let of_world = |(world, outcomes): (&World, &[Option<Outcome>])| observe::rows(&world.about(), outcomes);
    Ok(worlds.iter().zip(outcomes.chunks(LADDER.len())).flat_map(of_world).collect())
}

impl World {
    fn about(&self) -> observe::About {
        observe::About {
            workload: self.workload.clone(),
            family: self.family.clone(),
            device: self.device.clone(),
            kernel: self.kernel.name().into(),
            memory_mib: self.memory_mib,
            run: self.number,
            pattern: self.pattern,
        }
    }
}

#[cfg(test)]
mod tests;
