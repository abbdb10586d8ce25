// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine of a world: takes random numbers, gives a device, a kernel, memory and the text that a scenario has for them.

use crate::spec::Generation;
use rand::Rng;
use rand_xoshiro::Xoshiro256StarStar;

/// Devices by name; the built-in profiles, and a throttled loop device in the spans that cloud volumes are sold in.
const DEVICES: [&str; 8] = ["hdd", "sata-ssd", "nvme", "gp3", "gp2-burst", "nfs", "volume", "small-volume"];

pub struct Machine {
    pub device: &'static str,
    pub kernel: Generation,
    pub memory_mib: u32,
    /// The scenario's tables for all of this.
    pub text: String,
}

/// Evenly on a logarithmic scale: sizes differ by factors.
pub fn between(rng: &mut Xoshiro256StarStar, low: f64, high: f64) -> f64 {
    (low.ln() + (high.ln() - low.ln()) * rng.r#gen::<f64>()).exp()
}

pub fn one_of<T: Copy>(rng: &mut Xoshiro256StarStar, of: &[T]) -> T {
    of[rng.gen_range(0..of.len())]
}

pub fn machine(rng: &mut Xoshiro256StarStar) -> Machine {
    let device = one_of(rng, &DEVICES);
    machine_with(device, rng)
}

/// A machine with a device of this name. Page replacement is either kind where the kernel has both (from 6.1).
pub fn machine_with(device: &'static str, rng: &mut Xoshiro256StarStar) -> Machine {
    let kernel = one_of(rng, &Generation::ALL);
    // From 64 MiB: eight windows of the largest size. Up to 384, so that some seconds fill it.
    let memory_mib = between(rng, 64.0, 384.0) as u32;
    let filesystem = if device == "nfs" { "nfs" } else { one_of(rng, &["ext4", "ext4", "xfs", "btrfs"]) };
    let noise = between(rng, 0.002, 0.05);
    let profile = profile(device, rng);
    let reclaim = if kernel == Generation::V5_10 { "two_lists" } else { one_of(rng, &["two_lists", "mglru"]) };
    let text = format!(
        "kernel = \"{kernel}\"\nreclaim = \"{reclaim}\"\nmemory_mib = {memory_mib}\nsensor_noise = {noise:.4}\n\
         [[device]]\nlabel = \"disk\"\nfilesystem = \"{filesystem}\"\n{profile}\n"
    );
    Machine { device, kernel, memory_mib, text }
}

/// A profile, its figures varied: no two machines of one kind are alike.
fn profile(device: &str, rng: &mut Xoshiro256StarStar) -> String {
    let throttled = |iops: f64, mb: f64| {
        format!("profile = \"loop\"\nfigures.throttle = {{ iops = {}, bytes_per_s = {} }}", iops as u64, (mb * 1e6) as u64)
    };
    match device {
        "volume" => throttled(between(rng, 1000.0, 8000.0), between(rng, 100.0, 400.0)),
        "small-volume" => throttled(between(rng, 150.0, 1000.0), between(rng, 40.0, 150.0)),
        // What programs are recorded on (`scripts/record-programs`), give or take.
        "recorded-volume" => throttled(between(rng, 700.0, 1400.0), between(rng, 30.0, 50.0)),
        "gp3" => {
            let (iops, mib) = (between(rng, 3000.0, 12_000.0), between(rng, 125.0, 500.0));
            let (iops, bytes) = (iops as u64, (mib * 1_048_576.0) as u64);
            format!("profile = \"gp3\"\nfigures.iops = {{ baseline = {iops} }}\nfigures.bytes = {{ baseline = {bytes} }}")
        }
        "nfs" => {
            let (median, sigma) = (between(rng, 200.0, 2000.0), between(rng, 0.1, 0.5));
            format!("profile = \"nfs\"\nfigures.latency = {{ median_us = {median:.0}, sigma = {sigma:.2} }}")
        }
        // A disk with an arm, a flash drive: speed by make.
        name => {
            let bandwidth = match name {
                "hdd" => between(rng, 120.0, 260.0),
                "sata-ssd" => between(rng, 300.0, 560.0),
                "nvme" => between(rng, 1200.0, 3500.0),
                _ => between(rng, 300.0, 600.0),
            };
            format!("profile = \"{name}\"\nfigures.bandwidth_mb = {bandwidth:.0}")
        }
    }
}
