// SPDX-License-Identifier: MIT OR Apache-2.0
//! Direct reads through the kernel's blk-throttle on the testbed against the same reads on the model: for the test of a few points
//! (`tests/device.rs`) and the bench of many (`benches/sim.rs`).

use keepahead_core::units::Nanos;
use keepahead_sim::device::Profile;
use keepahead_testbed::{Fs, Testbed, run};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SECONDS: u64 = 3;
/// The loop device itself must not be the limit: a machine that cannot do 250 MB/s cannot show how the throttle does it.
const FILE_MIB: u64 = 512;

/// What reads of `kib` at a depth gave: MB/s, and the share of reads that waited for longer than 10 ms.
#[derive(Debug)]
struct Figures {
    mb_per_s: f64,
    stalled: f64,
}

fn real(testbed: &Testbed, kib: u64, depth: u64) -> Figures {
    let mut fio = testbed.cgroup.command("fio");
    fio.args(["--name=r", "--rw=read", "--direct=1", "--ioengine=libaio", "--time_based", "--output-format=json"]);
    fio.arg(format!("--filename={}", testbed.mount().join("data").display())).arg(format!("--bs={kib}k"));
    fio.arg(format!("--iodepth={depth}")).arg(format!("--runtime={SECONDS}")).arg("--fadvise_hint=0");
    let report: serde_json::Value = serde_json::from_str(&run(&mut fio).unwrap()).unwrap();
    let read = &report["jobs"][0]["read"];
    let bins = report["jobs"][0]["latency_ms"].as_object().unwrap();
    let late = bins.iter().filter(|(ms, _)| ms.parse().map_or(true, |ms: u64| ms > 10)).filter_map(|b| b.1.as_f64());
    Figures { mb_per_s: read["bw_bytes"].as_f64().unwrap() / 1e6, stalled: late.sum::<f64>() / 100.0 }
}

fn model(iops: u64, bytes_per_s: u64, kib: u64, depth: u64) -> Figures {
    let text = format!("profile = 'loop'\nthrottle = {{ iops = {iops}, bytes_per_s = {bytes_per_s} }}");
    let mut disk = Profile::from_table(text.parse().unwrap()).unwrap().build(1).unwrap();
    let mut readers = BinaryHeap::from(vec![Reverse(Nanos(0)); depth as usize]);
    let (end, mut next, mut ended, mut late, mut pieces) = (Nanos::from_secs(SECONDS), 0, 0u64, 0u64, Vec::new());
    while let Some(Reverse(now)) = readers.pop().filter(|now| now.0 < end) {
        pieces.clear();
        disk.read(now, next * (kib << 10), kib << 10, &mut pieces);
        let done = pieces.iter().map(|p| p.done).max().unwrap();
        ended += u64::from(done <= end);
        late += u64::from(done.since(now) > Nanos::from_millis(10));
        next += 1;
        readers.push(Reverse(done));
    }
    Figures { mb_per_s: (ended * (kib << 10)) as f64 / 1e6 / SECONDS as f64, stalled: late as f64 / next as f64 }
}

/// Prints every point, real and model, and gives how far off its throughput is (a share) with its IOPS, KiB and depth.
pub fn sweep(limits: &[(u64, u64)], sizes: &[u64], depths: &[u64]) -> Vec<(f64, u64, u64, u64)> {
    let testbed = Testbed::new(FILE_MIB + 128, Fs::Ext4).unwrap();
    testbed.file("data", FILE_MIB).unwrap();
    let mut points = Vec::new();
    for &(iops, bytes_per_s) in limits {
        testbed.limit(iops, bytes_per_s, 512).unwrap();
        for (&kib, &depth) in sizes.iter().flat_map(|kib| depths.iter().map(move |depth| (kib, depth))) {
            let model = model(iops, bytes_per_s, kib, depth);
            // A neighbour's burst of load can only slow the real one down: the better of two.
            let real = [real(&testbed, kib, depth), real(&testbed, kib, depth)]
                .into_iter()
                .max_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s));
            let real = real.unwrap();
            let error = model.mb_per_s / real.mb_per_s - 1.0;
            println!(
                "{iops:>5} IOPS {:>3} MB/s | {kib:>4} KiB depth {depth} | {:>6.1} real {:>6.1} model {:>5.1} % | stalled {:.4} real {:.4} model",
                bytes_per_s / 1_000_000,
                real.mb_per_s,
                model.mb_per_s,
                error * 100.0,
                real.stalled,
                model.stalled
            );
            points.push((error.abs(), iops, kib, depth));
        }
    }
    points
}
