// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pure stages can be told: bounds, trials, guards. Defaults are the documented ones of `config/keepahead.toml`.

use crate::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};

/// Settings of the pure stages. All spans in nanoseconds; the agent's config speaks of ms and s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Who proposes. Here, because a journal is replayed under the policy that it was written under.
    #[serde(default)]
    pub policy: PolicyName,
    /// No value below this is ever written. At least 4 KiB: 0 makes every read a request of one page (135 times slower measured).
    pub floor: Kib,
    /// No value above this is ever written.
    pub ceiling: Kib,
    /// Largest factor between the present value and a candidate that is not proven by a trial.
    pub max_step: u32,
    /// Share of available memory that all active streams' windows together may take.
    pub memory_share: f64,
    /// Length of the sliding window that features are computed over, in slots of 1 s.
    pub window_slots: u32,
    /// Demanded pages a second below which a device counts as idle ([`is_idle`](crate::features::Features::is_idle)): no trial.
    pub min_demand_pages_per_s: f64,
    /// Share of the time that somebody waited for pages below which there is nothing to gain.
    pub min_stall_share: f64,
    pub trial: TrialSettings,
    /// First cool-down after a trial that was not kept; doubles with each further one in the same pattern.
    pub cool_down: Nanos,
    pub cool_down_max: Nanos,
    /// Trials a device may start in an hour.
    pub trials_per_hour: u32,
    /// Share of the time that may be spent on comparing a kept value with the one it replaced; 0: never.
    #[serde(default = "check_share")]
    pub check_share: f64,
    /// Memory pressure (PSI `some avg10`, percent) above which nothing is raised.
    pub memory_pressure_max: f64,
    /// File refaults a second above which no value is raised. (A scan that comes round again refaults every page: 262,144 at 1 GiB/s.)
    pub refaults_per_s_max: f64,
}

/// Which policy proposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    #[default]
    Rules,
    Learned,
}

/// Allowed error for a proven value, in allowed errors of a new one.
const PROVEN_ERROR: f64 = 4.0;

/// Of the washout and of the shortest block where the difference is plain: one and two ticks at the defaults, where it is two and four
/// otherwise.
const PLAIN_WASHOUT: f64 = 0.6;
const PLAIN_BLOCK: f64 = 0.5;
/// No block ends with less than this part of `block_pages`: two faults at the default.
const PLAIN_PAGES: u64 = 16;

/// How a trial compares the candidate with the present value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSettings {
    /// One-sided confidence of the verdict, over all looks of the sequential test together.
    pub confidence: f64,
    /// Start of each block that is not measured: the windows of the other arm are still in flight.
    pub washout: Nanos,
    /// Shortest and longest measured part of a block.
    pub block_min: Nanos,
    pub block_max: Nanos,
    /// Demanded pages (or 1/16 as many faults) that end a block once `block_min` is over.
    pub block_pages: u64,
    pub pairs_min: u32,
    pub pairs_max: u32,
    /// Stall per matched load, new over old, above which a block is clearly harmful.
    pub harm_ratio: f64,
    /// How much worse, at the stated confidence, stall may be and still count as "not worse" (ratio above 1).
    pub stall_margin: f64,
    /// How far, at the stated confidence, the hit ratio may fall and still count as "not worse" (points).
    pub hit_margin: f64,
    /// Smallest gain worth keeping: relative fall of stall.
    pub min_gain: f64,
    /// Speculative pages left unused, as a share of the device's reads, that a kept value may cause beyond the old value's.
    pub waste_budget: f64,
    /// Standard errors by which a value that looks no better, in two blocks and more, must be below harm of 10 %, or the trial ends. Not in the
    /// configuration.
    #[serde(skip, default = "harm_errors")]
    pub harm_errors: f64,
}

/// 99 %.
fn harm_errors() -> f64 {
    2.33
}

/// Also for journals from before there were checks.
fn check_share() -> f64 {
    0.01
}

impl TrialSettings {
    /// Four times the allowed error, and two pairs: for a value that an earlier trial has proven on this device for this pattern. Three
    /// tosses can show that it still is right, where five are needed for a new one: two seconds instead of three. And harm must be seen, where a new value
    /// gives way to harm that is not excluded: RocksDB, which began another process every few seconds, looked 6 % worse in two blocks of a value that had
    /// been proven to cut its stall to 0.56.
    pub fn of_proven(&self) -> TrialSettings {
        let confidence = (1.0 - PROVEN_ERROR * (1.0 - self.confidence)).min(self.confidence);
        TrialSettings { confidence: confidence.max(0.5), pairs_min: self.pairs_min.min(2), harm_errors: 0.0, ..self.clone() }
    }

    /// Shorter blocks, for a trial whose difference is plain: what is left to show is that the coin can be told, and that takes tosses, not
    /// long blocks. `times`: how many times the least plain difference it is, in the logarithm of stall; 1 and more. The spread of a block falls with the
    /// root of what was demanded in it, so a difference twice as large is told by a quarter of that.
    pub fn of_plain(&self, times: f64) -> TrialSettings {
        let part = |of: Nanos, share: f64| Nanos((of.0 as f64 * share) as u64);
        let pages = self.block_pages as f64 / times.max(1.0).powi(2);
        TrialSettings {
            washout: part(self.washout, PLAIN_WASHOUT),
            block_min: part(self.block_min, PLAIN_BLOCK),
            block_pages: (pages as u64).max(self.block_pages / PLAIN_PAGES),
            ..self.clone()
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            floor: Kib(4),
            ceiling: Kib(16384),
            max_step: 262_144,
            memory_share: 0.125,
            window_slots: 3,
            min_demand_pages_per_s: 25.0,
            min_stall_share: crate::matched::STALL_FLOOR,
            trial: TrialSettings::default(),
            cool_down: Nanos::from_secs(3),
            cool_down_max: Nanos::from_secs(900),
            trials_per_hour: 120,
            policy: PolicyName::Rules,
            check_share: check_share(),
            memory_pressure_max: 40.0,
            refaults_per_s_max: 1_000_000.0,
        }
    }
}

impl Default for TrialSettings {
    fn default() -> TrialSettings {
        TrialSettings {
            confidence: 0.95,
            washout: Nanos::from_millis(150),
            block_min: Nanos::from_millis(350),
            block_max: Nanos::from_millis(2000),
            block_pages: 512,
            pairs_min: 3,
            pairs_max: 12,
            harm_ratio: 2.0,
            stall_margin: 1.05,
            hit_margin: 0.05,
            min_gain: 0.05,
            waste_budget: 0.25,
            harm_errors: harm_errors(),
        }
    }
}
