// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables for people: takes a comparison, a report or sweep rows, gives text with columns aligned and the units in the heading.

use crate::compare::{Comparison, Row};
use crate::report::Report;
use crate::sweep::SweepRow;
use std::fmt::Write;

const HEAD: [[&str; 2]; 16] = [
    ["control", ""],
    ["hit", "%"],
    ["accuracy", "%"],
    ["coverage", "%"],
    ["timely", "%"],
    ["pollution", "MiB/s"],
    ["amplif.", "x"],
    ["stall", "us/page"],
    ["throughput", "MiB/s"],
    ["changes", ""],
    ["kept", ""],
    ["reverted", ""],
    ["settle", "s"],
    ["final", "KiB"],
    ["regret", "%"],
    ["to oracle", "%"],
];

/// The table of `compare`.
pub fn comparison(c: &Comparison) -> String {
    let mut text = format!("{}, seed {}\n", c.scenario, c.seed);
    text += &rows(&c.rows);
    match c.best {
        Some(best) => {
            let _ = writeln!(text, "Best static value in hindsight, by {}: {best}. Regret is against it.", c.criterion.name());
        }
        None => text += "No static run came to its end: no best value, no regret.\n",
    }
    if c.oracle.len() > 1 {
        let phases: Vec<String> = c.oracle.iter().map(|p| format!("{} {}", p.phase, p.value)).collect();
        let _ = writeln!(text, "Best by phase: {}.", phases.join(", "));
    }
    if c.partial {
        text += "Interrupted: figures marked * are those known so far.\n";
    }
    text
}

/// The table of `run`: the run, and each phase and disk of it where there are several.
pub fn report(report: &Report) -> String {
    let mut text = format!("{}, seed {}, {:.1} s\n", report.scenario, report.seed, report.seconds);
    let mut all = vec![Row::of(report)];
    for disk in &report.disks {
        let part = |name: String, figures| {
            let disk = crate::report::DiskReport { figures, phases: Vec::new(), changes: Vec::new(), ..disk.clone() };
            let seconds = disk.figures.seconds;
            let whole = Report {
                control: name,
                seconds,
                disks: vec![disk],
                records: Vec::new(),
                kept: 0,
                reverted: 0,
                ..report.clone()
            };
            Row { settle_s: None, ..Row::of(&whole) }
        };
        if report.disks.len() > 1 {
            all.push(part(format!("  {}", disk.label), disk.figures.clone()));
        }
        for phase in &disk.phases {
            all.push(part(format!("  {} from {:.0} s", phase.name, phase.from), phase.figures.clone()));
        }
    }
    text += &rows(&all);
    for task in &report.tasks {
        let finished = task.finished.map_or("still running at the end".into(), |at| format!("finished at {at:.1} s"));
        let _ = writeln!(text, "task {}: {:.1} MiB, {finished}", task.name, task.work_bytes as f64 / f64::from(1 << 20));
    }
    if report.partial {
        text += "Interrupted: figures marked * are those known so far.\n";
    }
    text
}

/// The table of `sweep`: what tells rows apart and the figures that rank them.
pub fn sweep(rows: &[SweepRow]) -> String {
    let head =
        ["scenario", "kernel", "seed", "control", "hit %", "pollution MiB/s", "stall us/page", "throughput MiB/s", "changes"];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(rows.iter().map(|r| {
        let figures =
            [percent(r.hit_ratio), number(r.pollution_mib_per_s), number(r.stall_us_per_page), number(r.throughput_mib_per_s)];
        let mut line = vec![r.scenario.clone(), r.kernel.clone(), r.seed.to_string(), r.control.clone()];
        line.extend(figures);
        line.push(r.changes.to_string());
        line
    }));
    aligned(&lines, 4)
}

fn rows(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(|[name, _]| name.to_owned()).to_vec(), HEAD.map(|[_, unit]| unit.to_owned()).to_vec()];
    lines.extend(rows.iter().map(|r| {
        vec![
            format!("{}{}", r.control, if r.partial { "*" } else { "" }),
            percent(r.hit_ratio),
            percent(r.accuracy),
            percent(r.coverage),
            percent(r.timeliness),
            number(Some(r.pollution_mib_per_s)),
            number(r.amplification),
            number(r.stall_us_per_page),
            number(Some(r.throughput_mib_per_s)),
            r.changes.to_string(),
            r.kept.to_string(),
            r.reverted.to_string(),
            r.settle_s.map_or("-".into(), |s| format!("{s:.1}")),
            r.read_ahead_kib.to_string(),
            number(r.regret_percent),
            number(r.oracle_regret_percent),
        ]
    }));
    aligned(&lines, 1)
}

/// Columns as wide as their widest cell; the first `left` aligned left, figures right.
fn aligned(lines: &[Vec<String>], left: usize) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(i, (cell, &width))| if i < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", share * 100.0))
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        // "-0.00" says no more than "0.00".
        Some(value) if value.abs() < 0.005 => "0.00".into(),
        Some(value) if value.abs() < 100.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.0}"),
    }
}
