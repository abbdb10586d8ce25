// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim validate`: runs scripts on the real kernel and on a simulated one and compares what the two did, event by event. A
//! difference is shortened to the shortest script that shows it and written down as a fixture.

use crate::cli::{Exit, Format, Refused, output, save};
use crate::validate::Session;
use anyhow::Context;
use clap::{Args, ValueEnum};
use keepahead_sim::event::Event;
use keepahead_sim::script::random::Options;
use keepahead_sim::script::{Environment, Filesystem, Mismatch, Recording, Script, compare, minimise::minimise};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Executions spent on the shortest script of one mismatch: some ten seconds.
const TRIES: usize = 1500;
/// Runs of a script whose events differ, before that is a mismatch. A fault sleeps until its page has been read and then maps what
/// its neighbourhood holds; a window of several requests may be there in part at that moment (some 1 % of random scripts vary so).
const AGAIN: usize = 49;
/// Runs that must all differ from the simulator before a shorter script counts as showing the mismatch.
const SURE: usize = 8;
/// Room for the files of random scripts: three of each size.
const ROOM_MIB: u64 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Where {
    Ext4,
    Xfs,
    Both,
}

#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// Random scripts on each file system.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub scripts: u64,
    /// Seed of the first script; the others count on from it.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// File systems to run on, each on a loop device of its own.
    #[arg(long, value_enum, default_value = "both")]
    pub filesystem: Where,
    /// Go on after a mismatch.
    #[arg(long)]
    pub keep_going: bool,
    /// Run this script (or recording) instead of random ones; repeatable.
    #[arg(long, value_name = "FILE")]
    pub script: Vec<PathBuf>,
    /// Where the shortest script of a mismatch goes, with the kernel's events.
    #[arg(long, value_name = "DIR", default_value = "fixtures/validate")]
    pub save: PathBuf,
    /// Compare nothing: write every script with the kernel's events into this directory.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
}

/// What came of the scripts on one file system.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub filesystem: &'static str,
    pub kernel: String,
    pub max_sectors_kb: u32,
    /// Scripts executed.
    pub scripts: u64,
    /// Of these, with the simulator's events equal to the kernel's.
    pub identical: u64,
    /// Of these, with kernel events that changed from run to run, the simulator's equal to those of one run.
    pub varying: u64,
    /// Real events compared.
    pub events: u64,
    /// Scripts that could not be compared, and what disturbed them.
    pub disturbed: Vec<String>,
    pub mismatches: Vec<Found>,
}

/// One mismatch.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub name: String,
    /// The operation of the shortest script at which the two part.
    pub operation: String,
    /// The first difference, as text.
    pub difference: String,
    pub fixture: PathBuf,
}

/// One script to run: its name and itself.
struct Named {
    name: String,
    script: Script,
}

/// Runs the verb. `simulate` gives the events of a script in an environment. [`Exit::Failure`] where anything differs or could not be
/// compared; what is known so far is printed after a signal too.
pub fn run(
    args: &ValidateArgs,
    format: Format,
    simulate: impl Fn(&Script, &Environment) -> Vec<Event>,
) -> anyhow::Result<Exit> {
    args.record.as_deref().map_or(Ok(()), save::check_directory)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut exit = Exit::Ok;
    for filesystem in Filesystem::ALL {
        let wanted = match args.filesystem {
            Where::Both => true,
            Where::Ext4 => filesystem == Filesystem::Ext4,
            Where::Xfs => filesystem == Filesystem::Xfs,
        };
        if !wanted || stop.load(Ordering::Relaxed) {
            continue;
        }
        let outcome = on(filesystem, args, &simulate, &stop)?;
        print(&outcome, args, format)?;
        if !outcome.mismatches.is_empty() || !outcome.disturbed.is_empty() || stop.load(Ordering::Relaxed) {
            exit = Exit::Failure;
        }
        if !outcome.mismatches.is_empty() && !args.keep_going {
            break;
        }
    }
    Ok(exit)
}

/// All scripts on one file system.
pub fn on(
    filesystem: Filesystem,
    args: &ValidateArgs,
    simulate: &impl Fn(&Script, &Environment) -> Vec<Event>,
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    if let Some(why) = Session::unavailable(filesystem) {
        return Err(Refused::new(Exit::Missing, format!("{}: {why}", filesystem.name())).into());
    }
    let given = args.script.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let room = given.iter().map(|one| one.script.files.iter().sum::<u64>().div_ceil(1 << 20)).sum();
    let mut session = Session::open(filesystem, if given.is_empty() { ROOM_MIB } else { room })?;
    let Environment { kernel, max_sectors_kb, .. } = session.environment().clone();
    let name = filesystem.name();
    if !session.missing().is_empty() {
        let missing = session.missing().join(", ");
        eprintln!("keepahead: {name}: Linux {kernel} has no tracepoints {missing}: what they would say is not compared");
    }
    let mut outcome = Outcome { filesystem: name, kernel, max_sectors_kb, ..Outcome::default() };
    let count = if given.is_empty() { args.scripts } else { given.len() as u64 };
    let mut given = given.into_iter();
    for number in 0..count {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        progress(name, number, count);
        let one = given.next().unwrap_or_else(|| random(name, args.seed.wrapping_add(number)));
        one_script(&mut session, &one, args, simulate, &mut outcome)?;
        if !outcome.mismatches.is_empty() && !args.keep_going {
            break;
        }
    }
    progress(name, count, count);
    Ok(outcome)
}

