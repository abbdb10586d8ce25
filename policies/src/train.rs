// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows and a seed in; a model, and how good it is on what it has not seen, out. The same rows and seed give the same bytes.
//!
//! Everything that says how good a model is comes from whole groups of rows that were left out, never from windows of a run that was
//! trained on: confidence, intervals and the number of clusters from runs, the form of the regression from families, the scores from
//! families, devices, kernels and runs.

use crate::classify::{Classifier, Method};
use crate::dataset::Row;
use crate::evaluate::{Scores, scores};
use crate::features::{COUNT, NAMES, VERSION};
use crate::learned::Learned;
use crate::model::{LINFA, Model};
use crate::predict::{Form, Predictor, log2_stall, steps};
use keepahead_core::event::Pattern;
use keepahead_core::units::Kib;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::collections::BTreeSet;
use std::hash::Hasher;

/// Folds of a split: groups are dealt out to them in the order of their names.
const FOLDS: usize = 5;
/// Up to so many groups are folds of their own where a split is scored.
const ONE_BY_ONE: usize = 24;
/// Numbers of clusters a pattern that are compared.
const CLUSTERS: [usize; 4] = [2, 4, 6, 10];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    #[error("{found} runs, at least {least} are needed: generate more with `keepahead train`")]
    TooFew { found: usize, least: usize },
    #[error("row {row} has {found} features, this keepahead has {COUNT}: generate the data set anew")]
    Features { row: usize, found: usize },
    #[error("row {row} has other window sizes than row 0, or not in ascending order: all rows need the same labels")]
    Sizes { row: usize },
    #[error("row {row} of workload `{workload}` holds a number that is not finite, or a stall below 0: generate it anew")]
    Number { row: usize, workload: String },
    #[error("the models do not fit: {0}; generate more, or more varied, rows")]
    Fit(String),
}

/// What was compared to choose the clusters: score per candidate, over left-out runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    pub method: Method,
    pub clusters: usize,
    /// Rows named rightly (unknown is not right), mean over folds, and its standard error.
    pub accuracy_percent: f64,
    pub error: f64,
    /// Mean −ln of the probability given to the true pattern, before calibration.
    pub log_loss: f64,
    /// Over all rows, for comparison only.
    pub bic: f64,
}

/// What was compared to choose the regression: over left-out families.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    pub form: Form,
    /// Root mean square error of log2 stall ratios.
    pub rmse: f64,
    /// Geometric mean of the stall at the size thought best over that at the best.
    pub chosen_to_best: f64,
    /// Standard error of its log2, over folds.
    pub error: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rows: usize,
    pub runs: usize,
    pub families: usize,
    pub devices: usize,
    pub kernels: usize,
    pub clusterings: Vec<Clustering>,
    pub regressions: Vec<Regression>,
    /// By family, device, kernel, run.
    pub splits: Vec<Scores>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    pub model: Model,
    pub metrics: Metrics,
}

/// What is chosen by comparison.
#[derive(Clone, Copy, Debug)]
struct Choice {
    method: Method,
    clusters: usize,
    form: Form,
    seed: u64,
}

/// Chooses the form of the predictor on left-out families and the clusters on left-out runs, fits them to all rows and scores them on each split.
pub fn train(rows: &[Row], seed: u64) -> Result<Trained, TrainError> {
    check(rows)?;
    let all: Vec<&Row> = rows.iter().collect();
    let folds = folds(&all, |r| r.family.clone());
    // Not by family: with one fold of them goes all that some pattern looks like, and no number of clusters helps.
    let clusterings = compare_clusterings(&all, &folds_of(&all, &run_name), seed);
    let (method, clusters) = fewest_as_good(&clusterings).ok_or_else(|| TrainError::Fit("no clustering converged".into()))?;
    let regressions = compare_regressions(&folds)?;
    let form = simplest_as_good(&regressions);
    let choice = Choice { method, clusters, form, seed };
    let model = fit(&all, choice, training_set(rows)?, FOLDS)?;
    let splits = [
        split("family", &all, choice, |r| r.family.clone())?,
        split("device", &all, choice, |r| r.device.clone())?,
        split("kernel", &all, choice, |r| r.kernel.clone())?,
        split("run", &all, choice, run_name)?,
    ];
    let distinct = |key: fn(&Row) -> &str| rows.iter().map(key).collect::<BTreeSet<_>>().len();
    let metrics = Metrics {
        rows: rows.len(),
        runs: rows.iter().map(|r| r.run).collect::<BTreeSet<_>>().len(),
        families: distinct(|r| &r.family),
        devices: distinct(|r| &r.device),
        kernels: distinct(|r| &r.kernel),
        clusterings,
        regressions,
        splits: splits.into_iter().flatten().collect(),
    };
    Ok(Trained { model, metrics })
}

