// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate against runs made up so that the right answer is known, and on a small scenario.

use super::*;
use crate::compare::Criterion;
use crate::compare::tests::made_up;
use crate::report::{Figures, Report, Second};
use keepahead_core::units::Kib;

fn seconds(mib: &[u64]) -> Report {
    let mut report = made_up(&Control::Default).unwrap();
    let disk = &mut report.disks[0];
    disk.seconds = mib
        .iter()
        .zip(1u32..)
        .map(|(mib, at)| {
            let figures = Figures { seconds: 1.0, work_bytes: mib << 20, ..Figures::default() };
            Second { at: f64::from(at), read_ahead: Kib(128), figures }
        })
        .collect();
    disk.figures = disk.seconds.iter().fold(Figures::default(), |sum, s| sum.plus(&s.figures));
    report
}

#[test]
fn the_worst_moment_is_the_worst_ten_seconds_at_the_same_time() {
    let default = seconds(&[10; 30]);
    let mut own = [20u64; 30];
    own[12..22].fill(4);
    let worst = worst_moment(Criterion::Throughput, &seconds(&own), &default);
    assert_eq!(worst, Some(0.4));
    // A second of nothing is a tenth of a stretch.
    own.fill(10);
    own[3] = 0;
    assert_eq!(worst_moment(Criterion::Throughput, &seconds(&own), &default), Some(0.9));
}

#[test]
fn pauses_and_runs_that_are_too_short_have_no_worst_moment() {
    let mut paused = [100u64; 30];
    paused[10..25].fill(0);
    let own = seconds(&[100; 30]);
    assert_eq!(worst_moment(Criterion::Throughput, &own, &seconds(&paused)), Some(1.0));
    assert_eq!(worst_moment(Criterion::Throughput, &seconds(&[1; 9]), &seconds(&[1; 9])), None);
}

const SMALL: &str = r#"
name = "small"
shows = "Sequential reads on a volume of few requests."
duration_s = 20
memory_mib = 64
ladder_kib = [32, 512]
[bands]
regret_percent = { max = 100 }
changes = { max = 0 }
worst_moment_ratio = { min = 0.1 }
[[device]]
label = "volume"
profile = "loop"
figures.throttle = { iops = 500, bytes_per_s = 200_000_000 }
[[files]]
name = "data"
size_kib = 262_144
[[task]]
name = "reader"
program.sequential = { files = "data" }
"#;

#[test]
fn each_band_is_measured_and_those_that_do_not_hold_say_so() {
    let outcome = gate(&Scenario::parse(SMALL).unwrap()).unwrap();
    let held: Vec<_> = outcome.checks.iter().map(|check| (check.figure, check.holds())).collect();
    assert_eq!(held, [("regret_percent", true), ("changes", false), ("worst_moment_ratio", true)]);
    let statics: Vec<&str> = outcome.comparison.rows.iter().map(|row| row.control.as_str()).collect();
    assert_eq!(statics, ["default", "static 32 KiB", "static 512 KiB", "rules-1"]);
    assert_eq!(outcome.best_static().unwrap().control, "static 512 KiB");
    let table = table(&[outcome]);
    assert!(table.lines().nth(2).unwrap().starts_with("| small | MiB/s |"), "{table}");
}

#[test]
fn a_figure_that_is_not_there_holds_in_no_band() {
    let check = Check { figure: "regret_percent", band: Band { min: None, max: Some(1.0) }, value: f64::NAN };
    assert!(!check.holds());
}