fn random(filesystem: &str, seed: u64) -> Named {
    Named { name: format!("{filesystem}-{seed}"), script: Script::random(seed, &Options::default()) }
}

/// A script, or a recording whose events are left aside.
fn read(path: &PathBuf) -> anyhow::Result<Named> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let script = text.parse().or_else(|error| text.parse().map(|r: Recording| r.script).map_err(|_| error));
    let name = path.file_stem().map_or_else(|| "script".into(), |stem| stem.to_string_lossy().into_owned());
    Ok(Named { name, script: script.with_context(|| path.display().to_string())? })
}

fn one_script(
    session: &mut Session,
    one: &Named,
    args: &ValidateArgs,
    simulate: &impl Fn(&Script, &Environment) -> Vec<Event>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    outcome.scripts += 1;
    let real = match session.record(&one.script) {
        Ok(real) => real,
        Err(error @ crate::validate::ValidateError::Disturbed { .. }) => {
            outcome.disturbed.push(format!("{}: {error}", one.name));
            return Ok(());
        }
        Err(error) => return Err(error).with_context(|| one.name.clone()),
    };
    outcome.events += real.steps.iter().map(|step| step.len() as u64).sum::<u64>();
    if let Some(dir) = &args.record {
        return keep(dir, &one.name, &real).map(|_| ());
    }
    let simulated = told(session, simulate(&one.script, session.environment()));
    if compare(&real.events(), &simulated).is_none() {
        outcome.identical += 1;
    } else if (0..AGAIN).any(|_| session.record(&one.script).is_ok_and(|again| again.events() == simulated)) {
        outcome.varying += 1;
    } else {
        outcome.mismatches.push(shorten(session, one, args, simulate, real)?);
    }
    Ok(())
}

/// The events that this kernel has tracepoints for.
fn told(session: &Session, mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| session.tells(event));
    events
}

/// The shortest script that still shows a difference, written down.
fn shorten(
    session: &mut Session,
    one: &Named,
    args: &ValidateArgs,
    simulate: &impl Fn(&Script, &Environment) -> Vec<Event>,
    real: Recording,
) -> anyhow::Result<Found> {
    let environment = session.environment().clone();
    let mut shortest: (Recording, Option<Mismatch>) = {
        let difference = compare(&real.events(), &told(session, simulate(&one.script, &environment)));
        (real, difference)
    };
    minimise(&one.script, TRIES, |candidate| {
        let simulated = told(session, simulate(candidate, &environment));
        let mut found = None;
        // Events that vary from run to run are nobody's mistake: every run must differ.
        for _ in 0..SURE {
            let Ok(recording) = session.record(candidate) else { return false };
            let Some(difference) = compare(&recording.events(), &simulated) else { return false };
            found = Some((recording, Some(difference)));
        }
        found.map(|found| shortest = found).is_some()
    });
    let (recording, difference) = shortest;
    let fixture = keep(&args.save, &one.name, &recording)?;
    let at = difference.as_ref().map_or(0, |found| recording.operation_of(found.at));
    let operation = recording.script.ops.get(at).map_or_else(String::new, |op| format!("{at}: {op}"));
    let difference = difference.map_or_else(String::new, |found| found.to_string());
    Ok(Found { name: one.name.clone(), operation, difference, fixture })
}

fn keep(dir: &PathBuf, name: &str, recording: &Recording) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join(format!("{name}.script"));
    std::fs::write(&path, recording.to_string()).with_context(|| path.display().to_string())?;
    Ok(path)
}

fn progress(filesystem: &str, done: u64, count: u64) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let end = if done == count { "\r\x1b[K" } else { "" };
        // Nothing depends on it.
        let _ = write!(terminal, "\r{filesystem}: {done} of {count} scripts{end}").and_then(|()| terminal.flush());
    }
}

fn print(outcome: &Outcome, args: &ValidateArgs, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json_line(outcome);
    }
    let Outcome { filesystem, kernel, max_sectors_kb, scripts, identical, varying, events, disturbed, mismatches } = outcome;
    let mut text = format!("{filesystem} on Linux {kernel}, max_sectors_kb {max_sectors_kb}: ");
    text += &match &args.record {
        Some(dir) => {
            format!("{} scripts with {events} events recorded into {}\n", scripts - disturbed.len() as u64, dir.display())
        }
        None => format!("{} of {scripts} scripts identical, {events} events\n", identical + varying),
    };
    if *varying > 0 {
        text += &format!("  {varying} of these have events that change from run to run; one of {} runs was equal\n", AGAIN + 1);
    }
    for why in disturbed {
        text += &format!("  not compared: {why}\n");
    }
    for Found { name, operation, difference, fixture } in mismatches {
        text += &format!("{name}: differs in operation {operation}\n{difference}  kept as {}\n", fixture.display());
    }
    output::text(&text)
}
