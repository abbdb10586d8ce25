// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk in virtual time: when is each part of a read there? Takes contiguous reads in ascending order of submission time, splits
//! them into requests as the block layer does, and answers at once with each request's time of completion. No events, no queue to
//! drain: everything that is in flight is known by its completion time.

mod bucket;
mod check;
mod fixed;
mod latency;
mod model;
mod profile;
#[cfg(test)]
mod tests;
mod throttle;

pub use bucket::BucketLimits;
pub use fixed::Fixed;
pub use profile::{FirstTouch, Latency, Profile, ProfileError, Rotational};
pub use throttle::{Throttle, ThrottleLimits};

use keepahead_core::device::QueueLimits;
use keepahead_core::units::Nanos;

/// One request of a read: `bytes` that are there at `done`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: u64,
    pub done: Nanos,
}

/// What a disk did so far: the same figures as `/proc/diskstats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    pub reads: u64,
    pub read_bytes: u64,
    /// Sum of latencies, ns.
    pub read_ns: u64,
    pub writes: u64,
    pub write_bytes: u64,
}

/// A device model.
pub trait Disk: Send {
    /// Reads `bytes` at byte `offset`, submitted at `now`; appends the requests that became of it to `pieces`, in ascending offset.
    fn read(&mut self, now: Nanos, offset: u64, bytes: u64, pieces: &mut Vec<Piece>);
    /// Writes `bytes` at byte `offset`; when they are stable.
    fn write(&mut self, now: Nanos, offset: u64, bytes: u64) -> Nanos;
    /// From now on latencies are `latency` times, bandwidth and rates one `slowdown`th of what they are when healthy. Both above 0;
    /// `degrade(1.0, 1.0)` heals.
    fn degrade(&mut self, latency: f64, slowdown: f64);
    fn limits(&self) -> QueueLimits;
    fn stats(&self) -> DiskStats;
}
