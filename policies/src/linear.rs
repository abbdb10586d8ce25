// SPDX-License-Identifier: MIT OR Apache-2.0
//! Multi-task elastic net (linfa): vectors and curves in, coefficients out. One penalty for a term over all sizes, so a feature
//! counts at every size or at none, and neighbours stay alike.

use crate::classify::cholesky;
use crate::dataset::Row;
use crate::features::COUNT;
use crate::predict::targets;
use crate::scaler::{Scaler, rounded};
use linfa::traits::Fit;
use linfa::{Dataset, ParamGuard};
use linfa_elasticnet::MultiTaskElasticNetParams;
use ndarray::{Array2, Axis, s};
use serde::{Deserialize, Serialize};

/// Chosen small: what guards against overfitting is the interval from left-out families, not shrinkage.
const PENALTY: f64 = 0.01;
const L1_RATIO: f64 = 0.2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    scaler: Scaler,
    intercept: Vec<f64>,
    /// Terms that count: index, then a coefficient an output.
    terms: Vec<(usize, Vec<f64>)>,
}

impl Linear {
    pub fn fit(rows: &[&Row]) -> Result<Linear, String> {
        let scaler = Scaler::fit(&rows.iter().map(|r| r.features.as_slice()).collect::<Vec<_>>());
        let x: Vec<Vec<f64>> = rows.iter().map(|r| terms(&scaler.apply_clamped(&r.features))).collect();
        let y: Vec<Vec<f64>> = rows.iter().map(|r| targets(r)).collect();
        let (width, outputs) = (x[0].len(), y[0].len());
        let mut x = Array2::from_shape_vec((rows.len(), width), x.concat()).map_err(|e| e.to_string())?;
        let y = Array2::from_shape_vec((rows.len(), outputs), y.concat()).map_err(|e| e.to_string())?;
        // linfa's intercept is the mean of the targets, which is right for centred terms only.
        let centre = x.mean_axis(Axis(0)).ok_or("no rows")?;
        x -= &centre;
        let y_mean = y.mean_axis(Axis(0)).ok_or("no rows")?;
        let (x, y) = condensed(&x, &(&y - &y_mean)).ok_or("the terms do not have a covariance")?;
        let mut weights = Array2::<f64>::zeros((width, outputs));
        // Stall, hit ratio and pollution have spans of their own: one net each.
        for part in 0..3 {
            let columns = s![.., part * outputs / 3..(part + 1) * outputs / 3];
            let data = Dataset::new(x.clone(), y.slice(columns).to_owned());
            let params = MultiTaskElasticNetParams::new().penalty(PENALTY).l1_ratio(L1_RATIO);
            let params = params.with_intercept(false).max_iterations(300).tolerance(1e-3);
            let model = params.check().map_err(|e| e.to_string())?.fit(&data).map_err(|e| e.to_string())?;
            weights.slice_mut(columns).assign(model.hyperplane());
        }
        let intercept = y_mean - centre.dot(&weights);
        let row = |(i, w): (usize, ndarray::ArrayView1<f64>)| (i, w.iter().map(|w| rounded(*w)).collect::<Vec<_>>());
        let terms = weights.rows().into_iter().enumerate().map(row).filter(|(_, w)| w.iter().any(|w| *w != 0.0)).collect();
        Ok(Linear { scaler, intercept: intercept.iter().map(|x| rounded(*x)).collect(), terms })
    }

    /// `None` for a vector of another length.
    pub fn apply(&self, x: &[f64]) -> Option<Vec<f64>> {
        let x = (x.len() == self.scaler.width()).then(|| terms(&self.scaler.apply_clamped(x)))?;
        let mut out = self.intercept.clone();
        for (i, weights) in &self.terms {
            for (out, w) in out.iter_mut().zip(weights) {
                *out += x[*i] * w;
            }
        }
        Some(out)
    }

    pub fn is_sound(&self, outputs: usize) -> bool {
        let finite = |w: &[f64]| w.len() == outputs && w.iter().all(|x| x.is_finite());
        self.scaler.is_sound()
            && self.scaler.width() == COUNT
            && finite(&self.intercept)
            && self.terms.iter().all(|(i, w)| *i < 2 * COUNT && finite(w))
    }
}

/// As many rows as there are terms, with the same covariances: all that an elastic net looks at. Thousands of rows cost it no more
/// than these.
fn condensed(x: &Array2<f64>, y: &Array2<f64>) -> Option<(Array2<f64>, Array2<f64>)> {
    let (n, width) = (x.nrows() as f64, x.ncols());
    let gram = x.t().dot(x) + Array2::<f64>::eye(width) * (1e-6 * n);
    let (factor, mut right) = (cholesky(&gram)?, x.t().dot(y));
    let lower = Array2::from_shape_fn((width, width), |(i, j)| if j <= i { factor[i * (i + 1) / 2 + j] } else { 0.0 });
    for i in 0..width {
        let done = lower.slice(s![i, ..i]).dot(&right.slice(s![..i, ..]));
        let row = (&right.row(i) - &done) / lower[[i, i]];
        right.row_mut(i).assign(&row);
    }
    // The penalty counts by rows.
    let scale = (width as f64 / n).sqrt();
    Some((lower.t().to_owned() * scale, right * scale))
}

/// Each feature, and what it is above its mean: curves have knees, so slopes differ on either side.
fn terms(x: &[f64]) -> Vec<f64> {
    x.iter().copied().chain(x.iter().map(|x| x.max(0.0))).collect()
}
