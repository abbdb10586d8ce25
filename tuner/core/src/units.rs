// SPDX-License-Identifier: MIT OR Apache-2.0
//! One unit a name, and every conversion between them in this one file.
//!
//! `read_ahead_kb` counts KiB, `blockdev --setra` counts 512-byte sectors, `ra_pages` in the kernel counts pages: mixing them up
//! is the most common mistake of tools in this field.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Page size that the kernel's page-cache indices count in. x86-64 and most arm64 kernels: 4096 bytes.
pub const PAGE_BYTES: u64 = 4096;

/// KiB, the unit of `read_ahead_kb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kib(pub u32);

impl Kib {
    /// The same size in pages, rounded down as the kernel does on a write to `read_ahead_kb`.
    pub const fn pages(self) -> u64 {
        self.0 as u64 * 1024 / PAGE_BYTES
    }

    /// The nearest power of two not above this value (at least 1). Since Linux 6.16 other values lose the alignment of windows.
    pub fn floor_power_of_two(self) -> Kib {
        if self.0 == 0 { Kib(1) } else { Kib(1 << (31 - self.0.leading_zeros())) }
    }
}

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.0)
    }
}

/// Nanoseconds of a monotonic clock: a point in time or a span, counted from an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const fn from_millis(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }
    pub const fn from_secs(s: u64) -> Nanos {
        Nanos(s * 1_000_000_000)
    }
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// The span from `earlier` to this point, zero where the order is reversed.
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Nanos {
    type Output = Nanos;
    fn add(self, span: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(span.0))
    }
}

impl Sub for Nanos {
    type Output = Nanos;
    fn sub(self, span: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(span.0))
    }
}

impl From<Duration> for Nanos {
    fn from(d: Duration) -> Nanos {
        Nanos(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(n: Nanos) -> Duration {
        Duration::from_nanos(n.0)
    }
}

/// Bytes in MiB, for display and for budgets in MiB/s.
pub fn mib(bytes: f64) -> f64 {
    bytes / (1024.0 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kib_to_pages_rounds_down_as_the_kernel_does() {
        assert_eq!(Kib(128).pages(), 32);
        assert_eq!(Kib(5).pages(), 1);
        assert_eq!(Kib(3).pages(), 0);
    }

    #[test]
    fn floor_power_of_two() {
        for (given, wanted) in [(0, 1), (1, 1), (5, 4), (160, 128), (2560, 2048), (u32::MAX, 1 << 31)] {
            assert_eq!(Kib(given).floor_power_of_two(), Kib(wanted));
        }
    }
}
