// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparison against reports made up so that the right answer is known.

use super::*;
use crate::report::{Change, DiskReport, PhaseReport, Second};
use keepahead_core::sample::Counters;
use keepahead_policies::rules::Rules;
use std::convert::Infallible;

/// Ten seconds in two phases: `scan` gains with the value, `random` loses with it.
pub(crate) fn made_up(control: &Control) -> Result<Report, Infallible> {
    let (name, values) = match control {
        Control::Default => ("default".into(), [Kib(128); 2]),
        Control::Static(value) => (format!("static {value}"), [*value; 2]),
        Control::PerPhase(values) => ("per-phase oracle".into(), [values[0], values[1]]),
        Control::Keepahead { policy, .. } => (policy.name().into(), [Kib(1024), Kib(128)]),
    };
    let mib = [f64::from(values[0].0).log2(), 16.0 - f64::from(values[1].0).log2()];
    let phases: Vec<PhaseReport> = [("scan", 0.0), ("random", 5.0)]
        .into_iter()
        .zip(mib)
        .map(|((name, from), mib)| PhaseReport { name: name.into(), from, figures: figures(5.0, mib) })
        .collect();
    let second = |s: u32| {
        let half = usize::from(s > 5);
        Second { at: f64::from(s), read_ahead: values[half], figures: figures(1.0, mib[half]) }
    };
    let changes = if values[0] == values[1] { vec![] } else { vec![Change { at: 5.0, to: values[1], by: "oracle".into() }] };
    let disk = DiskReport {
        label: "disk".into(),
        figures: phases[0].figures.plus(&phases[1].figures),
        phases,
        seconds: (1..=10).map(second).collect(),
        changes,
        read_ahead: values[1],
    };
    Ok(Report {
        scenario: "made-up".into(),
        control: name,
        seed: 7,
        seconds: 10.0,
        disks: vec![disk],
        tasks: vec![],
        records: vec![],
        kept: 0,
        reverted: 0,
        partial: false,
    })
}

fn figures(seconds: f64, mib_per_s: f64) -> Figures {
    let pages = (seconds * mib_per_s * 256.0) as u64;
    let counters = Counters {
        read_pages: pages,
        read_miss: pages / 20,
        read_stall_ns: pages * 20_000,
        spec_added: pages,
        spec_used: pages / 2,
        spec_evicted: pages / 8,
        dev_read_bytes: pages * 4096,
        ..Counters::default()
    };
    Figures { seconds, counters, work_bytes: pages * 4096 }
}

pub(crate) fn plan() -> Plan {
    Plan {
        values: ladder(Kib(4), Kib(16384)),
        settings: Settings::default(),
        phases: vec!["scan".into(), "random".into()],
        fallback: Kib(128),
    }
}

#[test]
fn the_ladder_is_the_documented_one() {
    assert_eq!(plan().values.first(), Some(&Kib(4)));
    assert_eq!((plan().values.last(), plan().values.len()), (Some(&Kib(16384)), 13));
    assert_eq!(ladder(Kib(100), Kib(600)), [Kib(128), Kib(256), Kib(512)]);
}

#[test]
fn the_oracle_takes_each_phases_best_and_beats_every_static_value() {
    let plan = Plan { values: vec![Kib(64), Kib(256), Kib(1024)], ..plan() };
    let lopsided = |control: &Control| {
        let mut report = made_up(control)?;
        if matches!(control, Control::Static(Kib(256))) {
            report.disks[0].figures = figures(10.0, 9.0);
        }
        Ok::<_, Infallible>(report)
    };
    let c = compare(lopsided, &plan, &[&Rules], || false).unwrap();
    assert_eq!((c.criterion, c.best), (Criterion::Throughput, Some(Kib(256))));
    assert_eq!(c.oracle.iter().map(|p| p.value).collect::<Vec<_>>(), [Kib(1024), Kib(64)]);
    let names: Vec<&str> = c.rows.iter().map(|r| r.control.as_str()).collect();
    assert_eq!(names, ["default", "static 64 KiB", "static 256 KiB", "static 1024 KiB", "per-phase oracle", "rules-1"]);
    assert_eq!((c.rows[2].regret_percent, c.rows[4].oracle_regret_percent), (Some(0.0), Some(0.0)));
    assert!(c.rows[4].regret_percent.unwrap() < 0.0, "the oracle is better than the best static value");
    assert_eq!(c.rows[4].settle_s, Some(5.0));
}

#[test]
fn where_arrival_is_paced_stall_decides_and_the_smallest_of_equals_wins() {
    let paced = |control: &Control| {
        let mut report = made_up(control)?;
        report.disks[0].figures = figures(10.0, 8.0);
        if matches!(control, Control::Static(Kib(256 | 512))) {
            report.disks[0].figures.counters.read_stall_ns /= 2;
        }
        Ok::<_, Infallible>(report)
    };
    let c = compare(paced, &plan(), &[&Rules], || false).unwrap();
    assert_eq!((c.criterion, c.best), (Criterion::Stall, Some(Kib(256))));
    // 20 µs against 10 µs, each with the 1 µs of a cached page.
    let regret = c.rows[0].regret_percent.unwrap();
    assert!((regret - (1.0 - 11.0 / 21.0) * 100.0).abs() < 1e-9, "{regret}");
}

#[test]
fn runs_that_were_interrupted_are_never_the_best_and_have_no_regret() {
    let interrupted = |control: &Control| {
        let partial = matches!(control, Control::Static(Kib(16384)));
        Ok::<_, Infallible>(Report { partial, ..made_up(control)? })
    };
    let c = compare(interrupted, &plan(), &[&Rules], || true).unwrap();
    assert!(c.partial && c.best.is_some_and(|best| best < Kib(16384)));
    let row = c.rows.iter().find(|r| r.partial).unwrap();
    assert_eq!((row.regret_percent, row.settle_s), (None, None));
    assert!(!c.rows.iter().any(|r| r.control == "per-phase oracle"), "nothing is begun after the interruption");
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let c = pool.install(|| compare(made_up, &plan(), &[&Rules], || false)).unwrap();
        (serde_json::to_vec(&c).unwrap(), crate::output::plot::policies(&c).unwrap())
    };
    assert_eq!(bytes(1), bytes(4));
}

#[test]
fn the_table_reads_as_shown() {
    let plan = Plan { values: vec![Kib(64), Kib(1024)], ..plan() };
    let c = compare(made_up, &plan, &[&Rules], || false).unwrap();
    insta::assert_snapshot!(crate::output::table::comparison(&c));
    let csv = String::from_utf8(crate::output::csv::csv(&c.rows).unwrap()).unwrap();
    assert_eq!(csv.lines().count(), 1 + c.rows.len());
    assert!(csv.starts_with("control,hit_ratio,"), "{csv}");
}

#[test]
fn plots_name_axes_units_and_controls() {
    let c = compare(made_up, &plan(), &[&Rules], || false).unwrap();
    let shown: Vec<&Report> = [0, c.reports.len() - 2, c.reports.len() - 1].map(|i| &c.reports[i]).to_vec();
    let window = crate::output::plot::window(&shown).unwrap();
    for text in ["time (s)", "read_ahead_kb (KiB)", "default", "per-phase oracle", "rules-1"] {
        assert!(window.contains(text), "{text} is not in the plot");
    }
    let hits = crate::output::plot::hit_and_waste(&shown).unwrap();
    assert!(hits.contains("hit ratio (%)") && hits.contains("waste (MiB/s)"));
    assert!(crate::output::plot::policies(&c).unwrap().contains("static 16384 KiB"));
}
