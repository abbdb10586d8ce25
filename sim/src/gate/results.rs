// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of `docs/RESULTS.md`: takes the outcomes of all scenarios, gives one Markdown row each, and says which of them keepahead
//! loses.

use super::Outcome;
use crate::compare::{Criterion, Row};
use std::fmt::Write;

/// Regret from which a scenario counts as lost, percent of the best static value's score.
pub const LOSS_PERCENT: f64 = 10.0;
/// Worst moment below which a scenario counts as lost, whatever its regret.
pub const LOSS_RATIO: f64 = 0.8;

/// Whether keepahead falls well short here: of the best static value over the whole run, or of the default for ten seconds.
pub fn loses(outcome: &Outcome) -> bool {
    outcome.keepahead().regret_percent.is_some_and(|regret| regret > LOSS_PERCENT)
        || outcome.worst_moment.is_some_and(|ratio| ratio < LOSS_RATIO)
}

/// Markdown. Scores are MiB/s, or µs of stall a page where arrival is paced.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| scenario | unit | default | best static (KiB) | oracle | keepahead (ends at) | regret % | changes | settled s | worst moment | pollution MiB/s |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for outcome in outcomes {
        let (own, criterion) = (outcome.keepahead(), outcome.comparison.criterion);
        let best = match (outcome.best_static(), outcome.comparison.best) {
            (Some(row), Some(value)) => format!("{} ({})", score(criterion, row), value.0),
            _ => "–".into(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {best} | {} | {} ({}) | {} | {} | {} | {} | {:.1} |",
            outcome.comparison.scenario,
            unit(criterion),
            score(criterion, outcome.default_row()),
            outcome.oracle().map_or("–".into(), |row| score(criterion, row)),
            score(criterion, own),
            own.read_ahead_kib,
            figure(own.regret_percent, 1),
            own.changes,
            figure(own.settle_s, 0),
            figure(outcome.worst_moment, 2),
            own.pollution_mib_per_s,
        );
    }
    text
}

fn unit(criterion: Criterion) -> &'static str {
    match criterion {
        Criterion::Throughput => "MiB/s",
        Criterion::Stall => "µs/page",
    }
}

/// Three significant digits are more than the model is worth.
fn score(criterion: Criterion, row: &Row) -> String {
    let value = match criterion {
        Criterion::Throughput => row.throughput_mib_per_s,
        Criterion::Stall => row.stall_us_per_page.unwrap_or(0.0),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

fn figure(value: Option<f64>, digits: usize) -> String {
    // No minus before a zero.
    value.map_or("–".into(), |v| {
        if v.abs() < 0.5 * 0.1f64.powi(digits as i32) { format!("{:.digits$}", 0.0) } else { format!("{v:.digits$}") }
    })
}
