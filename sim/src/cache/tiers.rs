// SPDX-License-Identifier: MIT OR Apache-2.0
//! The controller of the multi-generational LRU: reads through file descriptors put a folio of the oldest generation into a tier, and
//! tiers that refault more than the first are protected from eviction (`read_ctrl_pos`, `positive_ctrl_err` of `mm/vmscan.c`).

use super::mglru::ISOLATE;

pub const TIERS: usize = 4;

/// What the controller knows of a tier: in the oldest generation so far, and averaged over those before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tier {
    pub refaulted: u64,
    pub evicted: u64,
    /// Kept although its turn had come.
    pub protected: u64,
    average_refaulted: u64,
    average_total: u64,
}

impl Tier {
    fn refaults(&self) -> u64 {
        self.average_refaulted + self.refaulted
    }

    fn total(&self) -> u64 {
        self.average_total + self.evicted + self.protected
    }

    /// A new oldest generation: the past weighs half.
    pub fn carry_over(&mut self) {
        *self = Tier { average_refaulted: self.refaults() / 2, average_total: self.total() / 2, ..Tier::default() };
    }
}

/// A tier holds folios with up to 0, 1, 3 and 4 reads beyond the first.
pub fn tier(refs: u8) -> usize {
    [0, 1, 2, 2, 3][usize::from(refs.min(4))]
}

/// The highest tier that is not protected: those above it refaulted at least twice as often as the first (`get_tier_idx`).
pub fn evictable(tiers: &[Tier; TIERS]) -> usize {
    let first = &tiers[0];
    let spared = tiers[1..].iter().position(|t| {
        t.refaults() >= ISOLATE && t.refaults() * (first.total() + ISOLATE) > (first.refaults() + 1) * t.total() * 2
    });
    spared.unwrap_or(TIERS - 1)
}
