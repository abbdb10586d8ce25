// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate: every scenario of `fixtures/scenarios` under every control, each band against what was measured, and the table in
//! `docs/RESULTS.md` against the same runs.
//!
//! `BLESS=1 cargo test -p keepahead-sim --test gate` writes the table anew; bands are for people to write.

use keepahead_sim::gate::{Outcome, gate, loses, table};
use keepahead_sim::scenario::Scenario;
use rayon::prelude::*;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BEGIN: &str = "<!-- results: written by the gate, not by hand -->\n";
const END: &str = "<!-- end of results -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[expect(clippy::disallowed_methods, reason = "the crate reads no files; its tests read the fixtures")]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[expect(clippy::disallowed_methods, reason = "the crate reads no files; its tests read the fixtures")]
fn scenarios() -> Vec<Scenario> {
    let dir = root().join("fixtures/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Scenario::parse(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

/// All runs, once for all tests.
fn outcomes() -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    OUTCOMES.get_or_init(|| {
        let run = |scenario: &Scenario| gate(scenario).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
        scenarios().par_iter().map(run).collect()
    })
}

/// `name  regret_percent 3.4 (to 6)  changes 11 (0 to 14) …`
fn line(outcome: &Outcome) -> String {
    let mut line = format!("{:32}", outcome.comparison.scenario);
    for check in &outcome.checks {
        let end = |end: Option<f64>, word: &str| end.map(|v| format!("{word}{v}")).unwrap_or_default();
        let band = format!("{}{}", end(check.band.min, "from "), end(check.band.max, " to "));
        let sign = if check.holds() { "" } else { " <-- DOES NOT HOLD" };
        let _ = write!(line, "  {} {:.2} ({}){sign}", check.figure, check.value, band.trim());
    }
    line
}

#[test]
fn every_band_of_every_scenario_holds() {
    let outcomes = outcomes();
    let mut lost = Vec::new();
    for outcome in outcomes {
        println!("{}", line(outcome));
        if !outcome.checks.iter().all(|check| check.holds()) {
            lost.push(line(outcome));
        }
    }
    assert!(lost.is_empty(), "{} of {} scenarios:\n{}", lost.len(), outcomes.len(), lost.join("\n"));
}

#[test]
fn the_results_are_those_of_this_code() {
    let path = root().join("docs/RESULTS.md");
    let page = read(&path);
    let (before, rest) = page.split_once(BEGIN).expect("docs/RESULTS.md has the mark where the table begins");
    let (written, after) = rest.split_once(END).expect("docs/RESULTS.md has the mark where the table ends");
    let table = table(outcomes());
    if std::env::var_os("BLESS").is_some() {
        save(&path, &format!("{before}{BEGIN}{table}{END}{after}"));
    } else {
        let stale: Vec<&str> = table.lines().filter(|line| !written.contains(line)).collect();
        assert!(written == table, "docs/RESULTS.md is stale (BLESS=1 writes it):\n{}", stale.join("\n"));
    }
}

#[expect(clippy::disallowed_methods, reason = "BLESS writes the table")]
fn save(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn every_loss_has_its_reason_and_nothing_else_is_called_a_loss() {
    let page = read(&root().join("docs/RESULTS.md"));
    let (_, losses) = page.split_once("## Where keepahead loses\n").expect("docs/RESULTS.md says where keepahead loses");
    let losses = losses.split("\n## ").next().unwrap_or(losses);
    for outcome in outcomes() {
        let named = losses.contains(&format!("`{}`", outcome.comparison.scenario));
        assert_eq!(named, loses(outcome), "docs/RESULTS.md and {}", line(outcome));
    }
}
