// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead-demo`: a workload whose phases change, on a slow device that it sets up itself, once without and once with keepahead;
//! shows live what the agent sees, decides and why, ends with a table of what was measured. Under 4 minutes, so that a newcomer
//! watches it to the end. Exit codes: 0 shown, 1 failed, 3 this machine cannot, 130 interrupted.

mod agent;
mod interrupt;
mod live;
mod missing;
mod phases;
mod table;
mod words;

use anyhow::{Context, ensure};
use clap::Parser;
use keepahead_testbed::workload::Running;
use keepahead_testbed::{Fs, Testbed};
use phases::{DEFAULT_KIB, Pass, Schedule, Sweep};
use std::path::Path;
use std::process::ExitCode;

/// Shows keepahead at work on a slow device that it sets up itself (root; under 4 minutes).
#[derive(Parser)]
struct Arguments {
    /// A short run that shows that everything works, too short to show what it is good for.
    #[arg(long, hide = true)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    interrupt::catch();
    if let Some(why) = missing::on_this_machine() {
        missing::explain(&why);
        return ExitCode::from(3);
    }
    let schedule = if arguments.quick { Schedule::quick() } else { Schedule::full() };
    match demo(&schedule) {
        Ok(code) => code,
        Err(_) if interrupt::came() => {
            println!("\ninterrupted: values are put back; device, mount, groups and files of the demo are removed");
            ExitCode::from(130)
        }
        Err(e) => {
            eprintln!("keepahead-demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(schedule: &Schedule) -> anyhow::Result<ExitCode> {
    let live = live::Live::new();
    live.title(&format!(
        "A volume of {} IOPS and {} MB/s, {} MiB of memory for its reader, read_ahead_kb {DEFAULT_KIB}; about {} s in all.",
        schedule.iops,
        schedule.bytes_per_s / 1_000_000,
        schedule.memory_mib,
        schedule.estimate().as_secs()
    ));
    println!("Writing {} MiB of data to a new loop device ...", schedule.file_mib);
    let testbed = Testbed::new(schedule.file_mib * 9 / 8 + 64, Fs::Ext4)?;
    let file = testbed.file("data", schedule.file_mib)?;
    testbed.limit(schedule.iops, schedule.bytes_per_s, schedule.memory_mib)?;
    testbed.set_read_ahead(DEFAULT_KIB)?;
    interrupt::check()?;
    // Beside the testbed's files: it goes with them, at the next start at the latest.
    let state = testbed.mount().with_file_name("state");
    std::fs::create_dir_all(&state).with_context(|| format!("{}", state.display()))?;
    if let Some(why) = agent::refuses(&testbed, &state)? {
        missing::explain(&why);
        return Ok(ExitCode::from(3));
    }

    live.title("1 of 3: without keepahead");
    let without = pass(schedule, &testbed, &file, &live, None)?;
    live.title("2 of 3: static values, each phase at each value");
    let sweep = Sweep::run(schedule, &testbed, &file, &live)?;
    live.title("3 of 3: with keepahead (its own words after the bar)");
    testbed.set_read_ahead(DEFAULT_KIB)?;
    let mut agent = agent::Agent::start(&testbed, &state)?;
    let with = pass(schedule, &testbed, &file, &live, Some(&mut agent))?;
    agent.leave(&live)?;

    let found = testbed.read_ahead()?;
    table::print(schedule, &live, &without, &sweep, &with);
    ensure!(found == DEFAULT_KIB, "{}: read_ahead_kb is {found} after the agent left, {DEFAULT_KIB} expected", testbed.name);
    println!("values restored: {} read_ahead_kb {found} (as found)", testbed.name);
    let name = testbed.name.clone();
    drop(testbed);
    println!("cleaned up: {name}, its mount, its groups and its files are removed; no other device was touched");
    Ok(ExitCode::SUCCESS)
}

/// One process reads through all phases over one file that it opens once, as a service does.
fn pass(
    schedule: &Schedule,
    testbed: &Testbed,
    file: &Path,
    live: &live::Live,
    mut agent: Option<&mut agent::Agent>,
) -> anyhow::Result<Pass> {
    testbed.drop_caches()?;
    let mut running = Running::start(testbed, file, &schedule.phases_argument(), 1)?;
    let (mut pass, mut shortener) = (Pass::new(), words::Shortener::default());
    while let Some(progress) = running.line()? {
        interrupt::check()?;
        let knob = testbed.read_ahead()?;
        let now = pass.add(progress, knob);
        let words = agent.as_deref_mut().map(agent::Agent::words).transpose()?.unwrap_or_default();
        pass.said(now.phase, &words);
        let shown: Vec<String> = words.into_iter().flat_map(|line| shortener.show(line)).collect();
        live.show(&now, &shown);
    }
    interrupt::settle()?;
    live.end_of_line();
    ensure!(pass.complete(schedule), "the workload ended early, after {:.1} s", pass.seconds());
    Ok(pass)
}
