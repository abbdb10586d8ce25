// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other active devices during a trial: takes their counters at the borders of the trial's blocks, gives each one's log stall by block,
//! so that a gain here that is paid for there is seen.

use crate::device::BdiName;
use crate::event::Arm;
use crate::matched::compare;
use crate::window::{Mark, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Elsewhere(BTreeMap<BdiName, Other>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Other {
    since: Option<Mark>,
    blocks: Vec<Span>,
}

impl Elsewhere {
    /// A block of the trial begins to be measured.
    pub fn begin(&mut self, others: &[(BdiName, Mark)]) {
        for (bdi, at) in others {
            self.0.entry(bdi.clone()).or_default().since = Some(*at);
        }
    }

    /// It has ended.
    pub fn end(&mut self, others: &[(BdiName, Mark)]) {
        for (bdi, at) in others {
            let other = self.0.entry(bdi.clone()).or_default();
            let span = other.since.take().map_or(Span::default(), |since| since.until(at));
            other.blocks.push(span);
        }
    }

    /// Log stall of every device's blocks against all its blocks of the old value, where they can be compared.
    pub fn log_stalls(&self, arms: &[Arm]) -> Vec<Vec<(Arm, f64)>> {
        let of = |other: &Other| {
            let blocks = || arms.iter().copied().zip(&other.blocks);
            let old = blocks().filter(|(arm, _)| *arm == Arm::Old).fold(Span::default(), |sum, (_, span)| sum.plus(span));
            blocks().filter_map(|(arm, span)| compare(span, &old).map(|c| (arm, c.log_stall))).collect()
        };
        self.0.values().map(of).collect()
    }
}
