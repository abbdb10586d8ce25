// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's page replacement against this kernel's: the same pages read in the same order, page by page, in a memory cgroup.
//! The hit ratios must agree within two points.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::device::Fixed;
use keepahead_sim::kernel::{Kernel, Probe, ReadCall};
use keepahead_sim::spec::{FileSystem, Generation, Reclaim};
use keepahead_sim::workload::Fadvice;
use keepahead_testbed::{Fs, Testbed, program, unavailable};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::io::{Read, Write};
use std::process::Stdio;

const MEMORY_MIB: u64 = 32;
const FILE_MIB: u64 = 128;
const PAGES: u32 = (FILE_MIB << 8) as u32;
const CACHE: u32 = (MEMORY_MIB << 8) as u32;

fn random() -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(7)
}

struct Run {
    /// Which of the accesses hit.
    hits: Vec<bool>,
    /// Page cache that the group held in the end, bytes.
    cached: u64,
    /// Time for each miss.
    miss: Nanos,
}

fn real(order: &[u32]) -> anyhow::Result<Run> {
    let testbed = Testbed::new(FILE_MIB + 64, Fs::Ext4)?;
    testbed.limit(1_000_000, 10 << 30, MEMORY_MIB)?;
    let file = testbed.file("data", FILE_MIB)?;
    let mut command = testbed.cgroup.command(program("keepahead-accesses")?);
    let mut child = command.arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    input.write_all(&(order.len() as u32).to_le_bytes())?;
    input.write_all(&order.iter().flat_map(|page| page.to_le_bytes()).collect::<Vec<u8>>())?;
    let mut hits = vec![0; order.len()];
    output.read_exact(&mut hits)?;
    let mut elapsed = [0; 8];
    output.read_exact(&mut elapsed)?;
    let cached = testbed.cgroup.cached()?;
    drop(input);
    anyhow::ensure!(child.wait()?.success());
    let hits: Vec<bool> = hits.into_iter().map(|hit| hit == 1).collect();
    let misses = hits.iter().filter(|hit| !**hit).count() as u64;
    Ok(Run { hits, cached, miss: Nanos(u64::from_le_bytes(elapsed) / misses.max(1)) })
}

/// How often somebody emptied the page cache of the whole machine.
fn drops() -> String {
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    vmstat.lines().find(|l| l.starts_with("drop_pagecache")).unwrap_or_default().to_owned()
}

/// Once more where somebody dropped caches meanwhile.
fn undisturbed(order: &[u32]) -> Run {
    for _ in 0..10 {
        let before = drops();
        let result = real(order).unwrap();
        if drops() == before {
            return result;
        }
    }
    panic!("somebody drops the page cache of this machine all the time: no measurement to be had");
}

fn simulated(order: &[u32], run: &Run, kind: (Generation, Reclaim), start: Nanos) -> Vec<bool> {
    let mut kernel = Kernel::new(kind.0);
    kernel.memory.kind = kind.1;
    kernel.memory.add_group(run.cached);
    let disk = kernel.add_disk(Box::new(Fixed::new(run.miss, 1280)), Kib(128), FileSystem::Ext4);
    let file = kernel.add_file(disk, FILE_MIB << 20);
    let open = kernel.open(file);
    kernel.fadvise(open, 0, Nanos(0), 0, 0, Fadvice::Random);
    let (mut probe, mut now) = (Probe::default(), start);
    let read = |page: &u32| {
        let hit = kernel.store.present(file, u64::from(*page));
        let mut call = ReadCall::new(open, 0, u64::from(*page) * 4096, 4096);
        while let Some(until) = kernel.read(&mut call, &mut probe, &mut now) {
            now = until;
        }
        hit
    };
    order.iter().map(read).collect()
}

/// What this kernel runs.
fn kernel() -> (Generation, Reclaim) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let older = |g: &Generation| {
        let (major, minor) = g.name().split_once('.').unwrap();
        (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) <= version
    };
    let generation = Generation::ALL.into_iter().rev().find(older).unwrap_or(Generation::V5_10);
    let enabled = std::fs::read_to_string("/sys/kernel/mm/lru_gen/enabled").unwrap_or_default();
    let core = u32::from_str_radix(enabled.trim().trim_start_matches("0x"), 16).is_ok_and(|bits| bits & 1 != 0);
    (generation, if core { Reclaim::Mglru } else { Reclaim::TwoLists })
}

fn percent(hits: &[bool]) -> f64 {
    100.0 * hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64
}

fn compare(name: &str, order: &[u32]) {
    if let Some(why) = unavailable() {
        return println!("skipped: {why}");
    }
    let (kind, real) = (kernel(), undisturbed(order));
    // The two lists go by statistics that a worker refreshes every two seconds. When it does so is the kernel's secret: the simulator
    // runs with eight starting times within its period.
    let runs: Vec<Vec<bool>> = (0..8).map(|k| simulated(order, &real, kind, Nanos(k * 250_000_000))).collect();
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    runs.iter().for_each(|hits| (low, high) = (low.min(percent(hits)), high.max(percent(hits))));
    let same = |hits: &Vec<bool>| real.hits.iter().zip(hits).filter(|(a, b)| a == b).count();
    let same = runs.iter().map(same).max().unwrap_or(0) as f64 * 100.0 / order.len() as f64;
    let there = percent(&real.hits);
    let said = format!(
        "{name}: {} {:?}, {} MiB cached, {} us a miss: kernel {there:.1} %, simulator {low:.1} to {high:.1} %, same up to {same:.1} %",
        kind.0,
        kind.1,
        real.cached >> 20,
        real.miss.0 / 1000
    );
    println!("{said}");
    assert!((low - 2.0..=high + 2.0).contains(&there), "{said}");
}

mod real_kernel {
    use super::*;

    #[test]
    fn zipf() {
        let mut random = random();
        let mut places: Vec<u32> = (0..PAGES).collect();
        places.shuffle(&mut random);
        let zipf = Zipf::new(u64::from(PAGES), 0.9).unwrap();
        let order: Vec<u32> = (0..200_000).map(|_| places[zipf.sample(&mut random) as usize - 1]).collect();
        compare("zipf 0.9", &order);
    }

    #[test]
    fn a_loop_larger_than_memory() {
        let pages = CACHE * 5 / 4;
        let order: Vec<u32> = (0..pages * 8).map(|i| i % pages).collect();
        compare("loop of 1.25 memories", &order);
    }

    #[test]
    fn a_scan_beside_a_hot_set() {
        let mut random = random();
        let hot = CACHE / 2;
        let order: Vec<u32> =
            (0..120_000).map(|i| if i % 2 == 0 { random.gen_range(0..hot) } else { hot + i / 2 % (PAGES - hot) }).collect();
        compare("hot half beside a scan", &order);
    }

    #[test]
    fn a_working_set_that_moves() {
        let mut random = random();
        let mut order = Vec::new();
        for from in [0, PAGES / 4, PAGES / 2] {
            order.extend((0..40_000).map(|_| from + random.gen_range(0..CACHE * 3 / 4)));
        }
        compare("moving set of 0.75 memories", &order);
    }
}
