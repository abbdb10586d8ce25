// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate that a policy passes: takes a [`Scenario`], runs it under every control, gives each band of its `[bands]` with the value
//! measured.
//!
//! Bands bound keepahead alone; default, static values and oracle are there to measure it against.

mod results;
mod worst;

pub use results::{LOSS_PERCENT, LOSS_RATIO, loses, table};
pub use worst::{STRETCH_S, worst_moment};

use crate::compare::{Comparison, Plan, Row, compare};
use crate::scenario::{Band, Scenario, ScenarioError};
use crate::spec::Control;
use crate::world::{self, WorldError};
use keepahead_policies::rules::Rules;

/// Why there is nothing to measure.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    World(#[from] WorldError),
}

/// One band and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// Key in `[bands]`.
    pub figure: &'static str,
    pub band: Band,
    /// NaN where there is no such figure: it holds in no band.
    pub value: f64,
}

impl Check {
    pub fn holds(&self) -> bool {
        self.band.holds(self.value)
    }
}

/// A scenario, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Without its reports, which are large.
    pub comparison: Comparison,
    /// See [`worst_moment`].
    pub worst_moment: Option<f64>,
    /// One for each band of the scenario.
    pub checks: Vec<Check>,
}

impl Outcome {
    pub fn default_row(&self) -> &Row {
        &self.comparison.rows[0]
    }

    pub fn keepahead(&self) -> &Row {
        // `compare` puts it last, and there is always a default before it.
        &self.comparison.rows[self.comparison.rows.len() - 1]
    }

    /// The per-phase oracle, where the scenario has phases.
    pub fn oracle(&self) -> Option<&Row> {
        self.comparison.rows.iter().find(|row| row.control == "per-phase oracle")
    }

    pub fn best_static(&self) -> Option<&Row> {
        let name = format!("static {}", self.comparison.best?);
        self.comparison.rows.iter().find(|row| row.control == name)
    }
}

/// Runs the scenario under the default, the static values of its ladder, the oracle and keepahead by its rules. Runs share the cores (rayon).
pub fn gate(scenario: &Scenario) -> Result<Outcome, GateError> {
    let plan = Plan::of(&scenario.spec()?, scenario.settings()?, scenario.ladder());
    let run = |control: &Control| -> Result<_, GateError> { Ok(world::run(scenario.spec()?, control, &())?) };
    let mut comparison = compare(run, &plan, &[&Rules], || false)?;
    let reports = std::mem::take(&mut comparison.reports);
    let worst_moment = worst_moment(comparison.criterion, &reports[reports.len() - 1], &reports[0]);
    let mut outcome = Outcome { comparison, worst_moment, checks: Vec::new() };
    outcome.checks = checks(scenario, &outcome);
    Ok(outcome)
}

fn checks(scenario: &Scenario, outcome: &Outcome) -> Vec<Check> {
    let (bands, row) = (&scenario.bands, outcome.keepahead());
    [
        ("regret_percent", bands.regret_percent, row.regret_percent),
        ("changes", bands.changes, Some(f64::from(row.changes))),
        ("settle_s", bands.settle_s, row.settle_s),
        ("worst_moment_ratio", bands.worst_moment_ratio, outcome.worst_moment),
        ("pollution_mib_per_s", bands.pollution_mib_per_s, Some(row.pollution_mib_per_s)),
    ]
    .into_iter()
    .filter_map(|(figure, band, value)| Some(Check { figure, band: band?, value: value.unwrap_or(f64::NAN) }))
    .collect()
}

#[cfg(test)]
mod tests;
