// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run is made of: the machine, its files and tasks, what happens to it from outside, and who sets the knob. A scenario or a
//! trace becomes a [`Spec`]; the world runs it under a [`Control`].

use crate::device::Disk;
use crate::workload::{Fadvice, Madvice, Program};
use keepahead_core::device::QueueLimits;
use keepahead_core::policy::Policy;
use keepahead_core::settings::Settings;
use keepahead_core::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Kernels that decide differently about readahead. A kernel between two of these behaves as the older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Generation {
    #[serde(rename = "5.10")]
    V5_10,
    #[serde(rename = "6.1")]
    V6_1,
    #[serde(rename = "6.6")]
    V6_6,
    #[serde(rename = "6.12")]
    V6_12,
    #[serde(rename = "6.18")]
    V6_18,
    #[serde(rename = "7.2")]
    V7_2,
}

impl Generation {
    pub const ALL: [Generation; 6] =
        [Generation::V5_10, Generation::V6_1, Generation::V6_6, Generation::V6_12, Generation::V6_18, Generation::V7_2];

    pub const fn name(self) -> &'static str {
        match self {
            Generation::V5_10 => "5.10",
            Generation::V6_1 => "6.1",
            Generation::V6_6 => "6.6",
            Generation::V6_12 => "6.12",
            Generation::V6_18 => "6.18",
            Generation::V7_2 => "7.2",
        }
    }
}

impl Generation {
    /// How the kernel of this release (`uname -r`: `6.18.5-arch1`) decides: as the newest generation not above it; `None` for one
    /// older than all, and for what is no release.
    pub fn of_release(release: &str) -> Option<Generation> {
        let version = |text: &str| {
            let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
            Some((numbers.next()??, numbers.next()??))
        };
        let wanted = version(release)?;
        Generation::ALL.into_iter().rev().find(|g| version(g.name()).is_some_and(|v| v <= wanted))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// File systems differ, for readahead, in whether their page cache takes large folios (and since when).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    Nfs,
}

/// Which page replacement the kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reclaim {
    /// Active and inactive list with refault distance.
    TwoLists,
    /// Multi-generational LRU (`CONFIG_LRU_GEN`, 6.1 and later).
    Mglru,
}

/// A memory cgroup: page cache is charged to the one whose task brought it in.
#[derive(Clone, Debug, PartialEq)]
pub struct CgroupSpec {
    pub name: String,
    /// Page cache that fits, bytes (the limit less what the tasks' own memory takes).
    pub bytes: u64,
}

pub struct DiskSpec {
    pub label: String,
    pub disk: Box<dyn Disk>,
    /// `read_ahead_kb` at the start.
    pub read_ahead: Kib,
    pub filesystem: FileSystem,
}

/// A file; files lie one after the other on their disk.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSpec {
    pub disk: usize,
    pub bytes: u64,
}

/// A file that a task has open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenSpec {
    /// Index into [`Spec::files`].
    pub file: usize,
    /// Advice given right after opening.
    pub advice: Option<Fadvice>,
}

/// A mapping of a part of an open file; starts at an address aligned like page 0 of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSpec {
    /// Index into [`TaskSpec::files`].
    pub open: usize,
    pub page: u64,
    pub pages: u64,
    pub advice: Option<Madvice>,
}

pub struct TaskSpec {
    pub name: String,
    /// Index into [`Spec::cgroups`].
    pub cgroup: usize,
    pub files: Vec<OpenSpec>,
    pub maps: Vec<MapSpec>,
    pub start: Nanos,
    pub program: Box<dyn Program>,
}

/// Something that the outer world does at a point in time.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A person writes the knob.
    AdminWrites {
        disk: usize,
        value: Kib,
    },
    /// The kernel recomputes the knob because queue limits changed.
    KernelRaises {
        disk: usize,
        value: Kib,
        limits: QueueLimits,
    },
    MemoryLimit {
        cgroup: usize,
        bytes: u64,
    },
    /// From now on every request takes `latency` times as long, and bandwidth and IOPS are divided by `slowdown`.
    Degrade {
        disk: usize,
        latency: f64,
        slowdown: f64,
    },
    DropCaches,
    /// The sensor goes blind on a disk (`false`) and sees again (`true`).
    Sensor {
        disk: usize,
        sees: bool,
    },
    /// PSI memory `some avg10`, percent.
    MemoryPressure {
        percent: f64,
    },
}

/// One run, complete: equal specs give equal reports.
pub struct Spec {
    pub name: String,
    pub seed: u64,
    pub kernel: Generation,
    pub reclaim: Reclaim,
    pub cgroups: Vec<CgroupSpec>,
    pub disks: Vec<DiskSpec>,
    pub files: Vec<FileSpec>,
    pub tasks: Vec<TaskSpec>,
    pub happenings: Vec<(Nanos, Happening)>,
    /// The run ends here, or when all tasks are over.
    pub end: Nanos,
    /// Relative error of the sensor's weighted counters (it samples), standard deviation; 0 for exact.
    pub sensor_noise: f64,
    /// From the end of I/O to the waiting task's next instruction.
    pub wake: Nanos,
    /// Names of the phases, by the number in [`Op::Phase`](crate::workload::Op::Phase).
    pub phases: Vec<String>,
}

/// Who sets `read_ahead_kb`.
pub enum Control<'a> {
    /// Nobody: every disk keeps its starting value.
    Default,
    /// One value on every disk from the start, open files reached.
    Static(Kib),
    /// A value for each phase (by number), switched the moment a phase begins, running streams reached: the per-phase oracle.
    PerPhase(Vec<Kib>),
    /// keepahead: the agent's `step` with this policy, ticking as the agent does.
    Keepahead { policy: &'a dyn Policy, settings: Settings },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_between_two_generations_is_the_older() {
        for (release, wanted) in [
            ("6.18.5-arch1", Some(Generation::V6_18)),
            ("6.17.0", Some(Generation::V6_12)),
            ("5.15.0-91-generic", Some(Generation::V5_10)),
            ("8.0", Some(Generation::V7_2)),
            ("4.19.0", None),
            ("nonsense", None),
        ] {
            assert_eq!(Generation::of_release(release), wanted, "{release}");
        }
    }
}
