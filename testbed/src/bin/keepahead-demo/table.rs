// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table at the end: what was measured, and for a phase where keepahead is behind, why, from its own words.

use crate::live::Live;
use crate::phases::{DEFAULT_KIB, PHASES, Pass, Schedule, Sweep};
use crate::words::{self, Sort};

/// Less than this share of the best static value is behind, and needs a word.
const ENOUGH: f64 = 0.9;

pub fn print(schedule: &Schedule, live: &Live, without: &Pass, sweep: &Sweep, with: &Pass) {
    live.title("MB/s delivered to the workload");
    println!(
        "{:<16} {:>13} {:>20} {:>26} {:>12} {:>9}",
        "phase", "default (128)", "best static (KiB)", "with keepahead (KiB then)", "whole phase", "of best"
    );
    let mut remarks = Vec::new();
    for (phase, (name, _)) in PHASES.iter().enumerate() {
        let default = without.tail(schedule, phase);
        let (kib, best) = sweep.best(phase, default);
        let tuned = with.tail(schedule, phase);
        let share = if best > 0.0 { tuned / best } else { 1.0 };
        let row = format!(
            "{name:<16} {default:>13.1} {:>20} {:>26} {:>12.1} {share:>9.2}",
            format!("{best:.1} ({kib})"),
            format!("{tuned:.1} ({})", with.knob(phase)),
            with.whole(phase)
        );
        println!("{row}");
        // The default is one of the static values.
        if tuned < default * ENOUGH {
            remarks.push(format!("{name}: worse than the default, left alone; {}", why(with.words(phase))));
        } else if share < ENOUGH {
            remarks.push(format!("{name}: behind the best static value; {}", why(with.words(phase))));
        }
    }
    println!(
        "default and with keepahead: the last {:.1} s of a phase; whole phase: with keepahead, its learning and trials included;",
        schedule.tail().as_secs_f64()
    );
    println!("best static: the best of {} and {DEFAULT_KIB} KiB.", list(schedule.values));
    for remark in remarks {
        println!("{remark}");
    }
    println!();
}

fn list(values: &[u32]) -> String {
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// The last verdict of the phase, else what the agent last gave as its reason.
fn why(said: &[String]) -> String {
    let trimmed = |line: &String| line.split_once(" s ").map_or(line.trim(), |(_, rest)| rest.trim()).to_owned();
    let verdict = |line: &&String| matches!(words::sort(line), Sort::Kept | Sort::Verdict);
    if let Some(last) = said.iter().rev().find(verdict) {
        return format!("the last verdict was \"{}\"", trimmed(last));
    }
    let started = said.iter().filter(|line| words::sort(line) == Sort::TrialStarted).count();
    let hold = said.iter().rev().find(|line| line.contains("hold:"));
    let hold = hold.map_or(String::new(), |line| format!("; it last said \"{}\"", trimmed(line)));
    match started {
        0 => format!("no trial was begun in this phase{hold}"),
        _ => format!("no trial finished in this phase{hold}"),
    }
}
