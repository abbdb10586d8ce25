// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is run, for how long, and what came of it: the schedule, a pass through its phases, the sweep of static values.

use crate::{interrupt, live::Live};
use keepahead_testbed::Testbed;
use keepahead_testbed::workload::{Progress, Running};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What Linux gives most devices, and where every pass begins.
pub const DEFAULT_KIB: u32 = 128;

/// A phase: what people call it, what the workload calls it.
pub const PHASES: [(&str, &str); 3] = [("sequential scan", "seq-read"), ("random mmap", "rand-mmap"), ("short runs", "runs8")];

pub struct Schedule {
    pub file_mib: u64,
    pub iops: u64,
    pub bytes_per_s: u64,
    pub memory_mib: u64,
    phase: Duration,
    /// The last part of a phase, when keepahead has had time to learn.
    tail: Duration,
    pub values: &'static [u32],
    each: Duration,
    /// Left out at the start of each: the cache still holds what the value before made of it.
    warm_up: Duration,
    /// Until random access has filled the reader's memory.
    fill: Duration,
}

impl Schedule {
    pub fn full() -> Schedule {
        Schedule {
            file_mib: 512,
            iops: 1000,
            bytes_per_s: 400_000_000,
            memory_mib: 384,
            phase: Duration::from_secs(25),
            tail: Duration::from_secs(8),
            values: &[16, 32, 512, 2048],
            each: Duration::from_millis(3500),
            warm_up: Duration::from_secs(1),
            fill: Duration::from_secs(4),
        }
    }

    pub fn quick() -> Schedule {
        Schedule {
            file_mib: 256,
            memory_mib: 192,
            phase: Duration::from_secs(3),
            tail: Duration::from_millis(1500),
            values: &[16, 1024],
            each: Duration::from_millis(1200),
            warm_up: Duration::from_millis(400),
            fill: Duration::from_millis(500),
            ..Schedule::full()
        }
    }

    /// `seq-read:25,rand-mmap:25,runs8:25`.
    pub fn phases_argument(&self) -> String {
        PHASES.map(|(_, kind)| format!("{kind}:{}", self.phase.as_secs_f64())).join(",")
    }

    pub fn tail(&self) -> Duration {
        self.tail
    }

    pub fn estimate(&self) -> Duration {
        let sweep = self.each * (PHASES.len() * self.values.len()) as u32;
        self.phase * 2 * PHASES.len() as u32 + sweep + self.fill * 2 + Duration::from_secs(3 + self.file_mib / 150)
    }
}

/// Where the workload is.
pub struct Now {
    pub phase: usize,
    pub name: &'static str,
    pub second: u64,
    /// The first line of its second.
    pub whole_second: bool,
    pub mb_per_s: f64,
    pub knob: u32,
}

/// What a pass delivered, a phase an entry.
pub struct Pass {
    phases: [Vec<Progress>; PHASES.len()],
    words: [Vec<String>; PHASES.len()],
    knobs: [u32; PHASES.len()],
    last_s: f64,
}

impl Pass {
    pub fn new() -> Pass {
        Pass { phases: Default::default(), words: Default::default(), knobs: [DEFAULT_KIB; PHASES.len()], last_s: 0.0 }
    }

    /// Puts a line where it belongs.
    pub fn add(&mut self, progress: Progress, knob: u32) -> Now {
        let phase = progress.phase.min(PHASES.len() - 1);
        self.phases[phase].push(progress);
        self.knobs[phase] = knob;
        let whole_second = progress.at_s.trunc() > self.last_s.trunc();
        self.last_s = progress.at_s;
        let mb_per_s = Progress::mb_per_s(&[progress]);
        Now { phase, name: PHASES[phase].0, second: progress.at_s as u64, whole_second, mb_per_s, knob }
    }

    pub fn said(&mut self, phase: usize, words: &[String]) {
        self.words[phase].extend_from_slice(words);
    }

    pub fn seconds(&self) -> f64 {
        self.last_s
    }

    pub fn complete(&self, schedule: &Schedule) -> bool {
        self.last_s > schedule.phase.as_secs_f64() * PHASES.len() as f64 - 2.0
    }

    pub fn whole(&self, phase: usize) -> f64 {
        Progress::mb_per_s(&self.phases[phase])
    }

    /// Throughput of the last part of a phase.
    pub fn tail(&self, schedule: &Schedule, phase: usize) -> f64 {
        let from = schedule.phase.as_secs_f64() * (phase + 1) as f64 - schedule.tail.as_secs_f64();
        let tail: Vec<Progress> = self.phases[phase].iter().filter(|p| p.at_s - p.seconds >= from).copied().collect();
        Progress::mb_per_s(&tail)
    }

    /// The value in force when the phase ended.
    pub fn knob(&self, phase: usize) -> u32 {
        self.knobs[phase]
    }

    pub fn words(&self, phase: usize) -> &[String] {
        &self.words[phase]
    }
}

/// Throughput of each phase at each static value.
pub struct Sweep {
    found: [Vec<(u32, f64)>; PHASES.len()],
}

impl Sweep {
    pub fn run(schedule: &Schedule, testbed: &Testbed, file: &Path, live: &Live) -> anyhow::Result<Sweep> {
        let mut found: [Vec<(u32, f64)>; PHASES.len()] = Default::default();
        for (phase, (name, kind)) in PHASES.iter().enumerate() {
            testbed.drop_caches()?;
            if phase > 0 {
                // In a pass the cache is full by then; a value must not look bad because it began with nothing.
                testbed.set_read_ahead(DEFAULT_KIB)?;
                read(testbed, file, PHASES[1].1, schedule.fill)?;
            }
            for kib in schedule.values {
                if phase == 0 {
                    testbed.drop_caches()?;
                }
                testbed.set_read_ahead(*kib)?;
                let mut lines = read(testbed, file, kind, schedule.each)?;
                lines.retain(|p| p.at_s - p.seconds >= schedule.warm_up.as_secs_f64());
                found[phase].push((*kib, Progress::mb_per_s(&lines)));
            }
            let speeds: Vec<String> = found[phase].iter().map(|(kib, speed)| format!("{kib} KiB: {speed:.1} MB/s")).collect();
            live.end_of_line();
            println!("        {name:<16}  {}", speeds.join("   "));
        }
        testbed.set_read_ahead(DEFAULT_KIB)?;
        Ok(Sweep { found })
    }

    /// The best of a phase, the default included: its value and throughput.
    pub fn best(&self, phase: usize, default: f64) -> (u32, f64) {
        let with_default = self.found[phase].iter().copied().chain([(DEFAULT_KIB, default)]);
        with_default.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((DEFAULT_KIB, default))
    }
}

/// One phase in a new process, which opens the file anew and so has the present value; another seed each time reads other places.
fn read(testbed: &Testbed, file: &Path, kind: &str, time: Duration) -> anyhow::Result<Vec<Progress>> {
    // One that comes twice would find its pages in the cache.
    static SEED: AtomicU64 = AtomicU64::new(3);
    let argument = format!("{kind}:{}", time.as_secs_f64());
    let mut running = Running::start(testbed, file, &argument, SEED.fetch_add(1, Ordering::Relaxed))?;
    let mut lines = Vec::new();
    while let Some(progress) = running.line()? {
        interrupt::check()?;
        lines.push(progress);
    }
    interrupt::settle()?;
    Ok(lines)
}
