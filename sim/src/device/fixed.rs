// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simplest disk: every read takes the same time, any number at once. For scripts that are compared with a real kernel, where only
//! the order of things counts, and for measuring the simulator itself.

use super::{Disk, DiskStats, Piece};
use keepahead_core::device::QueueLimits;
use keepahead_core::units::Nanos;

pub struct Fixed {
    pub latency: Nanos,
    pub max_sectors_kb: u32,
    stats: DiskStats,
}

impl Fixed {
    pub fn new(latency: Nanos, max_sectors_kb: u32) -> Fixed {
        Fixed { latency, max_sectors_kb, stats: DiskStats::default() }
    }
}

impl Disk for Fixed {
    fn read(&mut self, now: Nanos, _offset: u64, bytes: u64, pieces: &mut Vec<Piece>) {
        self.stats.reads += 1;
        self.stats.read_bytes += bytes;
        self.stats.read_ns += self.latency.0;
        pieces.push(Piece { bytes, done: now + self.latency });
    }

    fn write(&mut self, now: Nanos, _offset: u64, bytes: u64) -> Nanos {
        self.stats.writes += 1;
        self.stats.write_bytes += bytes;
        now + self.latency
    }

    fn degrade(&mut self, latency: f64, _slowdown: f64) {
        self.latency = Nanos((self.latency.0 as f64 * latency) as u64);
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits { max_sectors_kb: self.max_sectors_kb, ..QueueLimits::default() }
    }

    fn stats(&self) -> DiskStats {
        self.stats
    }
}
