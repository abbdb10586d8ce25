// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads a device with direct reads: takes the situations to try and a time, gives how many reads ended and how long each took. One
//! thread a read in flight: up to the 32 that are needed here, that is as good as asynchronous I/O and works on every kernel.

use super::{CalibrateError, Target};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A situation: reads of one size, so many in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub depth: usize,
    pub bytes: u64,
    pub random: bool,
}

/// What was measured in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub spot: Spot,
    /// Reads a second.
    pub rate: f64,
    /// Latency of every read, seconds, ascending; never empty.
    pub latencies: Vec<f64>,
}

impl Point {
    pub fn mb_per_s(&self) -> f64 {
        self.rate * self.spot.bytes as f64 / 1e6
    }

    /// The latency that a share `p` of the reads stayed within, seconds.
    pub fn quantile(&self, p: f64) -> f64 {
        self.latencies[((self.latencies.len() - 1) as f64 * p).round() as usize]
    }
}

const fn spot(depth: usize, kib: u64, random: bool) -> Spot {
    Spot { depth, bytes: kib << 10, random }
}

/// Latency by size, IOPS by depth, bandwidth by depth, random and sequential.
pub const PLAN: [Spot; 11] = [
    spot(1, 4, true),
    spot(1, 4, false),
    spot(1, 64, true),
    spot(1, 512, true),
    spot(1, 1024, false),
    spot(4, 4, true),
    spot(16, 4, true),
    spot(32, 4, true),
    spot(8, 128, true),
    spot(4, 1024, false),
    spot(16, 1024, false),
];

const LEAST: u64 = 64 << 20;

/// Measures all of [`PLAN`], `total` divided among its spots; `said` is told each point as it is there.
pub fn measure(target: &Target, total: Duration, mut said: impl FnMut(&Point)) -> Result<Vec<Point>, CalibrateError> {
    let path = target.path.clone();
    if target.bytes < LEAST {
        return Err(CalibrateError::TooSmall { path, bytes: target.bytes, least: LEAST });
    }
    let open = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let file = open.map_err(|source| CalibrateError::Io { path, source })?;
    let each = total / PLAN.len() as u32;
    PLAN.iter().map(|spot| at(&file, target, *spot, each).inspect(&mut said)).collect()
}

fn at(file: &File, target: &Target, spot: Spot, time: Duration) -> Result<Point, CalibrateError> {
    let cursor = AtomicU64::new(0);
    let start = Instant::now();
    let read = |n| reader(file, target, spot, n, &cursor, start + time);
    let all: Result<Vec<Vec<f64>>, CalibrateError> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..spot.depth).map(|n| scope.spawn(move || read(n))).collect();
        // A reader that panics takes the whole measurement down: there is nothing to report without it.
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut latencies = all?.concat();
    latencies.sort_by(f64::total_cmp);
    if latencies.is_empty() {
        return Err(CalibrateError::TooSlow { path: target.path.clone(), bytes: spot.bytes, seconds });
    }
    Ok(Point { spot, rate: latencies.len() as f64 / seconds, latencies })
}

/// One read after the other until the time is over; the latency of each.
fn reader(
    file: &File,
    target: &Target,
    spot: Spot,
    number: usize,
    cursor: &AtomicU64,
    end: Instant,
) -> Result<Vec<f64>, CalibrateError> {
    const ALIGN: usize = 4096;
    let mut buffer = vec![0u8; spot.bytes as usize + ALIGN];
    // Direct I/O wants aligned memory; a whole read lies behind the first border.
    let skip = buffer.as_ptr().align_offset(ALIGN);
    let place = &mut buffer[skip..skip + spot.bytes as usize];
    let places = target.bytes / spot.bytes;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(number as u64);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let index = if spot.random { rng.gen_range(0..places) } else { cursor.fetch_add(1, Ordering::Relaxed) % places };
        let offset = index * spot.bytes;
        let start = Instant::now();
        file.read_exact_at(place, offset).map_err(|source| CalibrateError::Read {
            path: target.path.clone(),
            offset,
            bytes: spot.bytes,
            source,
        })?;
        latencies.push(start.elapsed().as_secs_f64());
    }
    Ok(latencies)
}
