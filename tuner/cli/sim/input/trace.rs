// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace file as input: read once to learn its streams and files (and its hash), then anew for every run, so that a trace larger
//! than memory works.

use super::{MachineArgs, bad};
use clap::{Args, ValueEnum};
use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::Profile;
use keepahead_sim::spec::{DiskSpec, FileSystem, Generation, Reclaim, Spec};
use keepahead_sim::sweep::Hasher;
use keepahead_sim::trace::{Arrival, LOOK_AHEAD, ReadOptions, Replay, Source, Streams, Survey, TraceFormat, TraceSpec, open};
use std::fs::File;
use std::io::Read;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// At the recorded times.
    Recorded,
    /// Each access as soon as the one before it is done.
    Closed,
}

/// How a trace is replayed; scenarios say it themselves.
#[derive(Clone, Debug, Args)]
pub struct ReplayOptions {
    /// Traces: when accesses happen [default: recorded].
    #[arg(long, value_enum)]
    pub pace: Option<Pace>,
    /// Traces: recorded times divided by this [default: 1].
    #[arg(long, value_name = "FACTOR")]
    pub speed: Option<f64>,
    /// Traces: read_ahead_kb at the start, KiB [default: 128].
    #[arg(long, value_name = "KIB")]
    pub read_ahead_kb: Option<u32>,
    /// Traces: replay what comes before the place where the trace is cut off or damaged.
    #[arg(long)]
    pub accept_damage: bool,
}

/// The same with the defaults. Its text is part of what a sweep knows a run by.
#[derive(Clone, Debug)]
pub struct ReplayArgs {
    pace: Pace,
    speed: f64,
    read_ahead_kb: u32,
    accept_damage: bool,
}

impl ReplayOptions {
    pub fn whole(&self) -> ReplayArgs {
        ReplayArgs {
            pace: self.pace.unwrap_or(Pace::Recorded),
            speed: self.speed.unwrap_or(1.0),
            read_ahead_kb: self.read_ahead_kb.unwrap_or(128),
            accept_damage: self.accept_damage,
        }
    }

    /// One that was given, as it is written.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.pace.is_some(), "--pace"),
            (self.speed.is_some(), "--speed"),
            (self.read_ahead_kb.is_some(), "--read-ahead-kb"),
            (self.accept_damage, "--accept-damage"),
        ];
        given.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

pub struct Trace {
    format: TraceFormat,
    survey: Survey,
    profile: Profile,
    memory: u64,
    replay: ReplayArgs,
}

impl Trace {
    /// Reads the trace once; the second value is the hash of its bytes.
    pub fn load(path: &Path, args: &MachineArgs) -> anyhow::Result<(Trace, String)> {
        let mebibytes = args.memory_mib.unwrap_or(1024.0);
        if !(mebibytes > 0.0 && mebibytes <= 1e9) {
            return Err(bad(path, format!("--memory-mib {mebibytes}: must be above 0 and at most 1000000000")));
        }
        let name = args.device_profile.as_deref().unwrap_or("gp3");
        let profile = Profile::from_table(super::profile(name)?).map_err(|e| bad(path, e))?;
        let content = hash(path)?;
        let (format, mut source) = source(path, args.trace_format)?;
        // Block traces know no processes: files go on side by side.
        let by = if format == TraceFormat::Keepahead { Streams::PerProcess } else { Streams::PerFile };
        let survey = Survey::of(&mut *source, by).map_err(|e| bad(path, e))?;
        let replay = args.replay.whole();
        if let (Some(damage), false) = (&survey.damage, replay.accept_damage) {
            return Err(bad(path, format!("{damage}; --accept-damage replays what comes before")));
        }
        let memory = (mebibytes * f64::from(1 << 20)) as u64;
        Ok((Trace { format, survey, profile, memory, replay }, content))
    }

    pub fn spec(&self, path: &Path, kernel: Generation, seed: u64) -> anyhow::Result<(Spec, Replay)> {
        let disk = DiskSpec {
            label: "trace".into(),
            disk: self.profile.clone().build(seed).map_err(|e| bad(path, e))?,
            read_ahead: Kib(self.replay.read_ahead_kb),
            filesystem: FileSystem::Ext4,
        };
        let spec = TraceSpec {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            seed,
            kernel,
            reclaim: Reclaim::TwoLists,
            memory: self.memory,
            disk,
            arrival: match self.replay.pace {
                Pace::Recorded => Arrival::Open { speed: self.replay.speed },
                Pace::Closed => Arrival::Closed,
            },
            look_ahead: LOOK_AHEAD,
        };
        spec.spec(&self.survey, source(path, Some(self.format))?.1).map_err(|e| bad(path, e))
    }

    /// How long it takes at least; unknown in a closed loop.
    pub fn span(&self) -> Option<Nanos> {
        let recorded = self.survey.last.since(self.survey.first).0 as f64;
        (self.replay.pace == Pace::Recorded).then(|| Nanos((recorded / self.replay.speed) as u64))
    }
}

fn source(path: &Path, format: Option<TraceFormat>) -> anyhow::Result<(TraceFormat, Box<dyn Source>)> {
    let file = File::open(path).map_err(|e| bad(path, e))?;
    open(Box::new(file), format, &ReadOptions::default()).map_err(|e| bad(path, e))
}

fn hash(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).map_err(|e| bad(path, e))?;
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(|e| bad(path, e))? {
            0 => return Ok(hasher.finish()),
            read => hasher.write(&buffer[..read]),
        }
    }
}
