// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random places: single requests (uniform or zipf) and short runs. Takes files and a distribution, gives one request or one run a
//! piece.

use super::Op;
use super::distribution::{Distribution, random};
use super::pace::Work;
use super::place::{Access, Blocks, FileRef};
use keepahead_core::units::PAGE_BYTES;
use rand::Rng;
use rand_distr::{Distribution as _, Zipf};
use rand_xoshiro::Xoshiro256StarStar;
use std::collections::VecDeque;

/// Chooses a number below `count`.
pub enum Pick {
    Uniform(u64),
    /// Rank r with probability proportional to r^-exponent; ranks are scattered over the numbers, because popular records do not lie
    /// side by side.
    Zipf {
        ranks: Zipf<f64>,
        count: u64,
        step: u64,
    },
}

impl Pick {
    /// `exponent`: `None` for uniform. `count`: at least 1.
    pub fn new(count: u64, exponent: Option<f64>) -> Pick {
        match exponent.and_then(|e| Zipf::new(count, e).ok()) {
            None => Pick::Uniform(count.max(1)),
            Some(ranks) => Pick::Zipf { ranks, count, step: scatter(count) },
        }
    }

    pub fn draw(&self, rng: &mut Xoshiro256StarStar) -> u64 {
        match self {
            Pick::Uniform(count) => rng.gen_range(0..*count),
            Pick::Zipf { ranks, count, step } => {
                let rank = (ranks.sample(rng) as u64).clamp(1, *count);
                (u128::from(rank) * u128::from(*step) % u128::from(*count)) as u64
            }
        }
    }
}

/// A step that visits every number below `count` once, neighbours far apart: the golden section, made coprime.
fn scatter(count: u64) -> u64 {
    let mut step = ((count as f64 * 0.618_033_988_75) as u64).max(1);
    while greatest_common_divisor(step, count) != 1 {
        step += 1;
    }
    step
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Extents of one size at random places, aligned to it; each is demanded from start to end in requests.
pub struct Random {
    extents: Blocks,
    extent: u64,
    access: Access,
    request: u64,
    pick: Pick,
    rng: Xoshiro256StarStar,
}

impl Random {
    /// `extent` and `request` in bytes, equal where each place is one request; `zipf`: the exponent, `None` for uniform.
    pub fn new(files: Vec<FileRef>, access: Access, extent: u64, request: u64, zipf: Option<f64>, seed: u64) -> Random {
        let extents = Blocks::new(files, extent);
        let pick = Pick::new(extents.count(), zipf);
        Random { extents, extent, access, request, pick, rng: random(seed, 1) }
    }
}

impl Work for Random {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        let (file, offset) = self.extents.at(self.pick.draw(&mut self.rng));
        file.demand_in(self.access, self.request, offset, self.extent, ops);
    }
}

/// Short sequential runs that begin at random pages.
pub struct Runs {
    pages: Blocks,
    access: Access,
    request: u64,
    /// Pages.
    length: Distribution,
    rng: Xoshiro256StarStar,
}

impl Runs {
    /// `request` in bytes, `length` in pages.
    pub fn new(files: Vec<FileRef>, access: Access, request: u64, length: Distribution, seed: u64) -> Runs {
        Runs { pages: Blocks::new(files, PAGE_BYTES), access, request, length, rng: random(seed, 2) }
    }
}

impl Work for Runs {
    fn piece(&mut self, ops: &mut VecDeque<Op>) {
        let (file, offset) = self.pages.at(self.rng.gen_range(0..self.pages.count()));
        let bytes = (self.length.whole(1.0, 1, &mut self.rng) * PAGE_BYTES).min(file.bytes);
        // A run that would cross the end begins earlier, as the testbed's does; page-aligned all the same.
        let start = offset.min((file.bytes - bytes) / PAGE_BYTES * PAGE_BYTES);
        file.demand_in(self.access, self.request, start, bytes, ops);
    }
}
