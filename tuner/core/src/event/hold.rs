// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why nothing is done: said once, whatever becomes of the figures in it.

use super::Pattern;
use crate::device::BdiName;
use crate::units::{Kib, Nanos};
use serde::{Deserialize, Serialize};

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// Too little was demanded to learn anything.
    NoDemand,
    /// The window is not full yet.
    Gathering,
    /// The sensor does not see enough for a trial.
    Sensor {
        missing: String,
    },
    /// The policy has nothing better to offer.
    Abstained {
        pattern: Pattern,
        reason: String,
    },
    /// All candidates around the present value were tried in this pattern.
    Settled {
        pattern: Pattern,
    },
    CoolingDown {
        until: Nanos,
    },
    TrialsPerHour {
        limit: u32,
    },
    /// A device on the same disk is on trial.
    SharedDisk {
        with: BdiName,
    },
    MemoryPressure {
        some_avg10: f64,
        limit: f64,
    },
    Refaults {
        per_s: f64,
        limit: f64,
    },
    /// A smaller window is wanted while a cache that may hold everything fills: the larger one fills it sooner.
    Filling,
    /// The candidate is outside the bounds after clamping.
    Bounds {
        wanted: Kib,
        floor: Kib,
        ceiling: Kib,
    },
    HandsOff,
    /// A person fixed the value.
    Pinned {
        value: Kib,
    },
    /// A person paused the loop.
    Paused,
    /// Streams still run with the windows of a larger value that was taken back.
    LeftOver,
}

impl Hold {
    /// Whether it is the same reason, though figures in it may have moved: under memory pressure each tick has another.
    pub fn is_as(&self, other: &Hold) -> bool {
        let words = |text: &str| text.split(|c: char| c.is_ascii_digit() || c == '.').collect::<String>();
        match (self, other) {
            (Hold::MemoryPressure { .. }, Hold::MemoryPressure { .. }) | (Hold::Refaults { .. }, Hold::Refaults { .. }) => true,
            (Hold::Abstained { pattern: a, reason: one }, Hold::Abstained { pattern: b, reason: two }) => {
                a == b && words(one) == words(two)
            }
            _ => self == other,
        }
    }
}