fn check(rows: &[Row]) -> Result<(), TrainError> {
    let runs = rows.iter().map(|r| r.run).collect::<BTreeSet<_>>().len();
    if runs < 2 * FOLDS {
        return Err(TrainError::TooFew { found: runs, least: 2 * FOLDS });
    }
    let sizes = |r: &Row| r.labels.iter().map(|l| l.kib).collect::<Vec<_>>();
    let first = sizes(&rows[0]);
    for (i, row) in rows.iter().enumerate() {
        if row.features.len() != COUNT {
            return Err(TrainError::Features { row: i, found: row.features.len() });
        }
        if first.is_empty() || sizes(row) != first || !first.is_sorted_by(|a, b| a < b) {
            return Err(TrainError::Sizes { row: i });
        }
        let labels =
            row.labels.iter().flat_map(|l| [l.stall_ns_per_mib, l.pollution_mib_per_s, l.throughput_mib_per_s, l.hit_ratio]);
        if !row.features.iter().all(|x| x.is_finite()) || !labels.into_iter().all(|x| x.is_finite() && x >= 0.0) {
            return Err(TrainError::Number { row: i, workload: row.workload.clone() });
        }
    }
    Ok(())
}

fn training_set(rows: &[Row]) -> Result<String, TrainError> {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    for row in rows {
        hasher.write(&serde_json::to_vec(row).map_err(|e| TrainError::Fit(e.to_string()))?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// One model of all parts. Confidence and intervals come from the first `inner` folds of its own rows by run: they say how good it
/// is on what is like its rows. What is not like them is for the clusters' reach to say.
fn fit(rows: &[&Row], choice: Choice, training_set: String, inner: usize) -> Result<Model, TrainError> {
    let (mut scored, mut residuals) = (Vec::new(), Vec::new());
    let mut classifier = classifier(rows, choice)?;
    for (known, left_out) in folds_of(rows, &run_name).into_iter().take(inner) {
        let part = self::classifier(&known, choice)?;
        let predictor = Predictor::fit(&known, choice.form).map_err(TrainError::Fit)?;
        for row in left_out {
            let seen = part.classify(&row.features);
            scored.push((seen.score, seen.pattern.is_none_or(|p| p == row.pattern)));
            let cluster = classifier.classify(&row.features).cluster;
            residuals.extend(errors(&predictor, row).into_iter().map(|(steps, error)| (cluster, steps, error)));
        }
    }
    classifier.calibrate(scored);
    let mut predictor = Predictor::fit(rows, choice.form).map_err(TrainError::Fit)?;
    predictor.set_residuals(&residuals, classifier.clusters.len());
    Ok(Model {
        linfa: LINFA.into(),
        features_version: VERSION,
        feature_names: NAMES.map(String::from).to_vec(),
        training_set,
        seed: choice.seed,
        classifier,
        predictor,
    })
}

fn classifier(rows: &[&Row], choice: Choice) -> Result<Classifier, TrainError> {
    let pairs: Vec<(&[f64], Pattern)> = rows.iter().map(|r| (r.features.as_slice(), r.pattern)).collect();
    // Fewer, where so many do not converge on these rows.
    let attempts = [choice.clusters, choice.clusters * 3 / 4, choice.clusters / 2];
    let fitted = attempts.iter().find_map(|k| Classifier::fit(&pairs, choice.method, (*k).max(1), choice.seed));
    fitted.ok_or_else(|| TrainError::Fit(format!("{} clusters of {} rows do not converge", choice.clusters, rows.len())))
}

/// (doublings, true − predicted log2 ratio) of each size of a row.
fn errors(predictor: &Predictor, row: &Row) -> Vec<(usize, f64)> {
    let Some(here) = row.label(row.kib).map(log2_stall) else { return Vec::new() };
    let predicted = predictor.predict(&row.features, row.pattern, usize::MAX - 1, Kib(row.kib));
    let pairs = predicted.iter().zip(&row.labels).filter(|(p, _)| p.kib.0 != row.kib);
    pairs.map(|(p, l)| (steps(p.kib, Kib(row.kib)), log2_stall(l) - here - p.log2_ratio)).collect()
}

fn run_name(row: &Row) -> String {
    format!("{:08}", row.run)
}

type Fold<'a> = (Vec<&'a Row>, Vec<&'a Row>);

/// (known, left out) pairs: groups go as a whole. With one group only, its runs are the groups.
fn folds<'a>(rows: &[&'a Row], group: impl Fn(&Row) -> String) -> Vec<Fold<'a>> {
    let names: BTreeSet<String> = rows.iter().map(|r| group(r)).collect();
    if names.len() < 2 {
        return folds_of(rows, &run_name);
    }
    folds_of(rows, &group)
}

