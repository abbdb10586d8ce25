// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows that a model has not seen in, how good its names and choices are out, beside the rules on the same rows.

use crate::dataset::Row;
use crate::features::restore;
use crate::forest::best;
use crate::learned::Learned;
use crate::predict::{NOTHING, log2_stall};
use crate::rules::Rules;
use keepahead_core::event::{Interval, Outcome, Pattern, Verdict};
use keepahead_core::known::Known;
use keepahead_core::policy::{Context, Decision, Policy, Tried};
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Trials after which a climb is judged.
const TRIALS: usize = 12;

/// One split's figures. Stall ratios are geometric means over runs of (stall + 10 µs/MiB).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// What was left out: whole `family`s, `device`s, `kernel`s or `run`s.
    pub left_out: String,
    pub rows: usize,
    pub runs: usize,
    /// Rows named rightly, of those not called unknown.
    pub accuracy_percent: f64,
    pub unknown_percent: f64,
    /// Rows whose pattern the rules name rightly.
    pub rules_accuracy_percent: f64,
    pub calibration: Vec<Bin>,
    /// Stall at the size that the model thinks best, from one look, over that at the truly best size.
    pub chosen_to_best: f64,
    pub learned: Climb,
    pub rules: Climb,
    /// Where it wins and loses.
    pub families: Vec<Family>,
}

/// One family's runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Family {
    pub family: String,
    pub runs: usize,
    /// Rows named rightly; unknown is not right.
    pub accuracy_percent: f64,
    /// End of the climb over the best: learned, rules.
    pub learned: f64,
    pub rules: f64,
}

/// Rows whose confidence fell into a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    pub confidence: f64,
    pub right: f64,
    pub rows: usize,
}

/// Where a policy ends that starts from the kernel's default and whose trials show the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    pub end_to_best: f64,
    pub worst_to_default: f64,
    /// Trials a run, and of those the ones that kept their value.
    pub trials: f64,
    pub kept: f64,
    /// Worst stall that a trial meant while it ran, over the present value's.
    pub worst_trial: f64,
}

/// `tested`: rows and the model that has not seen them.
pub fn scores(left_out: &str, tested: &[(&Row, &Learned)]) -> Scores {
    let mut calibration = [Bin::default(); 10];
    let (mut right, mut unknown, mut rules_right, mut chosen) = (0.0, 0.0, 0.0, 0.0);
    let settings = Settings::default();
    for (row, learned) in tested {
        let seen = learned.model().classifier.classify(&row.features);
        let hit = f64::from(u8::from(seen.pattern == Some(row.pattern)));
        right += hit;
        unknown += f64::from(u8::from(seen.pattern.is_none()));
        if seen.pattern.is_some() {
            let bin = &mut calibration[((seen.confidence * 10.0) as usize).min(9)];
            (bin.confidence, bin.right, bin.rows) = (bin.confidence + seen.confidence, bin.right + hit, bin.rows + 1);
        }
        let named = restore(&row.features).map(|f| crate::rules::classify(&f, settings.min_demand_pages_per_s));
        rules_right += f64::from(u8::from(named == Some(row.pattern)));
        chosen += regret(row, learned);
    }
    let n = tested.len().max(1) as f64;
    let filled = calibration.iter().filter(|b| b.rows > 0);
    let mean = |b: &Bin| Bin { confidence: b.confidence / b.rows as f64, right: b.right / b.rows as f64, rows: b.rows };
    let runs = by_run(tested);
    Scores {
        left_out: left_out.into(),
        rows: tested.len(),
        runs: runs.len(),
        accuracy_percent: 100.0 * right / (n - unknown).max(1.0),
        unknown_percent: 100.0 * unknown / n,
        rules_accuracy_percent: 100.0 * rules_right / n,
        calibration: filled.map(mean).collect(),
        chosen_to_best: (chosen / n).exp2(),
        learned: climb(&runs, true),
        rules: climb(&runs, false),
        families: families(tested, runs),
    }
}

fn families(tested: &[(&Row, &Learned)], runs: Vec<Run>) -> Vec<Family> {
    let mut of: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for run in runs {
        if let Some(row) = run.1.values().next() {
            of.entry(&row.family).or_default().push(run);
        }
    }
    let one = |(name, runs): (&str, Vec<Run>)| {
        let own = || tested.iter().filter(|(row, _)| row.family == name);
        let right = own().filter(|(r, l)| l.model().classifier.classify(&r.features).pattern == Some(r.pattern)).count();
        Family {
            family: name.into(),
            runs: runs.len(),
            accuracy_percent: 100.0 * right as f64 / own().count().max(1) as f64,
            learned: climb(&runs, true).end_to_best,
            rules: climb(&runs, false).end_to_best,
        }
    };
    of.into_iter().map(one).collect()
}

