// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scenario file can say about the machine and what happens to it. Units are in the names; a key that is left out has the value
//! that its line gives here. What tasks do is in `program.rs`.

use super::program::ProgramSpec;
use crate::spec::{FileSystem, Generation, Reclaim};
use crate::workload::distribution::Distribution;
use crate::workload::pace::Arrival;
use crate::workload::{Fadvice, Madvice};
use serde::Deserialize;

/// Cgroup of tasks that name none.
pub const MACHINE: &str = "machine";

/// One scenario. [`Scenario::parse`] reads it, [`Scenario::spec`] makes it run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What one learns from it, in a sentence.
    pub shows: String,
    #[serde(default = "one")]
    pub seed: u64,
    pub duration_s: f64,
    #[serde(default = "kernel")]
    pub kernel: Generation,
    #[serde(default = "reclaim")]
    pub reclaim: Reclaim,
    /// Page cache of the cgroup `machine`, in which tasks run that name no other.
    pub memory_mib: f64,
    /// Standard deviation of the sensor's relative error, 0 to 1.
    #[serde(default)]
    pub sensor_noise: f64,
    /// From the end of I/O to the waiting task's next instruction, microseconds: about 5 on hardware, about 28 on virtual machines.
    #[serde(default = "wake_us")]
    pub wake_us: f64,
    /// Static values that are tried for the best in hindsight, KiB, ascending; none: every power of two that fits.
    #[serde(default)]
    pub ladder_kib: Vec<u32>,
    /// Overrides of keepahead's [`Settings`](keepahead_core::settings::Settings), by their names.
    #[serde(default)]
    pub settings: toml::Table,
    #[serde(default)]
    pub bands: Bands,
    #[serde(default, rename = "cgroup")]
    pub cgroups: Vec<CgroupEntry>,
    #[serde(rename = "device")]
    pub devices: Vec<DeviceEntry>,
    #[serde(default)]
    pub files: Vec<FilesEntry>,
    #[serde(rename = "task")]
    pub tasks: Vec<TaskEntry>,
    #[serde(default, rename = "happening")]
    pub happenings: Vec<HappeningEntry>,
}

/// What keepahead must achieve in a scenario. A figure without a band is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bands {
    /// Throughput short of the best static value's, percent of that; below 0: better than any.
    pub regret_percent: Option<Band>,
    /// Changes of `read_ahead_kb`, those of trials included.
    pub changes: Option<Band>,
    /// Time of the last change that was kept, seconds.
    pub settle_s: Option<Band>,
    /// The worst ten seconds: score over the default's at the same time, as a ratio (see [`worst_moment`](crate::gate::worst_moment)).
    pub worst_moment_ratio: Option<Band>,
    /// Pages read ahead and dropped unused, MiB a second.
    pub pollution_mib_per_s: Option<Band>,
}

/// Both ends belong to it; an end that is not given is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl Band {
    /// No figure (NaN) holds in no band.
    pub fn holds(&self, value: f64) -> bool {
        !value.is_nan() && self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupEntry {
    pub name: String,
    pub memory_mib: f64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    pub label: String,
    /// Name of a built-in profile; without it `figures` must be complete.
    pub profile: Option<String>,
    /// What differs from the profile, by the names in [`Profile`](crate::device::Profile).
    #[serde(default)]
    pub figures: toml::Table,
    #[serde(default = "default_read_ahead")]
    pub read_ahead_kb: u32,
    #[serde(default = "filesystem")]
    pub filesystem: FileSystem,
}

/// A group of files on one device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesEntry {
    pub name: String,
    /// The first device where it is missing.
    pub device: Option<String>,
    #[serde(default = "one")]
    pub count: u64,
    /// Of each file.
    pub size_kib: Distribution,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskEntry {
    pub name: String,
    pub cgroup: Option<String>,
    #[serde(default)]
    pub start_s: f64,
    /// So many tasks of this kind, each with its own random numbers and open files.
    #[serde(default = "one")]
    pub copies: u64,
    /// Computing after each operation that reads, touches or writes.
    #[serde(default = "nothing")]
    pub think_us: Distribution,
    #[serde(default)]
    pub arrival: Arrival,
    /// Given on each file right after opening.
    pub fadvise: Option<Fadvice>,
    /// Given on each mapping right after mapping.
    pub madvise: Option<Madvice>,
    pub program: ProgramSpec,
}

/// Something the outer world does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HappeningEntry {
    pub at_s: f64,
    /// Again and again with this distance, to the end.
    pub every_s: Option<f64>,
    pub what: What,
}

/// See [`Happening`](crate::spec::Happening) for the meanings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    AdminWrites {
        device: String,
        read_ahead_kb: u32,
    },
    KernelRaises {
        device: String,
        read_ahead_kb: u32,
        max_sectors_kb: u32,
        #[serde(default)]
        optimal_io_bytes: u64,
    },
    MemoryLimit {
        #[serde(default = "machine")]
        cgroup: String,
        memory_mib: f64,
    },
    Degrade {
        device: String,
        latency: f64,
        slowdown: f64,
    },
    DropCaches,
    Sensor {
        device: String,
        sees: bool,
    },
    MemoryPressure {
        percent: f64,
    },
}

pub(super) fn one() -> u64 {
    1
}

fn wake_us() -> f64 {
    crate::kernel::cpu::WAKE as f64 / 1e3
}

fn machine() -> String {
    MACHINE.into()
}

pub(super) fn nothing() -> Distribution {
    Distribution::Fixed(0.0)
}

/// The kernel that the project's figures were read on.
fn kernel() -> Generation {
    Generation::V6_18
}

/// The kernel's default (`CONFIG_LRU_GEN_ENABLED` is off there).
fn reclaim() -> Reclaim {
    Reclaim::TwoLists
}

/// `VM_READAHEAD_PAGES`, include/linux/pagemap.h.
fn default_read_ahead() -> u32 {
    128
}

fn filesystem() -> FileSystem {
    FileSystem::Ext4
}
