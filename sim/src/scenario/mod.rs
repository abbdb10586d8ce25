// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios: takes a TOML text (format: `docs/scenarios.md`), gives a run ready to start, or an error with line, column and the way out.
//!
//! Nothing is read from disk here: who has a file reads it and passes its text on.

mod build;
mod check;
mod error;
mod layout;
mod opens;
mod program;
mod programs;
mod schema;
mod settings;

pub use self::error::{Position, ScenarioError};
pub use self::program::{
    Descriptors, EpochsSpec, InstallSpec, LogSpec, PhaseEntry, PhasesSpec, ProgramSpec, RandomSpec, RocksdbSpec, RunsSpec,
    ScanSpec, StreamsSpec, StridedSpec, WeightsSpec,
};
pub use self::schema::{Band, Bands, CgroupEntry, DeviceEntry, FilesEntry, HappeningEntry, MACHINE, Scenario, TaskEntry, What};

use crate::spec::Spec;
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;

impl Scenario {
    /// Reads and checks a scenario.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|e| ScenarioError::form(text, &e))?;
        scenario.check().map_err(|e| e.located(text))?;
        Ok(scenario)
    }

    /// Refuses what cannot be: a cache smaller than two windows, an empty file, negative time, a task on files that are not there.
    pub fn check(&self) -> Result<(), ScenarioError> {
        check::check(self)
    }

    /// A run with fresh programs and disks: once for each policy, as running uses them up.
    pub fn spec(&self) -> Result<Spec, ScenarioError> {
        build::spec(self)
    }

    /// The static values to compare with, where the scenario names them.
    pub fn ladder(&self) -> Option<Vec<Kib>> {
        (!self.ladder_kib.is_empty()).then(|| self.ladder_kib.iter().copied().map(Kib).collect())
    }

    /// keepahead's settings in this scenario.
    pub fn settings(&self) -> Result<Settings, ScenarioError> {
        settings::merged(&self.settings)
    }
}
