// SPDX-License-Identifier: MIT OR Apache-2.0
//! What programs ask for in, the pattern with a calibrated confidence out, or "unknown".
//!
//! Clusters (k-means or a Gaussian mixture, linfa) are found among the rows of one pattern after the other (mixture discriminant
//! analysis: Hastie and Tibshirani, JRSS B 1996), then each is named by the pattern that most of the rows nearest to it had. Found
//! among all rows at once, they named 56 % of the rows of left-out runs rightly, so 73 %, all else alike. A vector far from every cluster is unknown: nothing was learned there. Deciding needs only centres
//! and spreads, so it runs in a few microseconds without linfa.

use crate::features::SHAPE;
use crate::scaler::{Scaler, quantile, rounded};
use keepahead_core::event::Pattern;
use linfa::traits::{Fit, Predict};
use linfa::{DatasetBase, ParamGuard};
use linfa_clustering::{GaussianMixtureModel, KMeans};
use ndarray::Array2;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Added to every variance (standardised): the windows of one run are alike, and a cluster that shrinks onto a run knows no other.
const SOFT: f64 = 0.1;
/// How far beyond the 99th percentile of its own rows a cluster still reaches (squared distance).
const REACH: f64 = 1.5;

/// Rows that clusters are found in; more, taken at even distances, make them no better and cost minutes.
const MOST: usize = 3000;

/// How clusters are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    KMeans,
    GaussianMixture,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The pattern that most rows had.
    pub pattern: Pattern,
    /// Share of each pattern among the rows, largest first.
    pub shares: Vec<(Pattern, f64)>,
    /// Share of all rows.
    weight: f64,
    mean: Vec<f64>,
    /// Lower triangle of the covariance's Cholesky factor, row by row; one number for a sphere.
    factor: Vec<f64>,
    /// Squared distance from which a vector is not of this cluster.
    reach: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    scaler: Scaler,
    pub clusters: Vec<Cluster>,
    /// Score up to which the share of right answers holds: histogram binning (Zadrozny and Elkan, ICML 2001) of rows that the
    /// clusters were not made from, made monotone.
    calibration: Vec<(f64, f64)>,
}

/// What a vector was taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// `None`: nothing like it was seen in training.
    pub pattern: Option<Pattern>,
    /// Share of right answers among rows of like score, 0 to 1; 0 for unknown.
    pub confidence: f64,
    /// The likeliest cluster.
    pub cluster: usize,
    /// Before calibration.
    pub score: f64,
}

impl Classifier {
    /// `rows`: whole vectors, of which the first [`SHAPE`] are used, with their patterns. `None` where the clusters do not converge.
    pub fn fit(rows: &[(&[f64], Pattern)], method: Method, per_pattern: usize, seed: u64) -> Option<Classifier> {
        let shapes: Vec<&[f64]> = rows.iter().map(|(x, _)| &x[..SHAPE]).collect();
        let scaler = Scaler::fit(&shapes);
        let mut clusters = Vec::new();
        for pattern in patterns(rows) {
            let own: Vec<Vec<f64>> =
                shapes.iter().zip(rows).filter(|(_, r)| r.1 == pattern).map(|(x, _)| scaler.apply(x)).collect();
            clusters.extend(found(&own, method, per_pattern, rows.len(), seed)?);
        }
        let mut model = Classifier { scaler, clusters, calibration: Vec::new() };
        model.name(rows);
        Some(model)
    }

    /// Names the clusters by their rows, and measures how far they reach. Clusters without rows go.
    fn name(&mut self, rows: &[(&[f64], Pattern)]) {
        let mut members: Vec<Vec<(Pattern, f64)>> = vec![Vec::new(); self.clusters.len()];
        for (x, pattern) in rows {
            let x = self.scaler.apply(&x[..SHAPE]);
            let of = argmax(&self.log_likelihoods(&x));
            members[of].push((*pattern, self.clusters[of].distance(&x)));
        }
        for (cluster, members) in self.clusters.iter_mut().zip(&members) {
            let mut distances: Vec<f64> = members.iter().map(|(_, d)| *d).collect();
            cluster.reach = rounded(REACH * quantile(&mut distances, 0.99).max(SHAPE as f64));
            let mut shares: Vec<(Pattern, f64)> = Vec::new();
            for (pattern, _) in members {
                match shares.iter_mut().find(|(p, _)| p == pattern) {
                    Some((_, n)) => *n += 1.0,
                    None => shares.push((*pattern, 1.0)),
                }
            }
            shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            cluster.shares = shares.iter().map(|(p, n)| (*p, rounded(n / members.len() as f64))).collect();
            cluster.pattern = shares.first().map_or(Pattern::Mixed, |(p, _)| *p);
        }
        self.clusters.retain(|c| !c.shares.is_empty());
    }

