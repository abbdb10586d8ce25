// SPDX-License-Identifier: MIT OR Apache-2.0
//! The words of advice for regions of a workload's mappings: what is sensed of a region, what a trial changes, what a process is told.

use crate::device::BdiName;
use crate::event::Arm;
use crate::sample::Counters;
use serde::{Deserialize, Serialize};

/// What `madvise(2)` can tell the kernel of how a mapping will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    Normal,
    Random,
    Sequential,
}

impl Advice {
    /// As the control socket spells it.
    pub fn word(self) -> &'static str {
        match self {
            Advice::Normal => "normal",
            Advice::Random => "random",
            Advice::Sequential => "sequential",
        }
    }
}

/// What is known of a region at a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionTick {
    pub region: u32,
    /// Cumulative, of faults in this region alone.
    pub counters: Counters,
    /// What the process has said to be in force; `None` while an order is under way.
    pub in_force: Option<Advice>,
    /// The process could not carry out an order: it gets none any more.
    pub refused: bool,
}

/// An order for the process that mapped the region, which alone may give this advice.
#[derive(Clone, Debug, PartialEq)]
pub struct AdviceOrder {
    pub bdi: BdiName,
    pub region: u32,
    pub advice: Advice,
    pub why: String,
}

/// What a trial changes instead of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub region: u32,
    pub to: Advice,
}

impl Change {
    /// Advice is only ever tried against none.
    pub fn of(self, arm: Arm) -> Advice {
        if arm == Arm::New { self.to } else { Advice::Normal }
    }
}
