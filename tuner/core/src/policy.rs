// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a policy is: features and what was tried in, a proposal or an abstention with its reason out. It sees no clock and writes
//! nothing.

use crate::event::{Outcome, Pattern, Proposal};
use crate::features::Features;
use crate::known::Known;
use crate::units::Kib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of a value in the present pattern.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// `Void`: nothing was decided, and it may be tried once more.
    pub outcome: Outcome,
    /// Stall at this value over stall at the value it was tried against, where a trial could tell.
    pub stall_ratio: Option<f64>,
}

/// All that a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub features: &'a Features,
    pub current: Kib,
    /// Values that a trial has rejected in this pattern or left undecided, or that a kept one has replaced.
    pub tried: &'a BTreeMap<Kib, Tried>,
    /// What earlier trials on this device have taught, in this pattern and in others.
    pub known: &'a BTreeMap<Pattern, Known>,
    pub floor: Kib,
    pub ceiling: Kib,
    pub min_demand: f64,
    pub min_stall_share: f64,
    /// The window that the features are of is whole. Before that only a proposal counts, see [`Policy::slots_needed`].
    pub whole: bool,
}

impl Context<'_> {
    /// A value that a trial may be asked for: within the bounds, a power of two, neither the present one nor one of which a trial has said all.
    pub fn may_try(&self, kib: Kib) -> bool {
        let bounds = self.floor..=self.ceiling;
        kib != self.current && bounds.contains(&kib) && kib.0.is_power_of_two() && !self.is_tried(kib)
    }

    /// A trial has said what there is to say of this value.
    pub fn is_tried(&self, kib: Kib) -> bool {
        self.tried.get(&kib).is_some_and(|tried| tried.outcome != Outcome::Void)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Propose(Proposal),
    Abstain {
        pattern: Pattern,
        reason: String,
    },
    /// Every candidate worth a trial was tried.
    Settled {
        pattern: Pattern,
    },
}

impl Decision {
    pub fn pattern(&self) -> Pattern {
        match self {
            Decision::Propose(p) => p.pattern,
            Decision::Abstain { pattern, .. } | Decision::Settled { pattern } => *pattern,
        }
    }
}

pub trait Policy {
    /// Name and version, as written to the journal.
    fn name(&self) -> &'static str;
    fn decide(&self, context: &Context) -> Decision;

    /// Full slots (seconds) after which it may be sure enough to propose something, of the `whole` window's. One that says nothing of
    /// how sure it is waits for the whole window.
    fn slots_needed(&self, whole: u32) -> u32 {
        whole
    }
}