/// log2 of the stall at the size with the lowest predicted stall over that at the best size.
fn regret(row: &Row, learned: &Learned) -> f64 {
    let (model, least) = (learned.model(), log2_stall(&row.labels[best(row)]));
    let seen = model.classifier.classify(&row.features);
    let pattern = seen.pattern.unwrap_or(Pattern::Mixed);
    let predictions = model.predictor.predict(&row.features, pattern, seen.cluster, Kib(row.kib));
    let chosen = predictions.iter().min_by(|a, b| a.log2_ratio.total_cmp(&b.log2_ratio));
    chosen.and_then(|p| row.label(p.kib.0)).map_or(0.0, |l| log2_stall(l) - least)
}

type Run<'a> = (&'a Learned, BTreeMap<u32, &'a Row>);

fn by_run<'a>(tested: &[(&'a Row, &'a Learned)]) -> Vec<Run<'a>> {
    let mut runs: BTreeMap<u32, Run> = BTreeMap::new();
    for (row, learned) in tested {
        runs.entry(row.run).or_insert((learned, BTreeMap::new())).1.entry(row.kib).or_insert(row);
    }
    runs.into_values().collect()
}

fn climb(runs: &[Run], use_learned: bool) -> Climb {
    let (mut sum, n) = (Climb::default(), runs.len().max(1) as f64);
    for (learned, rows) in runs {
        let policy: &dyn Policy = if use_learned { *learned } else { &Rules };
        let end = one_climb(policy, rows);
        sum.end_to_best += end.end_to_best.log2() / n;
        sum.worst_to_default = sum.worst_to_default.max(end.worst_to_default);
        sum.worst_trial = sum.worst_trial.max(end.worst_trial);
        (sum.trials, sum.kept) = (sum.trials + end.trials / n, sum.kept + end.kept / n);
    }
    Climb { end_to_best: sum.end_to_best.exp2(), ..sum }
}

/// From 128 KiB, or the size that was measured nearest to it. Features at a size without a row are those of the nearest.
fn one_climb(policy: &dyn Policy, rows: &BTreeMap<u32, &Row>) -> Climb {
    let near =
        |kib: u32| rows.values().min_by_key(|r| (f64::from(r.kib).log2() - f64::from(kib.max(1)).log2()).abs().to_bits());
    let mut climb = Climb { end_to_best: 1.0, ..Climb::default() };
    let Some(first) = near(128) else { return climb };
    let stall = |kib: Kib| first.label(kib.0).map(|l| l.stall_ns_per_mib + NOTHING);
    let (settings, mut known) = (Settings::default(), BTreeMap::new());
    let (mut now, mut tried) = (Kib(first.kib), BTreeMap::<Kib, Tried>::new());
    for _ in 0..TRIALS {
        let Some(features) = near(now.0).and_then(|r| restore(&r.features)) else { break };
        let context = Context {
            features: &features,
            current: now,
            tried: &tried,
            known: &known,
            floor: settings.floor,
            ceiling: settings.ceiling,
            min_demand: settings.min_demand_pages_per_s,
            min_stall_share: settings.min_stall_share,
            whole: true,
        };
        let Decision::Propose(proposal) = policy.decide(&context) else { break };
        let (to, from) = (proposal.read_ahead, now);
        let (Some(new), Some(old)) = (stall(to), stall(from)) else { break };
        let ratio = new / old;
        let kept = ratio <= 1.0 - settings.trial.min_gain;
        climb.trials += 1.0;
        climb.worst_trial = climb.worst_trial.max(ratio);
        let outcome = if kept { Outcome::Kept } else { Outcome::Reverted };
        let stall_ratio = Some(Interval { low: ratio, mean: ratio, high: ratio });
        let verdict = Verdict { stall_ratio, ..Verdict::new(outcome, String::new(), 3, 0.95) };
        known.entry(proposal.pattern).or_insert_with(Known::default).learn(from, &proposal, &verdict);
        if kept {
            (climb.kept, now) = (climb.kept + 1.0, to);
            tried.insert(from, Tried { outcome: Outcome::Reverted, stall_ratio: Some(1.0 / ratio) });
        } else {
            tried.insert(to, Tried { outcome, stall_ratio: Some(ratio) });
        }
    }
    let least = first.labels.iter().map(|l| l.stall_ns_per_mib + NOTHING).fold(f64::INFINITY, f64::min);
    let (end, begin) = (stall(now).unwrap_or(least), stall(Kib(first.kib)).unwrap_or(least));
    (climb.end_to_best, climb.worst_to_default) = (end / least, end / begin);
    climb
}
