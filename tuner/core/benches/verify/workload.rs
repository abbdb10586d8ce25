// SPDX-License-Identifier: MIT OR Apache-2.0
//! One simulated trial: a closed loop of one reader whose wait for a page carries noise of a known kind and, while the new value is in
//! force, a known effect. Takes the truth and random numbers, gives how the trial ended.

use keepahead_core::event::{Arm, Outcome, Pattern, Proposal};
use keepahead_core::sample::Counters;
use keepahead_core::settings::TrialSettings;
use keepahead_core::trial::{Next, Trial};
use keepahead_core::units::{Kib, Nanos};
use keepahead_core::window::{Mark, Span};
use rand::Rng;
use rand_distr::{Distribution, Pareto, StandardNormal};

/// Standard deviation of the logarithm of a block's stall. The `testbed-*` scenarios of `fixtures/scenarios` show 0.003 to 0.060 within
/// one value of one trial, 0.033 in the median.
pub const BLOCK_SPREAD: f64 = 0.05;
/// A block measures four ticks, and with its washout takes about five.
const TICKS_A_BLOCK: f64 = 5.0;
const TICK: Nanos = Nanos::from_millis(100);
/// One tick's own noise, so that a block of them has [`BLOCK_SPREAD`].
const TICK_SPREAD: f64 = BLOCK_SPREAD * 2.0;
/// Waited and computed for a page, nanoseconds.
const WAIT: f64 = 50_000.0;
const THINK: f64 = 5_000.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    White,
    Autocorrelated,
    /// All of [`BLOCK_SPREAD`], and no more, is autocorrelated.
    AutocorrelatedTestbed,
    Drift,
    Bursty,
    /// White, six times [`BLOCK_SPREAD`].
    Wild,
    /// White, three times [`BLOCK_SPREAD`], and when the trial begins the level moves by 0.3 (one standard deviation): RocksDB's updates
    /// while the cache fills.
    Moved,
    /// White, and all waits follow windows that come a second or more apart: what is read at a steady rate is cached but for a slow stream.
    RareWindows,
}

/// Pages demanded a tick where windows are rare, and pages of a window.
const STEADY: u64 = 300;
const WINDOW: u64 = 128;
/// Ticks after a window in which it is waited for.
const WAITED: u64 = 3;

/// How a trial ended.
pub struct Ended {
    pub outcome: Outcome,
    /// Blocks that were ended, and blocks of the new value that were begun.
    pub blocks: u32,
    pub new_blocks: u32,
    pub ticks: u32,
}

/// The slow part of the noise of one trial.
struct Slow {
    noise: Noise,
    level: f64,
    phi: f64,
    slope: f64,
    walk: f64,
    burst: f64,
}

fn normal(random: &mut impl Rng) -> f64 {
    StandardNormal.sample(random)
}

impl Slow {
    fn new(noise: Noise, random: &mut impl Rng) -> Slow {
        let phi = random.gen_range(0.5f64..0.9).powf(1.0 / TICKS_A_BLOCK);
        let straight = random.gen_bool(0.5);
        let (slope, walk) = match straight {
            true => (random.gen_range(-0.05..0.05) / TICKS_A_BLOCK, 0.0),
            false => (0.0, 0.05 / TICKS_A_BLOCK.sqrt()),
        };
        let mut slow = Slow { noise, level: 0.0, phi, slope, walk, burst: 0.0 };
        slow.level = slow.spread() * normal(random);
        slow
    }

    fn spread(&self) -> f64 {
        match self.noise {
            Noise::Autocorrelated => 0.15,
            Noise::AutocorrelatedTestbed => BLOCK_SPREAD,
            _ => 0.0,
        }
    }

    fn next(&mut self, random: &mut impl Rng) -> f64 {
        match self.noise {
            Noise::White | Noise::Wild | Noise::Moved | Noise::RareWindows => {}
            Noise::Autocorrelated | Noise::AutocorrelatedTestbed => {
                self.level = self.phi * self.level + self.spread() * (1.0 - self.phi * self.phi).sqrt() * normal(random);
            }
            Noise::Drift => self.level += self.slope + self.walk * normal(random),
            Noise::Bursty => {
                if self.burst > 0.0 && random.gen_bool(1.0 / (3.0 * TICKS_A_BLOCK)) {
                    self.burst = 0.0;
                } else if self.burst == 0.0 && random.gen_bool(0.15 / TICKS_A_BLOCK) {
                    self.burst = Pareto::new(0.3, 1.5).map_or(0.3, |p: Pareto<f64>| p.sample(random)).min(3.0);
                }
                self.level = self.burst;
            }
        }
        // What is autocorrelated through and through has no other noise.
        let own = match self.noise {
            Noise::AutocorrelatedTestbed => 0.02,
            Noise::Moved => 3.0 * TICK_SPREAD,
            Noise::Wild => 6.0 * TICK_SPREAD,
            _ => TICK_SPREAD,
        };
        self.level + own * normal(random)
    }
}

