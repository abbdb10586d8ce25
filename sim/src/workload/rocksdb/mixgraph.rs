// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keys of `mixgraph`: takes random numbers, gives blocks of the database. Ranges of keys differ in how hot they are (two-term
//! exponential), keys in a range by a power law. Parameters: those that `db_bench`'s documentation gives for "prefix_dist"
//! (`--keyrange_dist_a=14.18 …`), from Cao et al., FAST 2020.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256StarStar;

/// `--keyrange_num`.
const RANGES: usize = 30;
/// `--keyrange_dist_a` to `_d`: the range of rank x has weight a·e^(bx) + c·e^(dx).
const RANGE_DIST: (f64, f64, f64, f64) = (14.18, -2.917, 0.0164, -0.08082);
/// `--key_dist_a`, `--key_dist_b`.
const KEY_DIST: (f64, f64) = (0.002312, 0.3467);
/// `--iter_k`, `--iter_sigma`: scan lengths are generalised Pareto, at most `mix_max_scan_len`.
const SCAN: (f64, f64, f64) = (2.517, 14.236, 10_000.0);
/// `--mix_get_ratio`, `--mix_put_ratio`; the rest are scans.
pub const GET: f64 = 0.85;
pub const PUT: f64 = 0.14;

pub struct Mixgraph {
    /// Sum of the weights up to each range, and where the range lies.
    ranges: Vec<(f64, u64)>,
    per_range: u64,
    blocks: u64,
}

impl Mixgraph {
    pub fn new(blocks: u64, rng: &mut Xoshiro256StarStar) -> Mixgraph {
        let (a, b, c, d) = RANGE_DIST;
        let mut places: Vec<u64> = (0..RANGES as u64).collect();
        places.shuffle(rng);
        let mut sum = 0.0;
        let weigh = |(x, place): (usize, u64)| {
            sum += a * (b * (x + 1) as f64).exp() + c * (d * (x + 1) as f64).exp();
            (sum, place)
        };
        let ranges = places.into_iter().enumerate().map(weigh).collect();
        Mixgraph { ranges, per_range: (blocks / RANGES as u64).max(1), blocks }
    }

    pub fn block(&self, rng: &mut Xoshiro256StarStar) -> u64 {
        let total = self.ranges[RANGES - 1].0;
        let x = rng.r#gen::<f64>() * total;
        let range = self.ranges.partition_point(|(sum, _)| *sum < x).min(RANGES - 1);
        // Inverse of the power law's distribution function, folded into the range as db_bench does.
        let (a, b) = KEY_DIST;
        let key = (rng.r#gen::<f64>() / a).powf(1.0 / b) as u64;
        // Fewer blocks than ranges: some ranges lie in one block.
        (self.ranges[range].1 * self.per_range + key % self.per_range) % self.blocks
    }
}

/// Entries that a scan reads.
pub fn scan_length(rng: &mut Xoshiro256StarStar) -> u64 {
    let (k, sigma, most) = SCAN;
    let u: f64 = 1.0 - rng.r#gen::<f64>();
    (sigma * (u.powf(-k) - 1.0) / k).ceil().min(most) as u64
}