fn folds_of<'a>(rows: &[&'a Row], group: &dyn Fn(&Row) -> String) -> Vec<Fold<'a>> {
    dealt(rows, group, FOLDS)
}

fn dealt<'a>(rows: &[&'a Row], group: &dyn Fn(&Row) -> String, folds: usize) -> Vec<Fold<'a>> {
    let names: Vec<String> = rows.iter().map(|r| group(r)).collect::<BTreeSet<_>>().into_iter().collect();
    let fold_of = |row: &Row| names.binary_search(&group(row)).unwrap_or(0) % folds;
    let fold = |k: usize| rows.iter().copied().partition::<Vec<_>, _>(|r| fold_of(r) != k);
    (0..folds.min(names.len())).map(fold).filter(|(known, out)| !known.is_empty() && !out.is_empty()).collect()
}

/// Scores on whole groups left out; `None` where there is one group only.
fn split(name: &str, rows: &[&Row], choice: Choice, group: impl Fn(&Row) -> String) -> Result<Option<Scores>, TrainError> {
    let groups = rows.iter().map(|r| group(r)).collect::<BTreeSet<_>>().len();
    if groups < 2 {
        return Ok(None);
    }
    // Few groups are left out one by one: two families of one pattern in a fold would leave out the pattern.
    let folds = dealt(rows, &group, if groups <= ONE_BY_ONE { groups } else { FOLDS });
    let mut models = Vec::new();
    for (known, left_out) in folds {
        // Two folds give enough residuals, and a split costs half.
        models.push((Learned::new(fit(&known, choice, String::new(), 2)?), left_out));
    }
    let tested: Vec<(&Row, &Learned)> = models.iter().flat_map(|(m, out)| out.iter().map(move |r| (*r, m))).collect();
    Ok(Some(scores(name, &tested)))
}

