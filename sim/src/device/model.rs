// SPDX-License-Identifier: MIT OR Apache-2.0
//! The disk that a [`Profile`] describes. A request passes, in this order: split by size, blk-throttle, merging into the request before
//! it, the provider's credits, a channel (latency, arm, first touch), and the link that all requests share.
//!
//! Everything is answered at submission, so order within the device is order of submission: no elevator, no reordering by position.

use super::bucket::Bucket;
use super::latency::Draw;
use super::profile::{Profile, Rotational};
use super::throttle::Throttle;
use super::{Disk, DiskStats, Piece};
use keepahead_core::device::QueueLimits;
use keepahead_core::units::Nanos;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

pub(super) struct Model {
    profile: Profile,
    rng: Xoshiro256PlusPlus,
    latency: Draw,
    random_latency: Draw,
    throttle: Option<Throttle>,
    iops: Option<Bucket>,
    bytes: Option<Bucket>,
    /// When each channel is free.
    channels: BinaryHeap<Reverse<Nanos>>,
    /// When the shared link has moved everything that it was given.
    link: Nanos,
    touched: HashSet<u64>,
    last: Option<Last>,
    slower: Degraded,
    stats: DiskStats,
}

/// The request before: what a merge, an arm and a sequential read depend on.
struct Last {
    submitted: Nanos,
    end: u64,
    bytes: u64,
    done: Nanos,
}

struct Degraded {
    latency: f64,
    rate: f64,
}

fn nanos(seconds: f64) -> Nanos {
    Nanos((seconds * 1e9).round() as u64)
}

impl Model {
    pub(super) fn new(profile: Profile, seed: u64) -> Model {
        Model {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            latency: Draw::new(&profile.latency),
            random_latency: Draw::new(profile.random_latency.as_ref().unwrap_or(&profile.latency)),
            throttle: profile.throttle.map(Throttle::new),
            iops: profile.iops.map(Bucket::new),
            bytes: profile.bytes.map(Bucket::new),
            channels: (0..profile.channels).map(|_| Reverse(Nanos(0))).collect(),
            link: Nanos(0),
            touched: HashSet::new(),
            last: None,
            slower: Degraded { latency: 1.0, rate: 1.0 },
            stats: DiskStats::default(),
            profile,
        }
    }

    /// One request behind the throttle: whether it is one of its own (and not merged), and when it is done.
    fn request(&mut self, now: Nanos, offset: u64, bytes: u64) -> (bool, Nanos) {
        let continues = self.last.as_ref().is_some_and(|last| last.end == offset);
        if let Some(last) = self.last.as_ref().filter(|last| continues && self.merges(last, now, bytes)) {
            let (submitted, before, started) = (last.submitted, last.bytes, last.done);
            let admitted = self.admit(now, 0.0, bytes);
            let done = self.transfer(started.max(admitted), admitted, bytes);
            self.last = Some(Last { submitted, end: offset + bytes, bytes: before + bytes, done });
            return (false, done);
        }
        let unit = u64::from(self.profile.iops_unit_kb) << 10;
        let cost = if unit == 0 { 1 } else { bytes.div_ceil(unit) };
        let admitted = self.admit(now, cost as f64, bytes);
        // There is always a channel: a profile has at least one.
        let free = self.channels.pop().map_or(Nanos(0), |Reverse(free)| free);
        let start = admitted.max(free);
        let latency = self.access(offset, bytes, continues);
        let done = self.transfer(start + latency, start, bytes);
        self.channels.push(Reverse(done));
        self.last = Some(Last { submitted: now, end: offset + bytes, bytes, done });
        (true, done)
    }

    fn merges(&self, last: &Last, now: Nanos, bytes: u64) -> bool {
        let plug = Nanos((self.profile.plug_us * 1e3) as u64);
        now.since(last.submitted) <= plug && last.bytes + bytes <= u64::from(self.profile.max_sectors_kb) << 10
    }

    /// The provider's limits.
    fn admit(&mut self, now: Nanos, cost: f64, bytes: u64) -> Nanos {
        let by_iops = self.iops.as_mut().map_or(now, |bucket| bucket.admit(now, cost));
        self.bytes.as_mut().map_or(now, |bucket| bucket.admit(now, bytes as f64)).max(by_iops)
    }