    /// Fits the calibration to `(score, right)` of rows that the clusters were not made from.
    pub fn calibrate(&mut self, mut scored: Vec<(f64, bool)>) {
        const BINS: usize = 25;
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = scored.len().div_ceil(BINS).max(1);
        let bins: Vec<(f64, f64, f64)> = scored
            .chunks(size)
            .map(|bin| {
                let right = bin.iter().filter(|(_, right)| *right).count() as f64;
                // One right and one wrong more: no bin is certain.
                (bin[bin.len() - 1].0, (right + 1.0) / (bin.len() as f64 + 2.0), bin.len() as f64)
            })
            .collect();
        let fitted = crate::curve::increasing(&bins.iter().map(|b| (b.1, b.2)).collect::<Vec<_>>());
        self.calibration = bins.iter().zip(fitted).map(|((score, ..), p)| (rounded(*score), rounded(p))).collect();
    }

    /// Only of what is asked for: it does not move with the knob.
    pub fn classify(&self, vector: &[f64]) -> Seen {
        let x = self.scaler.apply(&vector[..SHAPE.min(vector.len())]);
        if x.len() != SHAPE {
            return Seen { pattern: None, confidence: 0.0, cluster: 0, score: 0.0 };
        }
        let log = self.log_likelihoods(&x);
        let likely = self.likely(&log);
        let (pattern, score) = likely.into_iter().fold((Pattern::Mixed, 0.0), |best, p| if p.1 > best.1 { p } else { best });
        let known = self.clusters.iter().any(|c| c.distance(&x) <= c.reach);
        let confidence = if known { self.confidence(score) } else { 0.0 };
        Seen { pattern: known.then_some(pattern), confidence, cluster: argmax(&log), score }
    }

    /// Probability of one pattern, before calibration.
    pub(crate) fn likelihood(&self, vector: &[f64], pattern: Pattern) -> f64 {
        let likely = self.likely(&self.log_likelihoods(&self.scaler.apply(&vector[..SHAPE])));
        likely.iter().find(|(p, _)| *p == pattern).map_or(0.0, |(_, share)| *share)
    }

    /// Probability of each pattern: clusters by likelihood, patterns by their share of the cluster's rows.
    fn likely(&self, log: &[f64]) -> Vec<(Pattern, f64)> {
        let most = log.get(argmax(log)).copied().unwrap_or(0.0);
        let parts: Vec<f64> = log.iter().map(|l| (l - most).exp()).collect();
        let total: f64 = parts.iter().sum();
        let mut likely: Vec<(Pattern, f64)> = Vec::new();
        for (part, cluster) in parts.iter().zip(&self.clusters) {
            for (pattern, share) in &cluster.shares {
                match likely.iter_mut().find(|(p, _)| p == pattern) {
                    Some((_, n)) => *n += part * share / total,
                    None => likely.push((*pattern, part * share / total)),
                }
            }
        }
        likely
    }

    fn confidence(&self, score: f64) -> f64 {
        self.calibration.iter().find(|(upto, _)| score <= *upto).or(self.calibration.last()).map_or(score, |(_, p)| *p)
    }

    fn log_likelihoods(&self, x: &[f64]) -> Vec<f64> {
        self.clusters.iter().map(|c| c.weight.ln() - 0.5 * (c.distance(x) + c.log_volume())).collect()
    }

    /// Bayesian information criterion over `rows` (Schwarz 1978), lower is better: reported beside what the number was chosen by.
    pub fn bic(&self, rows: &[(&[f64], Pattern)]) -> f64 {
        let fit: f64 = rows
            .iter()
            .map(|(x, _)| {
                let log = self.log_likelihoods(&self.scaler.apply(&x[..SHAPE]));
                let most = log[argmax(&log)];
                let constant = 0.5 * SHAPE as f64 * std::f64::consts::TAU.ln();
                most + log.iter().map(|l| (l - most).exp()).sum::<f64>().ln() - constant
            })
            .sum();
        let free: usize = self.clusters.iter().map(|c| 1 + c.mean.len() + c.factor.len()).sum();
        (free as f64 - 1.0) * (rows.len() as f64).ln() - 2.0 * fit
    }

    /// Everything of the right length and finite.
    pub fn is_sound(&self) -> bool {
        let numbers = |c: &Cluster| c.mean.iter().chain(&c.factor).chain([&c.weight, &c.reach]).all(|x| x.is_finite());
        let shape = |c: &Cluster| {
            c.mean.len() == SHAPE && matches!(c.factor.len(), 1 | TRIANGLE) && c.factor_diagonal().all(|d| d > 0.0)
        };
        self.scaler.is_sound()
            && self.scaler.width() == SHAPE
            && !self.clusters.is_empty()
            && self.clusters.iter().all(|c| numbers(c) && shape(c) && c.weight > 0.0)
            && self.calibration.iter().all(|(s, p)| s.is_finite() && (0.0..=1.0).contains(p))
    }
}

/// Numbers in a lower triangle.
const TRIANGLE: usize = SHAPE * (SHAPE + 1) / 2;

