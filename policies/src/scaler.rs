// SPDX-License-Identifier: MIT OR Apache-2.0
//! Vectors in, standardised vectors out: zero mean, unit deviation over the training rows. Distances and penalties mean nothing
//! between features of different spans without it.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// What was seen in training: a regression is not trusted to extrapolate.
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Scaler {
    /// A feature that never varies is left unscaled. `rows` are of one length.
    pub fn fit(rows: &[&[f64]]) -> Scaler {
        let (width, n) = (rows.first().map_or(0, |r| r.len()), rows.len().max(1) as f64);
        let column = |i: usize| rows.iter().map(move |r| r[i]);
        let mean: Vec<f64> = (0..width).map(|i| rounded(column(i).sum::<f64>() / n)).collect();
        let deviation = (0..width)
            .map(|i| (column(i).map(|x| (x - mean[i]).powi(2)).sum::<f64>() / n).sqrt())
            .map(|d| if d > 1e-6 { rounded(d) } else { 1.0 })
            .collect();
        let low = (0..width).map(|i| rounded(column(i).fold(f64::INFINITY, f64::min))).collect();
        let high = (0..width).map(|i| rounded(column(i).fold(f64::NEG_INFINITY, f64::max))).collect();
        Scaler { mean, deviation, low, high }
    }

    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Standardised, wherever it is: for distances.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        x.iter().zip(&self.mean).zip(&self.deviation).map(|((x, m), d)| (x - m) / d).collect()
    }

    /// Brought back to what training has seen, then standardised: for regressions.
    pub fn apply_clamped(&self, x: &[f64]) -> Vec<f64> {
        let inside: Vec<f64> = x.iter().zip(&self.low).zip(&self.high).map(|((x, l), h)| x.max(*l).min(*h)).collect();
        self.apply(&inside)
    }

    /// All of one length, finite and divisible by.
    pub fn is_sound(&self) -> bool {
        let all = [&self.mean, &self.deviation, &self.low, &self.high];
        all.iter().all(|v| v.len() == self.mean.len() && v.iter().all(|x| x.is_finite()))
            && self.deviation.iter().all(|d| *d > 0.0)
    }
}

/// Five significant digits: more than the labels have, a third of the text, and the same on every machine.
pub fn rounded(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let scale = 10f64.powi(4 - x.abs().log10().floor() as i32);
    let near = (x * scale).round() / scale;
    if near.is_finite() { near } else { x }
}

/// 0 of nothing.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0).max(0.0) * q).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn standardised_rows_have_no_mean_and_unit_deviation(column in proptest::collection::vec(-1e6..1e6f64, 3..50)) {
            let rows: Vec<[f64; 2]> = column.iter().map(|x| [*x, 7.0]).collect();
            let rows: Vec<&[f64]> = rows.iter().map(|r| r.as_slice()).collect();
            let scaler = Scaler::fit(&rows);
            let scaled: Vec<f64> = rows.iter().map(|r| scaler.apply(r)[0]).collect();
            let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
            prop_assert!(mean.abs() < 0.01 || scaler.deviation[0] < 1.0 + mean.abs() * 1e5, "{mean}");
            prop_assert_eq!(scaler.apply(rows[0])[1], 0.0);
            prop_assert!(scaler.is_sound());
        }

        #[test]
        fn rounding_keeps_five_digits(x in -1e12..1e12f64) {
            prop_assert!((rounded(x) - x).abs() <= 1e-4 * x.abs());
        }
    }

    #[test]
    fn beyond_what_was_seen_is_as_far_as_what_was_seen() {
        let scaler = Scaler::fit(&[&[0.0], &[10.0]]);
        assert_eq!(scaler.apply_clamped(&[1000.0]), scaler.apply(&[10.0]));
        assert!(scaler.apply(&[1000.0])[0] > 100.0);
    }
}
