// SPDX-License-Identifier: MIT OR Apache-2.0
//! One policy in one line: takes a report, gives the figures of `docs/measures.md`, rounded by nobody.

use crate::report::Report;
use keepahead_core::event::{Outcome, What};
use keepahead_core::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};

/// What one control achieved. `None` where there was nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub control: String,
    /// Share of demanded pages that nobody waited for, 0 to 1; so the next three.
    pub hit_ratio: Option<f64>,
    pub accuracy: Option<f64>,
    pub coverage: Option<f64>,
    pub timeliness: Option<f64>,
    pub pollution_mib_per_s: f64,
    pub amplification: Option<f64>,
    /// Waiting per demanded page, µs.
    pub stall_us_per_page: Option<f64>,
    pub throughput_mib_per_s: f64,
    /// Changes of `read_ahead_kb` on all disks, those of trials included.
    pub changes: u32,
    pub kept: u32,
    pub reverted: u32,
    /// See [`settled`].
    pub settle_s: Option<f64>,
    /// `read_ahead_kb` at the end, of the disk that was read most.
    pub read_ahead_kib: u32,
    /// Short of the best static value in hindsight, percent of it; below 0: better. So against the per-phase oracle.
    pub regret_percent: Option<f64>,
    pub oracle_regret_percent: Option<f64>,
    /// Interrupted: figures known so far.
    pub partial: bool,
}

impl Row {
    /// A report's figures, without the regrets, which need other reports.
    pub fn of(report: &Report) -> Row {
        let total = report.total();
        let counters = &total.counters;
        Row {
            control: report.control.clone(),
            hit_ratio: counters.hit_ratio(),
            accuracy: counters.accuracy(),
            coverage: counters.coverage(),
            timeliness: counters.timeliness(),
            pollution_mib_per_s: total.pollution(),
            amplification: total.amplification(),
            stall_us_per_page: total.stall_per_page().map(|ns| ns / 1e3),
            throughput_mib_per_s: total.throughput() / f64::from(1 << 20),
            changes: report.disks.iter().map(|d| d.changes.len() as u32).sum(),
            kept: report.kept,
            reverted: report.reverted,
            settle_s: settled(report),
            read_ahead_kib: final_value(report).0,
            regret_percent: None,
            oracle_regret_percent: None,
            partial: report.partial,
        }
    }
}

/// Time to settle, seconds: of the last change that lasted. For keepahead that is the end of the last trial that was kept, or when a kept value last gave way, else the
/// last change of all; 0 where nothing ever changed.
///
/// It goes by the knob and not by throughput, because throughput follows the workload's phases too; trials that were turned down
/// cost something (regret shows it) but unsettle nothing.
pub fn settled(report: &Report) -> Option<f64> {
    if report.partial {
        return None;
    }
    let by_keepahead = |by: &str| matches!(by, "trial" | "revert" | "reapply");
    let changes = report.disks.iter().flat_map(|d| &d.changes);
    let others = changes.filter(|c| !by_keepahead(&c.by)).map(|c| c.at);
    let kept = report.records.iter().filter_map(|record| match &record.what {
        What::TrialEnded { verdict, .. } if verdict.outcome == Outcome::Kept => Some(Nanos::as_secs_f64(record.at)),
        What::GaveWay { .. } => Some(Nanos::as_secs_f64(record.at)),
        _ => None,
    });
    Some(others.chain(kept).fold(0.0, f64::max))
}

fn final_value(report: &Report) -> Kib {
    let most = report.disks.iter().max_by_key(|d| d.figures.counters.demanded());
    most.map_or(Kib(0), |d| d.read_ahead)
}
