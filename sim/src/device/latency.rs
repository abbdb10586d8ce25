// SPDX-License-Identifier: MIT OR Apache-2.0
//! Draws latencies: takes a [`Latency`] and random numbers, gives seconds.

use super::profile::Latency;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// A distribution, ready to be drawn from.
pub(super) enum Draw {
    Lognormal {
        fixed: f64,
        median: f64,
        sigma: f64,
    },
    /// `[probability, seconds]`, ascending, at least one.
    Quantiles(Vec<[f64; 2]>),
}

impl Draw {
    pub(super) fn new(latency: &Latency) -> Draw {
        if latency.quantiles.is_empty() {
            Draw::Lognormal { fixed: latency.fixed_us / 1e6, median: latency.median_us / 1e6, sigma: latency.sigma }
        } else {
            Draw::Quantiles(latency.quantiles.iter().map(|[p, us]| [*p, us / 1e6]).collect())
        }
    }

    pub(super) fn sample(&self, rng: &mut impl Rng) -> f64 {
        match self {
            Draw::Lognormal { fixed, sigma: 0.0, median } => fixed + median,
            Draw::Lognormal { fixed, median, sigma } => {
                let z: f64 = StandardNormal.sample(rng);
                fixed + median * (sigma * z).exp()
            }
            Draw::Quantiles(lines) => between(lines, rng.r#gen()),
        }
    }
}

/// The straight line between the two quantiles around `p`; the outermost ones hold beyond them.
fn between(lines: &[[f64; 2]], p: f64) -> f64 {
    let above = lines.partition_point(|[q, _]| *q < p);
    match (above.checked_sub(1).map(|i| lines[i]), lines.get(above)) {
        (Some([p0, s0]), Some([p1, s1])) => s0 + (s1 - s0) * (p - p0) / (p1 - p0),
        (Some([_, s]), None) => s,
        (None, Some([_, s])) => *s,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_joined_by_lines_and_hold_beyond_their_ends() {
        let lines = [[0.5, 100.0], [0.9, 200.0]];
        for (p, wanted) in [(0.0, 100.0), (0.5, 100.0), (0.7, 150.0), (0.9, 200.0), (1.0, 200.0)] {
            assert!((between(&lines, p) - wanted).abs() < 1e-9, "{p}");
        }
    }
}
