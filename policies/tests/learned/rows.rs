// SPDX-License-Identifier: MIT OR Apache-2.0
//! Test data: rows from a few lines of physics in place of a simulator, so that the fitting can be tested in seconds.
//!
//! A device is a latency and a bandwidth; a program reads in runs of some length and computes for some time per MiB.

use keepahead_core::event::Pattern;
use keepahead_core::features::Features;
use keepahead_core::units::Kib;
use keepahead_policies::dataset::{Label, Row};
use keepahead_policies::features::vector;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

pub const SIZES: [u32; 13] = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

#[derive(Clone, Copy)]
pub struct Program {
    pub pattern: Pattern,
    /// KiB.
    pub run: f64,
    /// Computing per MiB, µs.
    pub think: f64,
    /// µs.
    pub latency: f64,
    /// MiB/s.
    pub bandwidth: f64,
}

impl Program {
    pub fn draw(rng: &mut impl Rng) -> Program {
        let patterns = [Pattern::Sequential, Pattern::ShortRuns, Pattern::RandomMmap, Pattern::RandomRead];
        let pattern = patterns[rng.gen_range(0..4)];
        let run = match pattern {
            Pattern::Sequential => 2f64.powf(rng.gen_range(12.0..20.0)),
            Pattern::ShortRuns => 2f64.powf(rng.gen_range(4.0..7.0)),
            _ => 4.0,
        };
        let think = 2f64.powf(rng.gen_range(6.0..12.0));
        Program {
            pattern,
            run,
            think,
            latency: 2f64.powf(rng.gen_range(6.0..13.0)),
            bandwidth: 2f64.powf(rng.gen_range(6.0..11.0)),
        }
    }

    /// Time waited per MiB with a window of `kib`, µs.
    pub fn stall(&self, kib: u32) -> f64 {
        let (window, transfer) = (f64::from(kib), |kib: f64| kib / 1024.0 / self.bandwidth * 1e6);
        match self.pattern {
            // The next window is read while this one is used.
            Pattern::Sequential => {
                (((self.latency + transfer(window)) - self.think * window / 1024.0) * 1024.0 / window).max(0.0)
            }
            // Too small: a wait for each piece of the run; too large: the rest is read for nothing.
            Pattern::ShortRuns => {
                (self.latency * (self.run / window).max(1.0) + transfer(window.max(self.run))) * 1024.0 / self.run
            }
            Pattern::RandomMmap => (self.latency + transfer(window)) * 256.0,
            _ => (self.latency + transfer(4.0)) * 256.0,
        }
    }

    pub fn features(&self, kib: u32, noise: f64) -> Features {
        let stall = self.stall(kib) * noise;
        let mib_per_s = 1e6 / (stall + self.think);
        let mapped = self.pattern == Pattern::RandomMmap;
        let pages = self.run / 4.0 * noise.sqrt();
        let long = self.pattern == Pattern::Sequential;
        let read = if mapped || long { f64::from(kib) } else { f64::from(kib).min(2.0 * self.run) };
        let useful = (self.run / read.max(self.run)).min(1.0);
        Features {
            demand: mib_per_s * 256.0,
            mmap_share: if mapped { 1.0 } else { 0.0 },
            mapped_demand: if mapped { 1.0 } else { 0.0 },
            read_long_share: if long { 1.0 } else { 0.0 },
            read_run: if mapped { 0.0 } else { pages },
            mmap_run: if mapped { pages } else { 0.0 },
            read_continues: if mapped { 0.0 } else { 1.0 - 1.0 / (self.run / 4.0) },
            request: if mapped { 0.0 } else { 1.0 },
            jump: if long { 0.0 } else { 5e4 * noise },
            hit_ratio: 1.0 - (4.0 / read).min(1.0),
            accuracy: useful,
            unused: 1.0 - useful,
            stall_share: stall / (stall + self.think),
            stall_ms_per_mib: stall / 1e3,
            window: read / 4.0,
            device_latency_us: self.latency + read / 1024.0 / self.bandwidth * 1e6,
            device_request_kib: read,
            device_mib_per_s: mib_per_s / useful,
            ..Features::default()
        }
    }

    pub fn labels(&self) -> Vec<Label> {
        let label = |kib: &u32| {
            let stall = self.stall(*kib);
            Label {
                kib: *kib,
                stall_ns_per_mib: stall * 1e3,
                hit_ratio: 1.0 - (4.0 / f64::from(*kib)).min(1.0),
                pollution_mib_per_s: 0.0,
                throughput_mib_per_s: 1e6 / (stall + self.think),
            }
        };
        SIZES.iter().map(label).collect()
    }
}

/// Three sizes observed of each run; families are slices of the draws, so that they differ in nothing but the draw.
pub fn rows(runs: u32, seed: u64) -> Vec<Row> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut rows = Vec::new();
    for run in 0..runs {
        let program = Program::draw(&mut rng);
        for kib in [32, 128, 1024] {
            let noise = rng.gen_range(0.9..1.1);
            rows.push(Row {
                workload: format!("test physics {run}"),
                family: format!("{:?} {}", program.pattern, run % 3),
                device: format!("device {}", run % 5),
                kernel: format!("kernel {}", run % 2),
                memory_mib: 1024,
                run,
                pattern: program.pattern,
                kib,
                features: vector(&program.features(kib, noise), Kib(kib)).to_vec(),
                labels: program.labels(),
            });
        }
    }
    rows
}