fn compare_clusterings(rows: &[&Row], folds: &[Fold], seed: u64) -> Vec<Clustering> {
    let pairs =
        |rows: &[&'_ Row]| -> Vec<(Vec<f64>, Pattern)> { rows.iter().map(|r| (r.features.clone(), r.pattern)).collect() };
    let all = pairs(rows);
    let all: Vec<(&[f64], Pattern)> = all.iter().map(|(x, p)| (x.as_slice(), *p)).collect();
    let compare = |(method, clusters): (Method, usize)| {
        let (mut loss, mut shares) = (0.0, Vec::new());
        for (known, left_out) in folds {
            let known: Vec<(&[f64], Pattern)> = known.iter().map(|r| (r.features.as_slice(), r.pattern)).collect();
            let part = Classifier::fit(&known, method, clusters, seed)?;
            loss += left_out.iter().map(|r| -part.likelihood(&r.features, r.pattern).max(1e-3).ln()).sum::<f64>();
            let right = left_out.iter().filter(|r| part.classify(&r.features).pattern == Some(r.pattern)).count();
            shares.push(100.0 * right as f64 / left_out.len() as f64);
        }
        let n = shares.len() as f64;
        let accuracy_percent = shares.iter().sum::<f64>() / n;
        let spread = shares.iter().map(|s| (s - accuracy_percent).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let bic = Classifier::fit(&all, method, clusters, seed)?.bic(&all);
        let (error, log_loss) = ((spread / n).sqrt(), loss / rows.len() as f64);
        Some(Clustering { method, clusters, accuracy_percent, error, log_loss, bic })
    };
    let methods = [Method::KMeans, Method::GaussianMixture];
    methods.iter().flat_map(|m| CLUSTERS.map(|k| (*m, k))).filter_map(compare).collect()
}

/// The fewest clusters that are as right as the best within one standard error (Breiman and others 1984): fewer are easier to read.
fn fewest_as_good(all: &[Clustering]) -> Option<(Method, usize)> {
    let best = all.iter().max_by(|a, b| a.accuracy_percent.total_cmp(&b.accuracy_percent))?;
    let as_good = |c: &&Clustering| c.method == best.method && c.accuracy_percent >= best.accuracy_percent - best.error;
    all.iter().filter(as_good).min_by_key(|c| c.clusters).map(|c| (c.method, c.clusters))
}

/// The first, as the simplest come first, that chooses as well as the best within one standard error, like the clusters.
fn simplest_as_good(all: &[Regression]) -> Form {
    let best = all.iter().min_by(|a, b| a.chosen_to_best.total_cmp(&b.chosen_to_best));
    let as_good = |r: &&Regression| best.is_none_or(|b| r.chosen_to_best.log2() <= b.chosen_to_best.log2() + b.error);
    all.iter().find(as_good).map_or(Form::ElasticNet, |r| r.form)
}

/// The simplest form first.
fn compare_regressions(folds: &[Fold]) -> Result<Vec<Regression>, TrainError> {
    let compare = |form: Form| {
        let (mut squares, mut pairs, mut regrets) = (0.0, 0.0, Vec::new());
        for (known, left_out) in folds {
            let predictor = Predictor::fit(known, form).map_err(TrainError::Fit)?;
            for row in left_out {
                let own = errors(&predictor, row);
                squares += own.iter().map(|(_, e)| e * e).sum::<f64>();
                pairs += own.len() as f64;
            }
            let regret = left_out.iter().map(|row| chosen_to_best(&predictor, row)).sum::<f64>();
            regrets.push((regret, left_out.len().max(1) as f64));
        }
        let rows = regrets.iter().map(|(_, n)| n).sum::<f64>().max(1.0);
        let mean = regrets.iter().map(|(sum, _)| sum).sum::<f64>() / rows;
        // Of a ratio of sums (Cochran 1977): folds of whole families are not of one size.
        let folds = regrets.len() as f64;
        let spread = regrets.iter().map(|(sum, n)| (sum - mean * n).powi(2)).sum::<f64>() / (folds - 1.0).max(1.0);
        let error = (spread * folds).sqrt() / rows;
        Ok(Regression { form, rmse: (squares / f64::max(pairs, 1.0)).sqrt(), chosen_to_best: mean.exp2(), error })
    };
    [Form::ElasticNet, Form::ElasticNetByPattern, Form::Trees].into_iter().map(compare).collect()
}

fn chosen_to_best(predictor: &Predictor, row: &Row) -> f64 {
    let predicted = predictor.predict(&row.features, row.pattern, usize::MAX - 1, Kib(row.kib));
    let chosen = predicted.iter().zip(&row.labels).min_by(|a, b| a.0.log2_ratio.total_cmp(&b.0.log2_ratio));
    let least = row.labels.iter().map(log2_stall).fold(f64::INFINITY, f64::min);
    chosen.map_or(0.0, |(_, l)| log2_stall(l) - least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_to_win_by_more_than_the_error_of_the_best() {
        let regression = |form, chosen_to_best, error| Regression { form, rmse: 1.8, chosen_to_best, error };
        let all = |plain, by_pattern, trees| {
            [
                regression(Form::ElasticNet, plain, 0.3),
                regression(Form::ElasticNetByPattern, by_pattern, 0.3),
                regression(Form::Trees, trees, 0.05),
            ]
        };
        // 0.05 of log2 are 3.5 %.
        assert_eq!(simplest_as_good(&all(1.23, 1.22, 1.20)), Form::ElasticNet);
        assert_eq!(simplest_as_good(&all(1.25, 1.22, 1.20)), Form::ElasticNetByPattern);
        assert_eq!(simplest_as_good(&all(1.25, 1.26, 1.20)), Form::Trees);
        assert_eq!(simplest_as_good(&all(1.20, 1.25, 1.25)), Form::ElasticNet);
    }
}