struct Reader {
    mark: Mark,
    slow: Slow,
    /// Ticks between two windows, where they are rare, and since the last one.
    between: u64,
    since: u64,
}

impl Reader {
    fn new(noise: Noise, random: &mut impl Rng) -> Reader {
        let mark = Mark { at: Nanos(random.gen_range(0..1 << 40)), counters: Counters::default() };
        let between = random.gen_range(10..=30);
        Reader { mark, slow: Slow::new(noise, random), between, since: random.gen_range(0..between) }
    }

    fn live(&mut self, ratio: f64, random: &mut impl Rng) {
        match self.slow.noise {
            Noise::RareWindows => self.live_by_windows(ratio, random),
            _ => self.live_closed(ratio, random),
        }
    }

    fn live_by_windows(&mut self, ratio: f64, random: &mut impl Rng) {
        let noise = self.slow.next(random);
        let c = &mut self.mark.counters;
        c.read_pages += STEADY;
        c.read_requests += STEADY;
        c.seq_requests += STEADY;
        self.since += 1;
        if self.since >= self.between {
            self.since = 0;
            c.windows += 1;
            c.window_pages += WINDOW;
            c.spec_added += WINDOW;
            c.spec_used += WINDOW;
        }
        if self.since < WAITED {
            c.read_late += WINDOW / WAITED;
            c.read_stall_ns += (0.5 * TICK.0 as f64 * noise.exp() * ratio) as u64;
        }
        self.mark.at = self.mark.at + TICK;
    }

    fn live_closed(&mut self, ratio: f64, random: &mut impl Rng) {
        let noise = self.slow.next(random);
        let wait = WAIT * noise.exp() * ratio;
        let pages = TICK.0 as f64 / (wait + THINK);
        // More misses where reads are slow, and 2 points of a tick's own: 1 a block.
        let late = (0.1 * (0.5 * noise).exp() + 0.02 * normal(random)).clamp(0.0, 1.0);
        let c = &mut self.mark.counters;
        c.read_pages += pages as u64;
        c.read_requests += pages as u64 / 32;
        c.seq_requests += pages as u64 / 32;
        c.read_late += (pages * late) as u64;
        c.read_stall_ns += (pages * wait) as u64;
        c.spec_added += pages as u64;
        c.spec_used += pages as u64;
        self.mark.at = self.mark.at + TICK;
    }
}

/// So many seconds without a trial, then one to its end.
pub fn trial(id: u64, ratio: f64, noise: Noise, (seconds, settings): (u32, &TrialSettings), random: &mut impl Rng) -> Ended {
    let mut reader = Reader::new(noise, random);
    let mut before: Vec<Span> = Vec::new();
    for _ in 0..seconds {
        let from = reader.mark;
        (0..10).for_each(|_| reader.live(1.0, random));
        before.push(from.until(&reader.mark));
    }
    let proposal = Proposal {
        read_ahead: Kib(512),
        pattern: Pattern::Sequential,
        expected_stall_ratio: 0.5,
        confidence: 1.0,
        reason: String::new(),
    };
    if noise == Noise::Moved {
        reader.slow.level += 0.3 * normal(random);
    }
    let mut trial = Trial::begin(id, Kib(128), proposal, before, reader.mark);
    let (mut blocks, mut ended_new, mut ticks) = (0, 0, 0);
    loop {
        let in_force = trial.arm;
        reader.live(if in_force == Arm::New { ratio } else { 1.0 }, random);
        ticks += 1;
        let turn = trial.tick(reader.mark, &[], settings);
        blocks += u32::from(turn.block.is_some());
        ended_new += u32::from(turn.block.is_some_and(|b| b.arm == Arm::New));
        if let Next::End(verdict) = turn.next {
            let begun = u32::from(turn.block.is_none() && in_force == Arm::New);
            return Ended { outcome: verdict.outcome, blocks, new_blocks: ended_new + begun, ticks };
        }
    }
}
