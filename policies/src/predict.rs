// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vector and a pattern in, what every window size would do out: stall against the present size, hit ratio and pollution, with
//! an interval.
//!
//! What is learned is the form of the whole curve over log2 of the size (each point against the curve's mean), so the ratio of a
//! size to itself is 1 by construction, and one row says something of every pair of sizes.

use crate::curve::physical;
use crate::dataset::{Label, Row};
use crate::forest::Forest;
use crate::linear::Linear;
use keepahead_core::event::Pattern;
use keepahead_core::units::Kib;
use serde::{Deserialize, Serialize};

/// Stall that is nothing, ns a MiB: 1 % of the time that a MiB takes at 1 GiB/s. Keeps logarithms of "nobody waited" finite.
pub const NOTHING: f64 = 10_000.0;
/// Steps (doublings from the present size) that have an interval of their own; the last is for all further ones.
const STEPS: usize = 5;
/// A cluster with fewer residuals has the interval of all.
const ENOUGH: usize = 40;
/// The interval holds 8 of 10 rows that the model has not seen.
const TAIL: f64 = 0.1;

/// Which regression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One elastic net for all rows.
    ElasticNet,
    /// One elastic net a pattern.
    ElasticNetByPattern,
    /// Trees that ask "does more than this size pay?", with curves in their leaves.
    Trees,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Fitted {
    Linear { all: Linear, by_pattern: Vec<(Pattern, Linear)> },
    Trees(Forest),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predictor {
    /// Window sizes, KiB, ascending.
    pub sizes: Vec<u32>,
    fitted: Fitted,
    /// Of all rows, then of each cluster.
    residuals: Vec<[Tails; STEPS]>,
}

/// Quantiles of (true − predicted) log2 stall ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tails {
    pub low: f64,
    pub high: f64,
}

/// What one size would do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub kib: Kib,
    /// log2 of the stall per MiB over that at the present size: estimate and interval.
    pub log2_ratio: f64,
    pub low: f64,
    pub high: f64,
    pub hit_ratio: f64,
    /// MiB evicted unused per demanded MiB.
    pub pollution: f64,
}

impl Prediction {
    /// Stall over that at the present size.
    pub fn ratio(&self) -> f64 {
        self.log2_ratio.exp2()
    }
}

/// The learned outputs of one row: centred log2 stall, hit ratio, log2(1 + pollution), a value a size each.
pub(crate) fn targets(row: &Row) -> Vec<f64> {
    let stall: Vec<f64> = row.labels.iter().map(log2_stall).collect();
    let mean = stall.iter().sum::<f64>() / stall.len().max(1) as f64;
    let pollution = |l: &Label| (1.0 + l.pollution_mib_per_s / l.throughput_mib_per_s.max(1e-3)).log2();
    let hits = row.labels.iter().map(|l| l.hit_ratio);
    stall.iter().map(|s| s - mean).chain(hits).chain(row.labels.iter().map(pollution)).collect()
}

pub(crate) fn log2_stall(label: &Label) -> f64 {
    (label.stall_ns_per_mib + NOTHING).log2()
}

impl Predictor {
    /// `rows` are not empty and all have labels at the same sizes, ascending.
    pub fn fit(rows: &[&Row], form: Form) -> Result<Predictor, String> {
        let sizes = rows[0].labels.iter().map(|l| l.kib).collect();
        let fitted = match form {
            Form::Trees => Fitted::Trees(Forest::fit(rows)?),
            Form::ElasticNet => Fitted::Linear { all: Linear::fit(rows)?, by_pattern: Vec::new() },
            Form::ElasticNetByPattern => Fitted::Linear { all: Linear::fit(rows)?, by_pattern: by_pattern(rows)? },
        };
        Ok(Predictor { sizes, fitted, residuals: vec![[Tails::default(); STEPS]] })
    }

    /// The intervals, from `(cluster, steps, true − predicted)` of rows that the model has not seen.
    pub fn set_residuals(&mut self, residuals: &[(usize, usize, f64)], clusters: usize) {
        let tails = |cluster: Option<usize>, steps: usize| {
            let of = |r: &&(usize, usize, f64)| cluster.is_none_or(|c| r.0 == c) && r.1.clamp(1, STEPS) - 1 == steps;
            let mut own: Vec<f64> = residuals.iter().filter(of).map(|r| r.2).collect();
            let q = |own: &mut [f64], q| crate::scaler::rounded(crate::scaler::quantile(own, q));
            (own.len() >= ENOUGH || cluster.is_none()).then(|| Tails { low: q(&mut own, TAIL), high: q(&mut own, 1.0 - TAIL) })
        };
        let all: [Tails; STEPS] = std::array::from_fn(|s| tails(None, s).unwrap_or_default());
        let of = |c: usize| std::array::from_fn(|s| tails(Some(c), s).unwrap_or(all[s]));
        self.residuals = std::iter::once(all).chain((0..clusters).map(of)).collect();
    }

