// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contract between who makes data (simulator, recorded programs) and who learns from it: one row is one observed span of a run at
//! one window size, with what every size would have given.

use keepahead_core::event::Pattern;

#[derive(Clone, Debug, PartialEq)]
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
    /// `features::vector` of the span.
    pub features: Vec<f64>,
    /// What each size gives in steady state.
    pub labels: Vec<Label>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub kib: u32,
    pub stall_ns_per_mib: f64,
    /// 0 to 1.
    pub hit_ratio: f64,
    pub pollution_mib_per_s: f64,
    pub throughput_mib_per_s: f64,
}
