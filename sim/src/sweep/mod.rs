// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many runs as one table: takes scenarios × kernels × seeds × controls, gives the runs there are, a shard's share of them, and a row
//! for each that came to its end.

pub(crate) mod columns;
mod table;

pub use columns::SweepRow;
pub use table::{Key, SCHEMA_VERSION, SweepError, merge, read, write};

use crate::compare::Row;
use crate::report::Report;
use crate::spec::Generation;
use keepahead_core::units::Kib;
use rayon::prelude::*;
use std::collections::HashSet;
use std::hash::Hasher as _;
use std::str::FromStr;
use twox_hash::XxHash64;

/// Figures depend on it, so it is part of a row's key.
pub const SIM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who sets the knob, by name; [`Control`](crate::spec::Control) without its borrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Default,
    Static(Kib),
    /// The rule policy, with the scenario's settings.
    Rules,
    /// The learned policy that ships, with them.
    Learned,
}

impl Who {
    /// As the report calls it.
    pub fn name(self) -> String {
        use keepahead_core::policy::Policy;
        match self {
            Who::Default => "default".into(),
            Who::Static(value) => format!("static {value}"),
            Who::Rules => keepahead_policies::rules::Rules.name().into(),
            Who::Learned => keepahead_policies::learned::NAME.into(),
        }
    }
}

/// A scenario as the sweep knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub hash: String,
    /// Kernels and seeds to run it with; they need not be the same for each.
    pub kernels: Vec<Generation>,
    pub seeds: Vec<u64>,
}

/// One run to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of its scenario.
    pub scenario: usize,
    pub kernel: Generation,
    pub seed: u64,
    pub who: Who,
}

/// Part `index` (from 1) of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard { index: 1, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = String;
    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err(format!("{text:?} is no part of a whole; write 1/16 to 16/16 for the parts of 16")),
        }
    }
}

/// XXH64 of a scenario or trace for keys, fed piece by piece; the same on every system and in every version.
#[derive(Default)]
pub struct Hasher(XxHash64);

impl Hasher {
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub fn finish(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}

/// Hash of a content (or its hash) and of what the command line changed in it.
pub fn hash(content: &[u8], overrides: &str) -> String {
    let mut hasher = Hasher::default();
    hasher.write(&(content.len() as u64).to_le_bytes());
    hasher.write(content);
    hasher.write(overrides.as_bytes());
    hasher.finish()
}

/// The shard's runs, in a fixed order; a shard takes every `count`-th, so that long scenarios spread.
pub fn cells(subjects: &[Subject], controls: &[Who], shard: Shard) -> Vec<Cell> {
    let all = subjects.iter().enumerate().flat_map(|(scenario, subject)| {
        subject.kernels.iter().flat_map(move |&kernel| {
            subject.seeds.iter().flat_map(move |&seed| controls.iter().map(move |&who| Cell { scenario, kernel, seed, who }))
        })
    });
    all.skip(shard.index - 1).step_by(shard.count).collect()
}

impl Cell {
    pub fn key(&self, subjects: &[Subject]) -> Key {
        Key {
            scenario_hash: subjects[self.scenario].hash.clone(),
            kernel: self.kernel.to_string(),
            control: self.who.name(),
            seed: self.seed,
            sim_version: SIM_VERSION.into(),
        }
    }
}

/// Those whose rows are not there yet: how a sweep that was interrupted goes on.
pub fn missing(cells: Vec<Cell>, subjects: &[Subject], rows: &[SweepRow]) -> Vec<Cell> {
    let present: HashSet<Key> = rows.iter().map(SweepRow::key).collect();
    cells.into_iter().filter(|cell| !present.contains(&cell.key(subjects))).collect()
}

/// Runs cells on all threads; rows in the order of the cells. `run` gives `None` for a run that was not begun. A partial run gives no
/// row: its figures would pass for the whole run's.
pub fn run<E: Send>(
    cells: &[Cell],
    subjects: &[Subject],
    run: impl Fn(&Cell) -> Result<Option<Report>, E> + Sync,
) -> Result<Vec<SweepRow>, E> {
    let row = |cell: &Cell| Ok(run(cell)?.filter(|report| !report.partial).map(|report| row(cell, subjects, &report)));
    let rows: Vec<Option<SweepRow>> = cells.par_iter().map(row).collect::<Result<_, E>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn row(cell: &Cell, subjects: &[Subject], report: &Report) -> SweepRow {
    let key = cell.key(subjects);
    let figures = Row::of(report);
    SweepRow {
        scenario: report.scenario.clone(),
        scenario_hash: key.scenario_hash,
        kernel: key.kernel,
        control: key.control,
        seed: key.seed,
        sim_version: key.sim_version,
        hit_ratio: figures.hit_ratio,
        accuracy: figures.accuracy,
        coverage: figures.coverage,
        timeliness: figures.timeliness,
        pollution_mib_per_s: Some(figures.pollution_mib_per_s),
        amplification: figures.amplification,
        stall_us_per_page: figures.stall_us_per_page,
        throughput_mib_per_s: Some(figures.throughput_mib_per_s),
        changes: u64::from(figures.changes),
        kept: u64::from(figures.kept),
        reverted: u64::from(figures.reverted),
        settle_s: figures.settle_s,
        read_ahead_kib: u64::from(figures.read_ahead_kib),
    }
}

#[cfg(test)]
mod tests;
