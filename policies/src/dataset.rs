// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data set: what the one who labels (`keepahead train`) hands to the one who fits ([`crate::train`]).
//!
//! One row is one observed span of a run at one window size, with what every size would have given. Names are there to leave
//! whole families, devices and kernels out of a split; no model sees them.

use keepahead_core::event::Pattern;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Names of what the run was: whole families are left out in splits, never windows of one run.
    pub workload: String,
    pub family: String,
    pub device: String,
    pub kernel: String,
    pub memory_mib: u32,
    /// Number of the run; all its rows go to the same side of a split.
    pub run: u32,
    /// Ground-truth pattern of the generator.
    pub pattern: Pattern,
    /// Window in force while the features were observed, KiB.
    pub kib: u32,
    /// [`features::vector`](crate::features::vector) of the span.
    pub features: Vec<f64>,
    /// What each size gives in steady state.
    pub labels: Vec<Label>,
}

/// What one window size gives in steady state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    pub kib: u32,
    /// Time that tasks wait per demanded MiB, ns.
    pub stall_ns_per_mib: f64,
    /// Hits per demanded page, 0 to 1.
    pub hit_ratio: f64,
    /// Speculative pages evicted unused.
    pub pollution_mib_per_s: f64,
    /// Demanded MiB a second.
    pub throughput_mib_per_s: f64,
}

impl Row {
    /// The label of one size, where it was measured.
    pub fn label(&self, kib: u32) -> Option<&Label> {
        self.labels.iter().find(|l| l.kib == kib)
    }
}
