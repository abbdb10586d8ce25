// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to simulate: takes a scenario or trace file and the options that change it, gives runs. Bad input is exit code 2 with the file
//! and the place in it.

use crate::cli::{Exit, Refused};
use clap::Args;
use keepahead_core::settings::Settings;
use keepahead_core::units::Kib;
use keepahead_sim::device::Profile;
use keepahead_sim::report::Report;
use keepahead_sim::scenario::Scenario;
use keepahead_sim::spec::{Control, Generation, Spec};
use keepahead_sim::sweep;
use keepahead_sim::trace::{Replay, TraceFormat};
use keepahead_sim::world::{self, Watch};
use std::fmt::Display;
use std::path::{Path, PathBuf};

mod trace;

/// Overrides that scenarios and traces share.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// Put every file on a device of this profile: hdd, sata-ssd, nvme, gp3, gp2-burst, nfs, loop, or a file (.toml) as `sim calibrate`
    /// writes it [default for traces: gp3].
    #[arg(long, value_name = "NAME")]
    pub device_profile: Option<String>,
    /// Page cache that fits, MiB [default for traces: 1024].
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<f64>,
    /// The files are traces in this format: keepahead, fio-iolog, oracle-general, cache-csv, msr, blkparse; without it, a file that
    /// does not end in .toml is a trace and its format is told from its first bytes.
    #[arg(long, value_name = "NAME")]
    pub trace_format: Option<TraceFormat>,
    #[command(flatten)]
    pub replay: trace::ReplayOptions,
}

/// Overrides for a single run.
#[derive(Clone, Debug, Args)]
pub struct InputArgs {
    /// A scenario (.toml) or a trace.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Kernel: 5.10, 6.1, 6.6, 6.12, 6.18 or 7.2 [default: the scenario's; 6.18 for traces].
    #[arg(long, value_name = "VERSION", value_parser = generation)]
    pub kernel: Option<Generation>,
    /// Seed of all random numbers [default: the scenario's; 1 for traces].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

pub fn generation(name: &str) -> Result<Generation, String> {
    let known = || format!("known are {}", Generation::ALL.map(Generation::name).join(", "));
    Generation::ALL.into_iter().find(|g| g.name() == name).ok_or_else(known)
}

enum Kind {
    Scenario(Box<Scenario>),
    Trace(Box<trace::Trace>),
}

/// A scenario or trace, read and checked, from which any number of runs can start.
pub struct Input {
    path: PathBuf,
    pub hash: String,
    kind: Kind,
}

/// An error in `path`'s content or in the options.
pub(in crate::cli) fn bad(path: &Path, error: impl Display) -> anyhow::Error {
    Refused::new(Exit::Usage, format!("{}: {error}", path.display())).into()
}

impl Input {
    pub fn load(path: &Path, args: &MachineArgs) -> anyhow::Result<Input> {
        let is_scenario = args.trace_format.is_none() && path.extension().is_some_and(|e| e == "toml");
        let (kind, content) = if is_scenario {
            if let Some(option) = args.replay.given() {
                let message =
                    format!("{option} is for traces; a scenario says itself how its programs read: leave {option} out");
                return Err(bad(path, message));
            }
            let text = std::fs::read_to_string(path).map_err(|e| bad(path, e))?;
            (Kind::Scenario(Box::new(scenario(path, &text, args)?)), sweep::hash(text.as_bytes(), ""))
        } else {
            let (trace, content) = trace::Trace::load(path, args)?;
            (Kind::Trace(Box::new(trace)), content)
        };
        let overrides = format!("{:?} {:?} {:?}", args.device_profile, args.memory_mib, args.replay.whole());
        Ok(Input { path: path.into(), hash: sweep::hash(content.as_bytes(), &overrides), kind })
    }

    pub fn kernel(&self) -> Generation {
        match &self.kind {
            Kind::Scenario(scenario) => scenario.kernel,
            Kind::Trace(_) => Generation::V6_18,
        }
    }

    pub fn seed(&self) -> u64 {
        match &self.kind {
            Kind::Scenario(scenario) => scenario.seed,
            Kind::Trace(_) => 1,
        }
    }

    /// keepahead's settings for it.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        match &self.kind {
            Kind::Scenario(scenario) => scenario.settings().map_err(|e| bad(&self.path, e)),
            Kind::Trace(_) => Ok(Settings::default()),
        }
    }

    /// The static values that a scenario wants compared, where it names them.
    pub fn ladder(&self) -> Option<Vec<Kib>> {
        match &self.kind {
            Kind::Scenario(scenario) => scenario.ladder(),
            Kind::Trace(_) => None,
        }
    }

    /// A fresh run; a replay goes with it where it is a trace's.
    pub fn spec(&self, kernel: Generation, seed: u64) -> anyhow::Result<(Spec, Option<Replay>)> {
        match &self.kind {
            Kind::Scenario(scenario) => {
                let scenario = Scenario { kernel, seed, ..(**scenario).clone() };
                Ok((scenario.spec().map_err(|e| bad(&self.path, e))?, None))
            }
            Kind::Trace(trace) => trace.spec(&self.path, kernel, seed).map(|(spec, replay)| (spec, Some(replay))),
        }
    }

    /// Runs it to its end, or to where `watch` stops it.
    pub fn run(&self, kernel: Generation, seed: u64, control: &Control, watch: &dyn Watch) -> anyhow::Result<Report> {
        let (spec, replay) = self.spec(kernel, seed)?;
        let report = world::run(spec, control, watch).map_err(|e| bad(&self.path, e))?;
        match replay.and_then(|replay| replay.fault()) {
            Some(fault) => Err(bad(&self.path, fault)),
            None => Ok(report),
        }
    }

    /// Virtual seconds of a run, where its end is known.
    pub fn seconds(&self) -> Option<u64> {
        match &self.kind {
            Kind::Scenario(scenario) => Some(scenario.duration_s.ceil() as u64),
            Kind::Trace(trace) => trace.span().map(|span| span.as_secs_f64().ceil() as u64),
        }
    }
}

/// The figures of a device: built-in ones by name, or those of a file.
fn profile(name: &str) -> anyhow::Result<toml::Table> {
    let profile = if name.ends_with(".toml") {
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|e| bad(path, e))?;
        Profile::from_table(toml::from_str(&text).map_err(|e| bad(path, e))?).map_err(|e| bad(path, e))
    } else {
        Profile::named(name).map_err(|e| bad(Path::new("--device-profile"), e))
    };
    Ok(toml::Table::try_from(profile?)?)
}

fn scenario(path: &Path, text: &str, args: &MachineArgs) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::parse(text).map_err(|e| bad(path, e))?;
    if let Some(name) = &args.device_profile {
        let figures = profile(name)?;
        for device in &mut scenario.devices {
            (device.profile, device.figures) = (None, figures.clone());
        }
    }
    if let Some(mib) = args.memory_mib {
        scenario.memory_mib = mib;
    }
    scenario.check().map_err(|e| bad(path, e))?;
    Ok(scenario)
}