    /// Predictions for every size, ascending; empty for a vector of another length.
    pub fn predict(&self, x: &[f64], pattern: Pattern, cluster: usize, present: Kib) -> Vec<Prediction> {
        let n = self.sizes.len();
        let Some(out) = self.outputs(x, pattern).filter(|out| out.len() == 3 * n) else { return Vec::new() };
        let stall = physical(pattern, &out[..n]);
        let here = self.at(&stall, present);
        let tails = self.residuals.get(cluster + 1).or(self.residuals.first()).copied().unwrap_or_default();
        let one = |(i, kib): (usize, &u32)| {
            let (log2_ratio, steps) = (stall[i] - here, steps(present, Kib(*kib)));
            let tail = if steps == 0 { Tails::default() } else { tails[steps.min(STEPS) - 1] };
            Prediction {
                kib: Kib(*kib),
                log2_ratio,
                low: log2_ratio + tail.low.min(0.0),
                high: log2_ratio + tail.high.max(0.0),
                hit_ratio: out[n + i].clamp(0.0, 1.0),
                pollution: (out[2 * n + i].max(0.0).exp2() - 1.0).max(0.0),
            }
        };
        self.sizes.iter().enumerate().map(one).collect()
    }

    fn outputs(&self, x: &[f64], pattern: Pattern) -> Option<Vec<f64>> {
        match &self.fitted {
            Fitted::Linear { all, by_pattern } => {
                by_pattern.iter().find(|(p, _)| *p == pattern).map_or(all, |(_, own)| own).apply(x)
            }
            Fitted::Trees(forest) => forest.apply(x),
        }
    }

    /// The curve at a size between or beyond those that were learned.
    fn at(&self, curve: &[f64], size: Kib) -> f64 {
        let x = f64::from(size.0.max(1)).log2();
        let above = self.sizes.iter().position(|s| *s >= size.0);
        match above {
            Some(0) => curve[0],
            None => curve[curve.len() - 1],
            Some(i) => {
                let (a, b) = (f64::from(self.sizes[i - 1]).log2(), f64::from(self.sizes[i]).log2());
                curve[i - 1] + (curve[i] - curve[i - 1]) * (x - a) / (b - a)
            }
        }
    }

    /// Everything of the right length and finite.
    pub fn is_sound(&self) -> bool {
        let out = 3 * self.sizes.len();
        let fitted = match &self.fitted {
            Fitted::Linear { all, by_pattern } => all.is_sound(out) && by_pattern.iter().all(|(_, l)| l.is_sound(out)),
            Fitted::Trees(forest) => forest.is_sound(out),
        };
        let finite = self.residuals.iter().flatten().all(|t| t.low.is_finite() && t.high.is_finite());
        fitted && finite && self.sizes.first().is_some_and(|s| *s > 0) && self.sizes.is_sorted_by(|a, b| a < b)
    }
}

/// Doublings between two sizes.
pub(crate) fn steps(a: Kib, b: Kib) -> usize {
    (f64::from(a.0.max(1)).log2() - f64::from(b.0.max(1)).log2()).abs().round() as usize
}

/// Patterns with rows of at least this many runs get a model of their own.
const RUNS: usize = 12;

fn by_pattern(rows: &[&Row]) -> Result<Vec<(Pattern, Linear)>, String> {
    let mut patterns: Vec<Pattern> = rows.iter().map(|r| r.pattern).collect();
    patterns.sort();
    patterns.dedup();
    let mut fitted = Vec::new();
    for pattern in patterns {
        let own: Vec<&Row> = rows.iter().filter(|r| r.pattern == pattern).copied().collect();
        let runs: std::collections::BTreeSet<u32> = own.iter().map(|r| r.run).collect();
        if runs.len() >= RUNS {
            fitted.push((pattern, Linear::fit(&own)?));
        }
    }
    Ok(fitted)
}