impl Cluster {
    fn new(weight: f64, mean: Vec<f64>, factor: Vec<f64>) -> Cluster {
        let (mean, factor) = (mean.into_iter().map(rounded).collect(), factor.into_iter().map(rounded).collect());
        Cluster { pattern: Pattern::Mixed, shares: Vec::new(), weight: rounded(weight.max(1e-6)), mean, factor, reach: 0.0 }
    }

    fn factor_diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        let sphere = self.factor.len() == 1;
        (0..SHAPE).map(move |i| self.factor[if sphere { 0 } else { i * (i + 3) / 2 }])
    }

    /// Squared Mahalanobis distance, by forward substitution.
    fn distance(&self, x: &[f64]) -> f64 {
        let mut z = [0.0; SHAPE];
        for i in 0..SHAPE {
            let apart = x[i] - self.mean[i];
            z[i] = if self.factor.len() == 1 {
                apart / self.factor[0]
            } else {
                let row = &self.factor[i * (i + 1) / 2..][..=i];
                (apart - row[..i].iter().zip(&z).map(|(l, z)| l * z).sum::<f64>()) / row[i]
            };
        }
        z.iter().map(|z| z * z).sum()
    }

    fn log_volume(&self) -> f64 {
        2.0 * self.factor_diagonal().map(f64::ln).sum::<f64>()
    }
}

fn patterns(rows: &[(&[f64], Pattern)]) -> BTreeSet<Pattern> {
    rows.iter().map(|(_, pattern)| *pattern).collect()
}

/// Clusters of one pattern's rows, weighted by their share of `all`; fewer where the rows do not fill as many.
fn found(own: &[Vec<f64>], method: Method, most: usize, all: usize, seed: u64) -> Option<Vec<Cluster>> {
    let some: Vec<f64> = own.iter().step_by(own.len().div_ceil(MOST)).flatten().copied().collect();
    let x = Array2::from_shape_vec((some.len() / SHAPE, SHAPE), some).ok()?;
    let attempt = |k: usize| match method {
        Method::KMeans => spheres(&x, k, seed),
        Method::GaussianMixture => mixture(&x, k, seed),
    };
    let mut clusters = (1..=most.min(x.nrows())).rev().find_map(attempt)?;
    clusters.iter_mut().for_each(|c| c.weight = rounded(c.weight * own.len() as f64 / all as f64));
    Some(clusters)
}

fn spheres(x: &Array2<f64>, clusters: usize, seed: u64) -> Option<Vec<Cluster>> {
    let data = DatasetBase::from(x.clone());
    let params = KMeans::params_with_rng(clusters, Xoshiro256PlusPlus::seed_from_u64(seed)).n_runs(3).tolerance(1e-4);
    let model = params.check().ok()?.fit(&data).ok()?;
    let of = model.predict(x);
    let cluster = |(k, mean): (usize, ndarray::ArrayView1<f64>)| {
        let own: Vec<usize> = (0..x.nrows()).filter(|i| of[*i] == k).collect();
        let spread: f64 = own.iter().map(|i| x.row(*i).iter().zip(mean).map(|(a, b)| (a - b).powi(2)).sum::<f64>()).sum();
        let variance = spread / (own.len().max(1) * SHAPE) as f64 + SOFT;
        Cluster::new(own.len() as f64 / x.nrows() as f64, mean.to_vec(), vec![variance.sqrt()])
    };
    Some(model.centroids().rows().into_iter().enumerate().map(cluster).collect())
}

fn mixture(x: &Array2<f64>, clusters: usize, seed: u64) -> Option<Vec<Cluster>> {
    let data = DatasetBase::from(x.clone());
    let params = GaussianMixtureModel::params_with_rng(clusters, Xoshiro256PlusPlus::seed_from_u64(seed));
    let params = params.n_runs(1).tolerance(1e-3).max_n_iterations(300).reg_covariance(SOFT);
    let model = params.check().ok()?.fit(&data).ok()?;
    let cluster = |k: usize| {
        let covariance = model.covariances().index_axis(ndarray::Axis(0), k).to_owned();
        Some(Cluster::new(model.weights()[k], model.means().row(k).to_vec(), cholesky(&covariance)?))
    };
    (0..clusters).map(cluster).collect()
}

/// Lower triangle `L` of `a = L Lᵀ`, row by row; `None` where `a` is not positive definite.
pub(crate) fn cholesky(a: &Array2<f64>) -> Option<Vec<f64>> {
    let n = a.nrows();
    let mut l = vec![0.0; n * (n + 1) / 2];
    for i in 0..n {
        for j in 0..=i {
            let (ri, rj) = (i * (i + 1) / 2, j * (j + 1) / 2);
            let rest = a[[i, j]] - (0..j).map(|k| l[ri + k] * l[rj + k]).sum::<f64>();
            l[ri + j] = if i == j { (rest > 0.0).then(|| rest.sqrt())? } else { rest / l[rj + j] };
        }
    }
    Some(l)
}

fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}
