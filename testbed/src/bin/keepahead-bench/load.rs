// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a row runs: one of the testbed's workloads, or one of db_bench's. Gives throughput over time.

use crate::db;
use keepahead_testbed::Testbed;
use keepahead_testbed::workload::{Kind, Running};
use std::path::Path;

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Own(Kind),
    Db(&'static str),
    /// Two kinds in turn.
    Phases([Kind; 2]),
}

/// Throughput of one interval of a phase that ended `at_s` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub phase: usize,
    pub at_s: f64,
    pub seconds: f64,
    pub amount: f64,
}

impl Load {
    pub fn name(self) -> String {
        match self {
            Load::Own(kind) => kind.to_string(),
            Load::Db(name) => format!("db_bench {name} mmap"),
            Load::Phases([a, b]) => format!("phases of {a} and {b}"),
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Load::Own(_) => "MB/s",
            Load::Phases(_) => "MB/s, geometric mean of the phases",
            Load::Db(_) => "ops/s",
        }
    }

    /// Runs for `seconds`, in the testbed's cgroup.
    pub fn run(self, testbed: &Testbed, file: &Path, seconds: f64, seed: u64) -> anyhow::Result<Vec<Rate>> {
        match self {
            Load::Db(name) => db::run(testbed, file, name, seconds, seed),
            Load::Own(kind) => own(testbed, file, &format!("{kind}:{seconds}"), seed),
            Load::Phases([a, b]) => own(testbed, file, &format!("{a}:{0},{b}:{0}", seconds / 2.0), seed),
        }
    }
}

/// The testbed's own workload, through `phases`.
pub fn own(testbed: &Testbed, file: &Path, phases: &str, seed: u64) -> anyhow::Result<Vec<Rate>> {
    let all = Running::start(testbed, file, phases, seed)?.finish()?;
    Ok(all.iter().map(|p| Rate { phase: p.phase, at_s: p.at_s, seconds: p.seconds, amount: p.bytes as f64 / 1e6 }).collect())
}

/// Mean throughput of the intervals that ended within `from..=to` seconds.
pub fn mean(rates: &[Rate], from: f64, to: f64) -> f64 {
    over(rates.iter().filter(|r| r.at_s > from && r.at_s <= to))
}

/// Mean throughput of a whole phase.
pub fn mean_of_phase(rates: &[Rate], phase: usize) -> f64 {
    over(rates.iter().filter(|r| r.phase == phase))
}

fn over<'a>(rates: impl Iterator<Item = &'a Rate>) -> f64 {
    let (amount, seconds) = rates.fold((0.0, 0.0), |(a, s), r| (a + r.amount, s + r.seconds));
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}
