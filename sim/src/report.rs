// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run gives: figures in the terms of `docs/measures.md`, over the whole run, a phase and each second.

use keepahead_core::event::Record;
use keepahead_core::sample::Counters;
use keepahead_core::units::Kib;
use serde::{Deserialize, Serialize};

/// What happened in a span of virtual time on one disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub seconds: f64,
    /// The truth, in the sensor's terms: every page counted, none estimated, touches of mapped pages included.
    pub counters: Counters,
    /// Bytes that programs asked for and got: reads, and one page a touch.
    pub work_bytes: u64,
}

impl Figures {
    /// Throughput delivered to the programs, bytes a second.
    pub fn throughput(&self) -> f64 {
        if self.seconds > 0.0 { self.work_bytes as f64 / self.seconds } else { 0.0 }
    }

    /// Stall, ns per demanded page; `None` where nothing was demanded.
    pub fn stall_per_page(&self) -> Option<f64> {
        (self.counters.demanded() > 0).then(|| self.counters.stall_ns() as f64 / self.counters.demanded() as f64)
    }

    /// Read amplification: bytes read from the device per demanded byte that was not already cached.
    pub fn amplification(&self) -> Option<f64> {
        let c = &self.counters;
        let missed = c.read_miss + c.mmap_miss + c.spec_used;
        (missed > 0).then(|| c.dev_read_bytes as f64 / (missed * 4096) as f64)
    }

    /// Pollution, MiB a second.
    pub fn pollution(&self) -> f64 {
        if self.seconds > 0.0 { (self.counters.spec_evicted * 4096) as f64 / (1 << 20) as f64 / self.seconds } else { 0.0 }
    }

    pub fn plus(&self, other: &Figures) -> Figures {
        Figures {
            seconds: self.seconds + other.seconds,
            counters: self.counters.plus(&other.counters),
            work_bytes: self.work_bytes + other.work_bytes,
        }
    }
}

/// A change of a disk's `read_ahead_kb`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub at: f64,
    pub to: Kib,
    /// Who: `trial`, `revert`, `reapply`, `admin`, `kernel`, `oracle`.
    pub by: String,
}

/// One second of a run on one disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// End of the second, seconds since the start.
    pub at: f64,
    pub read_ahead: Kib,
    pub figures: Figures,
}

/// What a phase was, and how it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    pub name: String,
    pub from: f64,
    pub figures: Figures,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskReport {
    pub label: String,
    pub figures: Figures,
    pub phases: Vec<PhaseReport>,
    pub seconds: Vec<Second>,
    pub changes: Vec<Change>,
    /// Value at the end.
    pub read_ahead: Kib,
}

/// What each task got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    pub name: String,
    pub work_bytes: u64,
    pub stall_ns: u64,
    pub demanded: u64,
    pub hits: u64,
    /// When it was over, seconds; `None` where the run ended first.
    pub finished: Option<f64>,
}

/// One run under one control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub scenario: String,
    /// `default`, `static 128 KiB`, `per-phase oracle`, or the policy's name.
    pub control: String,
    pub seed: u64,
    pub seconds: f64,
    pub disks: Vec<DiskReport>,
    pub tasks: Vec<TaskReport>,
    /// What keepahead did and why; empty for other controls.
    pub records: Vec<Record>,
    /// Trials kept and not kept.
    pub kept: u32,
    pub reverted: u32,
    /// Interrupted before its end: the figures are those known so far.
    pub partial: bool,
}

impl Report {
    /// All disks together.
    pub fn total(&self) -> Figures {
        let mut sum = self.disks.iter().fold(Figures::default(), |sum, d| sum.plus(&d.figures));
        sum.seconds = self.seconds;
        sum
    }
}
