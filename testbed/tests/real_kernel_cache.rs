// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's page replacement against this kernel's: the same pages read in the same order, page by page, in a memory cgroup.
//! The hit ratios must agree within two points.

use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::cache::Memory;
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

/// Which of the accesses hit in the kernel, and the page cache that the group held in the end, bytes.
fn real(order: &[u32]) -> anyhow::Result<(Vec<bool>, u64)> {
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
    let cached = testbed.cgroup.cached()?;
    drop(input);
    anyhow::ensure!(child.wait()?.success());
    Ok((hits.into_iter().map(|hit| hit == 1).collect(), cached))
}

fn simulated(order: &[u32], cache: u64, generation: Generation, reclaim: Reclaim) -> Vec<bool> {
    let mut kernel = Kernel::new(generation);
    kernel.memory = Memory::new(reclaim);
    kernel.memory.add_group(cache);
    let disk = kernel.add_disk(Box::new(Fixed::new(Nanos(50_000), 1280)), Kib(128), FileSystem::Ext4);
    let file = kernel.add_file(disk, FILE_MIB << 20);
    let open = kernel.open(file);
    kernel.fadvise(open, 0, Nanos(0), 0, 0, Fadvice::Random);
    let (mut probe, mut now) = (Probe::default(), Nanos(0));
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
    let (generation, reclaim) = kernel();
    let (real, cached) = real(order).unwrap();
    let simulated = simulated(order, cached, generation, reclaim);
    let (there, here) = (percent(&real), percent(&simulated));
    let same = real.iter().zip(&simulated).filter(|(a, b)| a == b).count() as f64 * 100.0 / real.len() as f64;
    println!(
        "{name}: {generation} {reclaim:?}, {} MiB cached of {MEMORY_MIB}: kernel {there:.1} %, simulator {here:.1} %, same {same:.1} %",
        cached >> 20
    );
    assert!((there - here).abs() <= 2.0, "{name}: kernel {there:.1} %, simulator {here:.1} %");
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
