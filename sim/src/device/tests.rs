// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device model against what data sheets, queueing theory and arithmetic say.

use super::*;
use keepahead_core::units::PAGE_BYTES;
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

fn with(text: &str) -> Result<Profile, ProfileError> {
    Profile::from_table(text.parse().map_err(|e: toml::de::Error| ProfileError::Form(e.to_string()))?)
}

fn disk(text: &str) -> Box<dyn Disk> {
    with(text).and_then(|p| p.build(1)).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// `depth` readers, each asking for its next `bytes` when it has the last; requests a second.
fn closed_loop(disk: &mut dyn Disk, depth: usize, bytes: u64, random: bool, requests: u64) -> f64 {
    let mut ready = std::collections::BinaryHeap::from(vec![std::cmp::Reverse(Nanos(0)); depth]);
    let (mut last, mut pieces, mut rng) = (Nanos(0), Vec::new(), Xoshiro256PlusPlus::seed_from_u64(7));
    for n in 0..requests {
        let Some(std::cmp::Reverse(now)) = ready.pop() else { break };
        let place = if random { rng.gen_range(0..1 << 20) * PAGE_BYTES } else { n * bytes };
        pieces.clear();
        disk.read(now, place, bytes, &mut pieces);
        let done = pieces.iter().map(|p| p.done).max().unwrap_or(now);
        last = last.max(done);
        ready.push(std::cmp::Reverse(done));
    }
    requests as f64 / last.as_secs_f64()
}

fn near(value: f64, wanted: f64, tolerance: f64) {
    assert!((value / wanted - 1.0).abs() <= tolerance, "{value} is not within {tolerance} of {wanted}");
}

#[test]
fn every_profile_builds_and_an_unknown_name_lists_them() {
    let names = Profile::names().unwrap();
    assert_eq!(names.len(), 7);
    for name in &names {
        disk(&format!("profile = '{name}'"));
    }
    let error = Profile::named("floppy").unwrap_err().to_string();
    assert!(names.iter().all(|n| error.contains(n.as_str())), "{error}");
}

#[test]
fn profiles_reproduce_the_figures_that_they_are_made_from() {
    for (name, depth, bytes, random, wanted) in [
        ("sata-ssd", 1, 4096, true, 13_000.0),
        ("sata-ssd", 32, 4096, true, 98_000.0),
        ("sata-ssd", 4, 1 << 20, false, 560e6 / 1048576.0),
        ("nvme", 1, 4096, true, 19_000.0),
        ("nvme", 32, 4096, true, 600_000.0),
        ("nvme", 8, 1 << 20, false, 3500e6 / 1048576.0),
        ("gp3", 32, 4096, true, 3000.0),
        ("gp3", 32, 1 << 20, false, 125.0),
        ("gp2-burst", 32, 4096, true, 3000.0),
        ("hdd", 1, 1 << 20, false, 249e6 / 1048576.0),
        ("nfs", 8, 1 << 20, false, 117.6e6 / 1048576.0),
        // Less the 28 µs that waking the reader takes, which is not the device's.
        ("loop", 1, 4096, true, 1e6 / (74.0 - 28.0)),
        ("loop", 1, 1 << 20, false, 1e6 / (899.0 - 28.0)),
    ] {
        let got = closed_loop(&mut *disk(&format!("profile = '{name}'")), depth, bytes, random, 20_000);
        assert!((got / wanted - 1.0).abs() < 0.08, "{name} depth {depth} {bytes} bytes: {got:.0}/s, wanted {wanted:.0}/s");
    }
}

/// Sequential reads on the testbed at 1000 IOPS and 400 MB/s, Linux 6.18, ext4: a window is one bio (large folios), and the next is
/// asked for while one is read.
#[test]
fn throttled_windows_run_as_they_do_on_the_testbed() {
    for (window_kib, mb_per_s) in [(128, 131.0), (256, 262.0), (512, 399.0), (1024, 399.0), (2048, 399.0), (4096, 399.0)] {
        let mut disk = disk("profile = 'loop'\nthrottle = { iops = 1000, bytes_per_s = 400000000 }");
        let windows = closed_loop(&mut *disk, 2, window_kib << 10, false, (4 << 20) / window_kib);
        near(windows * (window_kib << 10) as f64 / 1e6, mb_per_s, 0.03);
    }
}

/// On the testbed the kernel counted 260 I/Os for 62 bios of 4 MiB (four parts each at max_sectors_kb = 1280) and 12 smaller requests.
#[test]
fn each_part_of_a_split_bio_is_one_io_to_the_throttle() {
    let mut disk = disk("profile = 'loop'\nthrottle = { iops = 100 }");
    let seconds = 500.0 / closed_loop(&mut *disk, 1, 4 << 20, false, 500);
    near(500.0 * 4.0 / seconds, 100.0, 0.02);
}

#[test]
fn an_arm_pays_for_distance_and_not_for_continuing() {
    let text = "profile = 'hdd'\nrotational = { capacity_gb = 4.294967296 }";
    // Over the whole disk: 1 + 8/15 * 14 + 4.17 + 0.08 ms.
    near(1e3 / closed_loop(&mut *disk(text), 1, 4096, true, 20_000), 12.7, 0.03);
    let near_by = "profile = 'hdd'\nrotational = { capacity_gb = 100000 }";
    near(1e3 / closed_loop(&mut *disk(near_by), 1, 4096, true, 20_000), 1.0 + 4.17 + 0.08, 0.05);
    near(closed_loop(&mut *disk(text), 1, 4096, false, 20_000), 1e6 / (60.0 + 16.45), 0.02);
}

#[test]
fn the_first_touch_of_a_block_is_slow_once() {
    let mut disk = disk("profile = 'gp3'\nlatency = { fixed_us = 500 }\nfirst_touch = { block_kb = 512, latency_ms = 30 }");
    let mut took = |at: u64, offset: u64| {
        let mut pieces = Vec::new();
        disk.read(Nanos::from_secs(at), offset, PAGE_BYTES, &mut pieces);
        pieces[0].done.since(Nanos::from_secs(at)).as_secs_f64()
    };
    near(took(1, 0), 0.0305, 0.01);
    near(took(2, 500 << 10), 0.0005, 0.05);
    near(took(3, 512 << 10), 0.0305, 0.01);
}

#[test]
fn a_read_that_continues_within_the_plug_is_one_request() {
    let mut disk = disk("profile = 'nvme'\nplug_us = 10");
    let mut pieces = Vec::new();
    for (now, offset) in [(0, 0), (5_000, 4096), (6_000, 8192), (100_000, 12_288), (100_000, 1 << 20)] {
        disk.read(Nanos(now), offset, 4096, &mut pieces);
    }
    assert_eq!((disk.stats().reads, disk.stats().read_bytes, pieces.len()), (3, 5 * 4096, 5));
    assert!(pieces[1].done.since(pieces[0].done).0 < 2_000, "a merged part waits for its bytes only: {pieces:?}");
}

#[test]
fn a_degraded_disk_is_slower_by_what_was_said_and_heals() {
    for (text, bytes, latency, slowdown, factor) in [
        ("profile = 'nvme'\nlatency = { fixed_us = 1000 }", 4096, 5.0, 1.0, 5.0),
        ("profile = 'nvme'", 1 << 20, 1.0, 4.0, 4.0),
        ("profile = 'gp3'", 1 << 20, 1.0, 4.0, 4.0),
        ("profile = 'loop'\nthrottle = { iops = 1000, bytes_per_s = 100000000 }", 1 << 20, 1.0, 4.0, 4.0),
    ] {
        let healthy = closed_loop(&mut *disk(text), 32, bytes, false, 2000);
        let mut worse = disk(text);
        worse.degrade(latency, slowdown);
        near(healthy / closed_loop(&mut *worse, 32, bytes, false, 2000), factor, 0.06);
        let mut healed = disk(text);
        healed.degrade(latency, slowdown);
        healed.degrade(1.0, 1.0);
        near(healthy / closed_loop(&mut *healed, 32, bytes, false, 2000), 1.0, 1e-9);
    }
}

#[test]
fn impossible_profiles_are_refused_by_name() {
    for (text, named) in [
        ("profile = 'nvme'\nchannels = 0", "channels = 0"),
        ("profile = 'nvme'\nbandwidth_mb = -1", "bandwidth_mb = -1"),
        ("profile = 'nvme'\nbandwidth_mb = nan", "bandwidth_mb = NaN"),
        ("profile = 'nvme'\nmax_sectors_kb = 5", "max_sectors_kb = 5"),
        ("profile = 'nvme'\nlatency = { sigma = 1 }", "latency = 0"),
        ("profile = 'nvme'\nlatency = { quantiles = [[0.9, 10], [0.5, 20]] }", "ascending"),
        ("profile = 'hdd'\nrotational = { rpm = 0 }", "rotational.rpm = 0"),
        ("profile = 'gp2-burst'\niops = { burst = 1 }", "iops.burst = 1"),
        ("profile = 'loop'\nthrottle = { hz = 1 }", "throttle.hz = 1"),
        ("profile = 'gp3'\nipos = 3", "ipos"),
        ("profile = 7", "name of a profile"),
        ("channels = 4", "missing field"),
    ] {
        let error = with(text).expect_err(text).to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
}

#[test]
fn overrides_keep_what_they_do_not_name() {
    let gp3 = with("profile = 'gp3'\niops = { baseline = 6000 }\nlatency = { fixed_us = 900 }").unwrap();
    assert_eq!((gp3.iops.map(|b| b.baseline), gp3.bytes.map(|b| b.baseline)), (Some(6000.0), Some(131_072_000.0)));
    assert_eq!(gp3.latency, Latency { fixed_us: 900.0, ..Latency::default() });
    let again = with(&toml::to_string(&gp3).unwrap()).unwrap();
    assert_eq!(again, gp3);
}

/// A profile, and reads as (ns after the one before, page, pages).
fn reads() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    prop::collection::vec((0..20_000_000u64, 0..4000u64, 1..2000u64), 1..200)
}

fn run(disk: &mut dyn Disk, reads: &[(u64, u64, u64)]) -> Vec<(Nanos, u64, Vec<Piece>)> {
    let mut now = Nanos(0);
    let one = |&(gap, page, pages): &(u64, u64, u64)| {
        now = now + Nanos(gap);
        let mut pieces = Vec::new();
        disk.read(now, page * PAGE_BYTES, pages * PAGE_BYTES, &mut pieces);
        (now, pages * PAGE_BYTES, pieces)
    };
    reads.iter().map(one).collect()
}

proptest! {
    #[test]
    fn nothing_is_done_before_it_is_asked_for_and_no_byte_is_lost(which in 0..7usize, reads in reads(), seed: u64) {
        let name = &Profile::names().unwrap()[which];
        let mut disk = Profile::named(name).unwrap().build(seed).unwrap();
        let limit = u64::from(disk.limits().max_sectors_kb) << 10;
        for (now, bytes, pieces) in run(&mut *disk, &reads) {
            prop_assert_eq!(pieces.iter().map(|p| p.bytes).sum::<u64>(), bytes);
            prop_assert!(pieces.iter().all(|p| p.done > now && p.bytes > 0 && p.bytes <= limit), "{}: {:?}", name, pieces);
        }
        prop_assert_eq!(disk.stats().read_bytes, reads.iter().map(|r| r.2 * PAGE_BYTES).sum::<u64>());
    }

    #[test]
    fn equal_seeds_give_equal_disks(which in 0..7usize, reads in reads(), seed: u64) {
        let name = &Profile::names().unwrap()[which];
        let mut done = (0..2).map(|_| run(&mut *Profile::named(name).unwrap().build(seed).unwrap(), &reads));
        prop_assert_eq!(done.next(), done.next());
    }

    #[test]
    fn more_bandwidth_is_never_slower(reads in reads(), seed: u64, more in 1.0..10.0f64, which in 0..7usize) {
        let slow = Profile::named(&Profile::names().unwrap()[which]).unwrap();
        let mut fast = slow.clone();
        fast.bandwidth_mb *= more;
        fast.request_mb = fast.request_mb.map(|r| r * more);
        let slow = run(&mut *slow.build(seed).unwrap(), &reads);
        let fast = run(&mut *fast.build(seed).unwrap(), &reads);
        for (s, f) in slow.iter().zip(&fast).flat_map(|(s, f)| s.2.iter().zip(&f.2)) {
            // Times are rounded to a nanosecond at each step.
            prop_assert!(f.done.0 <= s.done.0 + 1000, "{:?} after {:?}", f, s);
        }
    }

    #[test]
    fn the_throttle_keeps_its_rate_over_any_long_time(
        iops in 50..10_000u32, mb in 1..500u64, gaps in prop::collection::vec((0..3_000_000u64, 1..256u64), 500..2000),
    ) {
        let limits = ThrottleLimits { iops, bytes_per_s: mb * 1_000_000, hz: 250 };
        let mut throttle = Throttle::new(limits);
        let mut now = Nanos(0);
        let mut left: Vec<(Nanos, u64)> = Vec::new();
        for (gap, pages) in gaps {
            now = now + Nanos(gap);
            let at = throttle.admit(now, pages * PAGE_BYTES);
            prop_assert!(at >= now && left.last().is_none_or(|l| l.0 <= at));
            left.push((at, pages * PAGE_BYTES));
        }
        // From any bio on: a slice rounded up and two kept beside what the time itself allows, and the bio that starts it.
        for from in (0..left.len()).step_by(37) {
            let (mut ios, mut bytes) = (0.0, 0.0);
            for (at, size) in &left[from + 1..] {
                (ios, bytes) = (ios + 1.0, bytes + *size as f64);
                let seconds = at.since(left[from].0).as_secs_f64() + 0.31;
                prop_assert!(ios <= f64::from(iops) * seconds + 1.0, "{ios} IOs in {seconds} s");
                prop_assert!(bytes <= mb as f64 * 1e6 * seconds + 1.0, "{bytes} bytes in {seconds} s");
            }
        }
    }
}
