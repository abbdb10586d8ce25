// SPDX-License-Identifier: MIT OR Apache-2.0
//! What "best" means: takes the runs of a scenario, says by which figure they are told apart, gives scores and regrets.

use crate::report::{Figures, Report};
use serde::{Deserialize, Serialize};

/// Runs whose throughputs all lie this close together are not told apart by throughput.
const SAME_THROUGHPUT: f64 = 0.02;
/// What a cached page costs its reader anyway, ns (4 KiB copied out of the page cache: 0.5 to 1 µs). Added to stall, it keeps a
/// thousandth of a microsecond over nothing from being an infinite loss.
const CACHED_PAGE_NS: f64 = 1000.0;

/// The figure that ranks controls in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Bytes delivered a second: a closed loop asks for more as soon as it is served.
    Throughput,
    /// Stall per demanded page: where arrival is paced, every run delivers what was asked for, and only the waiting differs.
    Stall,
}

impl Criterion {
    /// Throughput, unless all runs deliver the same within 2 %.
    pub fn of<'a>(runs: impl Iterator<Item = &'a Report>) -> Criterion {
        let throughputs: Vec<f64> = runs.map(|r| r.total().throughput()).collect();
        let (least, most) =
            (throughputs.iter().copied().fold(f64::INFINITY, f64::min), throughputs.iter().copied().fold(0.0, f64::max));
        if least >= most * (1.0 - SAME_THROUGHPUT) { Criterion::Stall } else { Criterion::Throughput }
    }

    /// Higher is better; both are rates, so regrets of both are shares of a rate.
    pub fn score(self, figures: &Figures) -> f64 {
        match self {
            Criterion::Throughput => figures.throughput(),
            Criterion::Stall => 1e9 / (figures.stall_per_page().unwrap_or(0.0) + CACHED_PAGE_NS),
        }
    }

    /// How far `own` falls short of `best`, percent of `best`; below 0 where it is better.
    pub fn regret(self, own: &Figures, best: &Figures) -> f64 {
        let best = self.score(best);
        if best > 0.0 { (1.0 - self.score(own) / best) * 100.0 } else { 0.0 }
    }

    pub fn name(self) -> &'static str {
        match self {
            Criterion::Throughput => "throughput",
            Criterion::Stall => "stall per page",
        }
    }
}
