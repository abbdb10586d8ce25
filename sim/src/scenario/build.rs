// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a checked scenario to a run: takes its tables, gives a [`Spec`] with fresh programs and disks. Every part has random numbers of
//! its own, drawn from the scenario's seed in the order of the file: equal scenarios give equal specs.

use super::check;
use super::error::ScenarioError;
use super::layout::Layout;
use super::opens::Opens;
use super::programs::{self, Built};
use super::schema::{MACHINE, Scenario, TaskEntry, What};
use crate::spec::{CgroupSpec, DiskSpec, Happening, Spec, TaskSpec};
use crate::workload::distribution::random;
use keepahead_core::device::QueueLimits;
use keepahead_core::units::{Kib, Nanos};
use rand::RngCore;
use rand_xoshiro::Xoshiro256StarStar;

/// Streams of random numbers beyond those of the groups of files, which count from 0.
const DISKS: u64 = 1 << 40;
const TASKS: u64 = 1 << 41;

pub(super) fn nanos(seconds: f64) -> Nanos {
    Nanos((seconds * 1e9).round() as u64)
}

fn bytes(mib: f64) -> u64 {
    (mib * 1_048_576.0) as u64
}

pub(super) fn spec(scenario: &Scenario) -> Result<Spec, ScenarioError> {
    check::check(scenario)?;
    let layout = Layout::new(scenario)?;
    let mut phases = Vec::new();
    let mut rng = random(scenario.seed, TASKS);
    let mut tasks = Vec::new();
    for entry in &scenario.tasks {
        for copy in 1..=entry.copies {
            let name = if entry.copies > 1 { format!("{} {copy}", entry.name) } else { entry.name.clone() };
            tasks.push(task(scenario, entry, name, &layout, &mut phases, &mut rng)?);
        }
    }
    let machine = CgroupSpec { name: MACHINE.into(), bytes: bytes(scenario.memory_mib) };
    let others = scenario.cgroups.iter().map(|c| CgroupSpec { name: c.name.clone(), bytes: bytes(c.memory_mib) });
    Ok(Spec {
        name: scenario.name.clone(),
        seed: scenario.seed,
        kernel: scenario.kernel,
        reclaim: scenario.reclaim,
        cgroups: std::iter::once(machine).chain(others).collect(),
        disks: disks(scenario)?,
        files: layout.files,
        tasks,
        happenings: happenings(scenario)?,
        end: nanos(scenario.duration_s),
        sensor_noise: scenario.sensor_noise,
        wake: Nanos((scenario.wake_us * 1e3) as u64),
        phases,
    })
}

fn task(
    scenario: &Scenario,
    entry: &TaskEntry,
    name: String,
    layout: &Layout,
    phases: &mut Vec<String>,
    rng: &mut Xoshiro256StarStar,
) -> Result<TaskSpec, ScenarioError> {
    let mut opens = Opens::new(layout, entry.fadvise);
    let mut built = Built { opens: &mut opens, phases, rng };
    let program = programs::task(&mut built, entry)?;
    let (files, maps) = opens.finish(entry.program.maps(), entry.madvise);
    let cgroup = entry.cgroup.as_deref().map_or(Ok(0), |name| check::cgroup(scenario, "task.cgroup", name))?;
    Ok(TaskSpec { name, cgroup, files, maps, start: nanos(entry.start_s), program })
}

fn disks(scenario: &Scenario) -> Result<Vec<DiskSpec>, ScenarioError> {
    let mut rng = random(scenario.seed, DISKS);
    let mut all = Vec::new();
    for (i, entry) in scenario.devices.iter().enumerate() {
        let built = check::profile(scenario, i)?.build(rng.next_u64());
        let disk =
            built.map_err(|e| ScenarioError::impossible(format!("device[{i}]"), &entry.label, &e.to_string(), "correct it"))?;
        let read_ahead = Kib(entry.read_ahead_kb);
        all.push(DiskSpec { label: entry.label.clone(), disk, read_ahead, filesystem: entry.filesystem });
    }
    Ok(all)
}

fn happenings(scenario: &Scenario) -> Result<Vec<(Nanos, Happening)>, ScenarioError> {
    let mut all = Vec::new();
    for entry in &scenario.happenings {
        let happening = happening(scenario, &entry.what)?;
        let mut at = entry.at_s;
        while at <= scenario.duration_s {
            all.push((nanos(at), happening.clone()));
            match entry.every_s {
                Some(every) => at += every,
                None => break,
            }
        }
    }
    // Stable: at the same time they happen in the order of the file.
    all.sort_by_key(|(at, _)| *at);
    Ok(all)
}

fn happening(scenario: &Scenario, what: &What) -> Result<Happening, ScenarioError> {
    let disk = |label: &str| check::device(scenario, "happening.what.device", label);
    Ok(match what {
        What::AdminWrites { device, read_ahead_kb } => {
            Happening::AdminWrites { disk: disk(device)?, value: Kib(*read_ahead_kb) }
        }
        What::KernelRaises { device, read_ahead_kb, max_sectors_kb, optimal_io_bytes } => {
            let disk = disk(device)?;
            // A disk does not begin to turn.
            let rotational = check::profile(scenario, disk)?.rotational.is_some();
            let limits = QueueLimits { max_sectors_kb: *max_sectors_kb, optimal_io_bytes: *optimal_io_bytes, rotational };
            Happening::KernelRaises { disk, value: Kib(*read_ahead_kb), limits }
        }
        What::MemoryLimit { cgroup, memory_mib } => {
            let cgroup = check::cgroup(scenario, "happening.what.memory_limit.cgroup", cgroup)?;
            Happening::MemoryLimit { cgroup, bytes: bytes(*memory_mib) }
        }
        What::Degrade { device, latency, slowdown } => {
            Happening::Degrade { disk: disk(device)?, latency: *latency, slowdown: *slowdown }
        }
        What::DropCaches => Happening::DropCaches,
        What::Sensor { device, sees } => Happening::Sensor { disk: disk(device)?, sees: *sees },
        What::MemoryPressure { percent } => Happening::MemoryPressure { percent: *percent },
    })
}