    /// Time to the first byte.
    fn access(&mut self, offset: u64, bytes: u64, continues: bool) -> Nanos {
        let draw = if continues { &self.latency } else { &self.random_latency };
        let mut seconds = draw.sample(&mut self.rng);
        if let Some(arm) = self.profile.rotational.filter(|_| !continues) {
            let from = self.last.as_ref().map_or(0, |last| last.end);
            seconds += seek(&arm, from.abs_diff(offset)) + self.rng.gen_range(0.0..60.0 / arm.rpm);
        }
        if let Some(touch) = self.profile.first_touch {
            let block = u64::from(touch.block_kb) << 10;
            let new = (offset / block..=(offset + bytes - 1) / block).filter(|b| self.touched.insert(*b)).count();
            // The blocks of one request are fetched together.
            seconds += if new > 0 { touch.latency_ms / 1e3 } else { 0.0 };
        }
        nanos(seconds * self.slower.latency)
    }

    /// Moves bytes that are ready at `ready`, over the link that a request may use from `start`; when they are there.
    ///
    /// The link is charged from the start of service, not from the first byte, so that one slow request does not hold up the others.
    fn transfer(&mut self, ready: Nanos, start: Nanos, bytes: u64) -> Nanos {
        let seconds = |mb: f64| bytes as f64 / (mb * 1e6) * self.slower.rate;
        let alone = seconds(self.profile.request_mb.unwrap_or(self.profile.bandwidth_mb));
        self.link = self.link.max(start) + nanos(seconds(self.profile.bandwidth_mb));
        (ready + nanos(alone)).max(self.link)
    }

    /// Splits, and calls `each` with the parts: their bytes, when they got past the throttle, and the rest as [`Model::request`] says.
    fn split(&mut self, now: Nanos, offset: u64, bytes: u64, throttled: bool, mut each: impl FnMut(u64, Nanos, bool, Nanos)) {
        let largest = u64::from(self.profile.max_sectors_kb) << 10;
        let (mut at, mut charged) = (0, bytes);
        while at < bytes {
            let part = largest.min(bytes - at);
            let admitted = match &mut self.throttle {
                Some(throttle) if throttled => throttle.admit(now, std::mem::take(&mut charged)),
                _ => now,
            };
            let (own, done) = self.request(admitted, offset + at, part);
            each(part, admitted, own, done);
            at += part;
        }
    }
}

fn seek(arm: &Rotational, distance: u64) -> f64 {
    let part = (distance as f64 / (arm.capacity_gb * 1e9)).min(1.0);
    (arm.track_seek_ms + (arm.full_seek_ms - arm.track_seek_ms) * part.sqrt()) / 1e3
}

impl Disk for Model {
    fn read(&mut self, now: Nanos, offset: u64, bytes: u64, pieces: &mut Vec<Piece>) {
        let mut stats = self.stats;
        self.split(now, offset, bytes, true, |bytes, admitted, own, done| {
            stats.reads += u64::from(own);
            stats.read_bytes += bytes;
            // A throttled bio is not a request yet: /proc/diskstats does not count its wait. A merged one waits in the request before.
            stats.read_ns += if own { done.since(admitted).0 } else { 0 };
            pieces.push(Piece { bytes, done });
        });
        self.stats = stats;
    }

    fn write(&mut self, now: Nanos, offset: u64, bytes: u64) -> Nanos {
        let (mut stats, mut last) = (self.stats, now);
        self.split(now, offset, bytes, false, |bytes, _, own, done| {
            stats.writes += u64::from(own);
            stats.write_bytes += bytes;
            last = last.max(done);
        });
        self.stats = stats;
        last
    }

    fn degrade(&mut self, latency: f64, slowdown: f64) {
        self.slower = Degraded { latency, rate: slowdown };
        if let (Some(throttle), Some(limits)) = (&mut self.throttle, self.profile.throttle) {
            throttle.slow_down(limits, slowdown);
        }
        for bucket in [&mut self.iops, &mut self.bytes].into_iter().flatten() {
            bucket.slow_down(slowdown);
        }
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            max_sectors_kb: self.profile.max_sectors_kb,
            optimal_io_bytes: self.profile.optimal_io_bytes,
            rotational: self.profile.rotational.is_some(),
        }
    }

    fn stats(&self) -> DiskStats {
        self.stats
    }
}
