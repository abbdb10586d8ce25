// SPDX-License-Identifier: MIT OR Apache-2.0
//! blk-throttle, as cgroup `io.max` (v2) and `blkio.throttle.*` (v1) apply it: takes each bio with its time, gives the time at which it
//! may go on. Rules read in `block/blk-throttle.c` of Linux 7.2, whose accounting is also that of 6.18 (up to 6.12 one spare slice less
//! is kept, which moves waits by a tick).
//!
//! Time counts in ticks and budgets in slices of a tenth of a second: a whole slice's budget may leave at once, then everything waits
//! for the next slice. So a throttled device is not slow, it is fast and then stands still; that shapes every latency behind it.

use keepahead_core::units::Nanos;
use serde::{Deserialize, Serialize};

/// Limits of one cgroup on one device, for reads. 0 stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleLimits {
    /// Bios a second, each part of a split bio counted.
    pub iops: u32,
    pub bytes_per_s: u64,
    /// Ticks a second of the kernel: `CONFIG_HZ`, 250 on Debian and Ubuntu before 24.10.
    pub hz: u32,
}

impl Default for ThrottleLimits {
    fn default() -> ThrottleLimits {
        ThrottleLimits { iops: 0, bytes_per_s: 0, hz: 250 }
    }
}

/// The state of a throttled group: bios leave in the order in which they came.
#[derive(Clone, Debug)]
pub struct Throttle {
    iops: u64,
    bytes_per_s: u64,
    hz: u64,
    /// Ticks a slice.
    slice: u64,
    /// The slice in force, in ticks, and what left in it.
    start: u64,
    end: u64,
    bytes: u64,
    ios: u64,
    /// When the last bio left: until then the queue is not empty.
    free: Nanos,
}

impl Throttle {
    /// `limits.hz` must be at least 10, which [`Profile::check`](super::Profile::check) sees to.
    pub fn new(limits: ThrottleLimits) -> Throttle {
        let hz = u64::from(limits.hz);
        let iops = u64::from(limits.iops);
        Throttle {
            iops,
            bytes_per_s: limits.bytes_per_s,
            hz,
            slice: hz / 10,
            start: 0,
            end: 0,
            bytes: 0,
            ios: 0,
            free: Nanos(0),
        }
    }

    /// Both limits divided, from the next bio on.
    pub fn slow_down(&mut self, limits: ThrottleLimits, by: f64) {
        let divided = |limit: u64| if limit == 0 { 0 } else { ((limit as f64 / by) as u64).max(1) };
        self.iops = divided(u64::from(limits.iops));
        self.bytes_per_s = divided(limits.bytes_per_s);
    }

    /// When a bio of `bytes` that comes at `now` goes on. Later parts of a bio that the queue's limits split count as bios of 0 bytes:
    /// their bytes were charged with the first.
    pub fn admit(&mut self, now: Nanos, bytes: u64) -> Nanos {
        let mut at = now.max(self.free);
        let mut queued = now < self.free;
        // Bytes are asked first and charged before the bio waits for its turn among the IOs.
        if self.bytes_per_s > 0 && bytes > 0 {
            at = self.pass(at, &mut queued, |t, tick| t.byte_wait(tick, bytes));
            self.bytes += bytes;
        }
        if self.iops > 0 {
            at = self.pass(at, &mut queued, Throttle::io_wait);
            self.ios += 1;
        }
        self.trim(self.tick(at));
        self.free = at;
        at
    }

    /// Asks again at each timer until `wait` has nothing against it.
    fn pass(&mut self, mut at: Nanos, queued: &mut bool, wait: impl Fn(&Throttle, u64) -> u64) -> Nanos {
        loop {
            let tick = self.tick(at);
            if self.is_over(tick) && !*queued {
                (self.start, self.end, self.bytes, self.ios) = (tick, tick + self.slice, 0, 0);
            } else {
                self.extend(tick + self.slice);
            }
            let ticks = wait(self, tick);
            if ticks == 0 {
                return at;
            }
            self.extend(tick + ticks);
            *queued = true;
            // The timer wheel rounds up, so that no timer is early: one tick more (`calc_index`, kernel/time/timer.c).
            let end = u128::from(tick + ticks + 1) * 1_000_000_000 / u128::from(self.hz);
            at = Nanos(u64::try_from(end).unwrap_or(u64::MAX));
        }
    }

    /// Ticks until the bytes fit; 0 where they do.
    fn byte_wait(&self, tick: u64, bytes: u64) -> u64 {
        let elapsed = tick - self.start;
        let rounded = elapsed.max(1).next_multiple_of(self.slice);
        let (wanted, allowed) = (self.bytes + bytes, self.share(self.bytes_per_s, rounded));
        if wanted <= allowed {
            return 0;
        }
        let ticks = u128::from(wanted - allowed) * u128::from(self.hz) / u128::from(self.bytes_per_s);
        (ticks as u64).max(1) + (rounded - elapsed)
    }

    /// Ticks until one more IO fits; 0 where it does.
    fn io_wait(&self, tick: u64) -> u64 {
        let elapsed = tick - self.start;
        let rounded = (elapsed + 1).next_multiple_of(self.slice);
        if self.ios < self.share(self.iops, rounded) {
            return 0;
        }
        (rounded - elapsed).max(self.hz / self.iops + 1)
    }

    /// What a limit allows in so many ticks.
    fn share(&self, limit: u64, ticks: u64) -> u64 {
        u64::try_from(u128::from(limit) * u128::from(ticks) / u128::from(self.hz)).unwrap_or(u64::MAX)
    }

    fn tick(&self, at: Nanos) -> u64 {
        (u128::from(at.0) * u128::from(self.hz) / 1_000_000_000) as u64
    }

    fn is_over(&self, tick: u64) -> bool {
        tick > self.end || tick < self.start
    }

    fn extend(&mut self, tick: u64) {
        if self.end < tick {
            self.end = tick.next_multiple_of(self.slice);
        }
    }

    /// Forgets whole slices that are over, but for the last: what a late timer lost can still be used.
    fn trim(&mut self, tick: u64) {
        if self.is_over(tick) {
            return;
        }
        self.end = (tick + self.slice).next_multiple_of(self.slice);
        let slices = (tick - self.start) / self.slice;
        if slices < 2 {
            return;
        }
        let ticks = (slices - 1) * self.slice;
        let bytes = self.share(self.bytes_per_s, ticks).min(self.bytes);
        let ios = self.share(self.iops, ticks).min(self.ios);
        if bytes > 0 || ios > 0 {
            self.bytes -= bytes;
            self.ios -= ios;
            self.start += ticks;
        }
    }
}
