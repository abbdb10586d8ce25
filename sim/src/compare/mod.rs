// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies side by side: takes a way to run one scenario under a control, gives a row for the default, each static value, the
//! per-phase oracle and keepahead under each policy, with the regret of each.
//!
//! Runs share the cores (rayon) but each is a function of its control alone and results keep the order of the controls, so the bytes
//! that come out do not depend on the number of threads.

mod criterion;
mod row;

pub use criterion::Criterion;
pub use row::{Row, settled};

use crate::report::{Figures, Report};
use crate::spec::{Control, Spec};
use keepahead_core::policy::Policy;
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;
use rayon::prelude::*;
use serde::Serialize;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Static values, ascending.
    pub values: Vec<Kib>,
    pub settings: Settings,
    /// Names of the scenario's phases, by number.
    pub phases: Vec<String>,
    /// Value to keep in phases that no static run reached.
    pub fallback: Kib,
}

impl Plan {
    /// For a spec: the static values given, or every power of two within the bounds of `settings` and half of the smallest cache (a
    /// window that takes half of a cache leaves no room for a second one).
    pub fn of(spec: &Spec, settings: Settings, values: Option<Vec<Kib>>) -> Plan {
        let values = values.unwrap_or_else(|| {
            let bytes = spec.cgroups.iter().map(|group| group.bytes).min().unwrap_or(u64::MAX);
            let fits = Kib(u32::try_from(bytes / 2 / 1024).unwrap_or(u32::MAX));
            ladder(settings.floor, settings.ceiling.min(fits))
        });
        let fallback = spec.disks.first().map_or(Kib(128), |disk| disk.read_ahead);
        Plan { values, settings, phases: spec.phases.clone(), fallback }
    }
}

/// The best static value of a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseBest {
    pub phase: String,
    pub value: Kib,
}

/// The outcome. `rows[i]` is about `reports[i]`: default, static values, oracle (where there are phases), each policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub scenario: String,
    pub seed: u64,
    pub criterion: Criterion,
    /// Best static value in hindsight; `None` where no static run came to its end.
    pub best: Option<Kib>,
    pub oracle: Vec<PhaseBest>,
    pub rows: Vec<Row>,
    /// Interrupted: some runs are partial or missing.
    pub partial: bool,
    #[serde(skip)]
    pub reports: Vec<Report>,
}

/// Powers of two from `floor` to `ceiling`: 4 to 16384 KiB unless settings say otherwise.
pub fn ladder(floor: Kib, ceiling: Kib) -> Vec<Kib> {
    (2..=20).map(|exponent| Kib(1 << exponent)).filter(|value| (floor..=ceiling).contains(value)).collect()
}

/// Runs everything, keepahead under each of `policies`. `run` gives a report under a control; `stop` says whether to begin nothing more.
pub fn compare<E: Send>(
    run: impl Fn(&Control) -> Result<Report, E> + Sync,
    plan: &Plan,
    policies: &[&(dyn Policy + Sync)],
    stop: impl Fn() -> bool,
) -> Result<Comparison, E> {
    let count = plan.values.len();
    let mut reports = (0..=count + policies.len())
        .into_par_iter()
        .map(|index| match index {
            0 => run(&Control::Default),
            index if index <= count => run(&Control::Static(plan.values[index - 1])),
            index => run(&Control::Keepahead { policy: policies[index - count - 1], settings: plan.settings.clone() }),
        })
        .collect::<Result<Vec<Report>, E>>()?;
    let statics: Vec<(Kib, &Report)> =
        plan.values.iter().copied().zip(&reports[1..=count]).filter(|(_, report)| !report.partial).collect();
    let criterion = Criterion::of(reports.iter().filter(|report| !report.partial));
    let best = best(criterion, statics.iter().map(|(value, report)| (*value, report.total())));
    let oracle = oracle(criterion, &statics, plan);
    let has_oracle = oracle.len() > 1 && !stop();
    if has_oracle {
        let report = run(&Control::PerPhase(oracle.iter().map(|p| p.value).collect()))?;
        reports.insert(count + 1, report);
    }
    Ok(summarise(reports, plan, criterion, best, oracle, has_oracle))
}

fn summarise(
    reports: Vec<Report>,
    plan: &Plan,
    criterion: Criterion,
    best: Option<Kib>,
    oracle: Vec<PhaseBest>,
    has_oracle: bool,
) -> Comparison {
    let best_index = best.and_then(|best| plan.values.iter().position(|v| *v == best)).map(|index| index + 1);
    let best_figures = best_index.map(|index| reports[index].total());
    // Without phases there is one phase, and the oracle is the best static value.
    let oracle_figures = if has_oracle {
        Some(&reports[plan.values.len() + 1]).filter(|r| !r.partial).map(Report::total)
    } else {
        best_figures.clone().filter(|_| plan.phases.len() < 2)
    };
    let rows = reports.iter().map(|report| {
        let total = report.total();
        let regret = |of: &Option<Figures>| of.as_ref().filter(|_| !report.partial).map(|f| criterion.regret(&total, f));
        Row { regret_percent: regret(&best_figures), oracle_regret_percent: regret(&oracle_figures), ..Row::of(report) }
    });
    Comparison {
        scenario: reports[0].scenario.clone(),
        seed: reports[0].seed,
        criterion,
        best,
        oracle,
        rows: rows.collect(),
        partial: reports.iter().any(|r| r.partial) || (plan.phases.len() > 1 && !has_oracle),
        reports,
    }
}

/// The value with the highest score; the smallest of equals, which costs the least memory.
fn best(criterion: Criterion, runs: impl Iterator<Item = (Kib, Figures)>) -> Option<Kib> {
    let mut best: Option<(Kib, f64)> = None;
    for (value, figures) in runs {
        let score = criterion.score(&figures);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((value, score));
        }
    }
    best.map(|(value, _)| value)
}

/// The best static value of each phase, from what each static run did in that phase, all its returns and all disks together.
fn oracle(criterion: Criterion, statics: &[(Kib, &Report)], plan: &Plan) -> Vec<PhaseBest> {
    let of_phase = |name: &str, report: &Report| {
        let mut sum = Figures::default();
        for disk in &report.disks {
            let seconds = sum.seconds;
            sum = disk.phases.iter().filter(|p| p.name == name).fold(sum, |sum, p| sum.plus(&p.figures));
            // Disks share the time.
            sum.seconds = if seconds > 0.0 { seconds } else { sum.seconds };
        }
        sum
    };
    let phase = |name: &String| {
        let runs = statics.iter().map(|(value, report)| (*value, of_phase(name, report)));
        let value = best(criterion, runs.filter(|(_, f)| f.seconds > 0.0)).unwrap_or(plan.fallback);
        PhaseBest { phase: name.clone(), value }
    };
    plan.phases.iter().map(phase).collect()
}

#[cfg(test)]
pub(crate) mod tests;
