// SPDX-License-Identifier: MIT OR Apache-2.0
//! How true the simulator is: every workload of the testbed at static values, on the real device and in the simulator for the same time
//! from a cold cache. Counts come from the project's own sensor, not sampled, and are compared per demanded page, so that speed does
//! not show as an error of counts. Prints a table and one JSON object with the largest errors.
//! `KEEPAHEAD_BENCH=quick`: fewer values; `KEEPAHEAD_BENCH_ROWS=seq,runs`: only the rows that contain one of the words.

use anyhow::Context;
use keepahead::sensor::{EbpfSensor, Places, Sense};
use keepahead_core::device::BdiName;
use keepahead_core::sample::Counters;
use keepahead_core::units::{Kib, Nanos};
use keepahead_sim::scenario::Scenario;
use keepahead_sim::spec::Control;
use keepahead_sim::world;
use keepahead_testbed::workload::{Progress, Running};
use keepahead_testbed::{Fs, Testbed};
use serde_json::json;

/// Scenario in `fixtures/scenarios`, workload of `keepahead-workload`, IOPS and MB/s of the throttle.
const ROWS: [(&str, &str, u64, u64); 6] = [
    ("testbed-seq-read", "seq-read", 1000, 400),
    ("testbed-seq-mmap", "seq-mmap", 1000, 400),
    ("testbed-rand-mmap-from-128", "rand-mmap", 3000, 150),
    ("testbed-runs-8", "runs8", 3000, 150),
    ("testbed-runs-32", "runs32", 3000, 150),
    ("testbed-rand-pread", "rand-pread", 3000, 150),
];
const VALUES: [u32; 8] = [16, 32, 64, 128, 256, 512, 1024, 2048];
const QUICK: [u32; 4] = [16, 128, 512, 2048];
const SECONDS: u64 = 10;
/// Throughputs this close are one: a throttled run repeated differs by up to 3 %.
const TIED: f64 = 0.05;

/// What a run did, per demanded page.
#[derive(Clone, Copy, Debug)]
struct Point {
    mb_per_s: f64,
    hit_ratio: f64,
    inserted: f64,
    wasted: f64,
    device_bytes: f64,
}

impl Point {
    /// Demanded pages are what the program says it got; touches of mapped pages are invisible to the sensor.
    fn new(counters: &Counters, bytes: f64, seconds: f64) -> Point {
        let pages = (bytes / 4096.0).max(1.0);
        let waited = counters.read_miss + counters.read_late + counters.mmap_miss + counters.mmap_late;
        Point {
            mb_per_s: bytes / 1e6 / seconds,
            hit_ratio: 1.0 - waited as f64 / pages,
            inserted: (counters.read_miss + counters.mmap_miss + counters.spec_added) as f64 / pages,
            wasted: counters.spec_evicted as f64 / pages,
            device_bytes: counters.dev_read_bytes as f64 / pages,
        }
    }
}

/// How far a simulated point is off, percent.
#[derive(Clone, Copy, Debug, Default)]
struct Error {
    throughput: f64,
    /// Points of the ratio.
    hit_ratio: f64,
    inserted: f64,
    /// Of the pages inserted.
    wasted: f64,
    device_bytes: f64,
}

impl Error {
    fn of(real: &Point, simulated: &Point) -> Error {
        let relative = |a: f64, b: f64| if a > 0.0 { (b - a).abs() / a * 100.0 } else { 0.0 };
        Error {
            throughput: relative(real.mb_per_s, simulated.mb_per_s),
            hit_ratio: (simulated.hit_ratio - real.hit_ratio).abs() * 100.0,
            inserted: relative(real.inserted, simulated.inserted),
            wasted: (simulated.wasted - real.wasted).abs() / real.inserted.max(1e-9) * 100.0,
            device_bytes: relative(real.device_bytes, simulated.device_bytes),
        }
    }

    fn max(self, other: Error) -> Error {
        Error {
            throughput: self.throughput.max(other.throughput),
            hit_ratio: self.hit_ratio.max(other.hit_ratio),
            inserted: self.inserted.max(other.inserted),
            wasted: self.wasted.max(other.wasted),
            device_bytes: self.device_bytes.max(other.device_bytes),
        }
    }
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick");
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    let values: &[u32] = if quick { &QUICK } else { &VALUES };
    let testbed = Testbed::new(2200, Fs::Ext4)?;
    let file = testbed.file("data", 1500)?;
    let mut sensor = EbpfSensor::open(&Places::default())?;
    sensor.force_shift(0)?;
    let (mut worst, mut equal, mut count, mut points) = (Error::default(), 0, 0, Vec::new());
    for (scenario, workload, iops, mb) in ROWS {
        if !only.is_empty() && !only.split(',').any(|word| workload.contains(word)) {
            continue;
        }
        testbed.limit(iops, mb * 1_000_000, 512)?;
        let mut pairs = Vec::new();
        for &kib in values {
            let real = really(&testbed, &file, &mut sensor, workload, kib)?;
            let simulated = simulated(scenario, kib)?;
            let error = Error::of(&real, &simulated);
            eprintln!("{workload:10} {kib:5} KiB real {real:.3?}\n{:21} sim  {simulated:.3?}\n{:21} off  {error:.1?}", "", "");
            worst = worst.max(error);
            points.push(json!({ "workload": workload, "read_ahead_kb": kib,
                "real": [real.mb_per_s, real.hit_ratio, real.inserted, real.wasted, real.device_bytes],
                "simulated": [simulated.mb_per_s, simulated.hit_ratio, simulated.inserted, simulated.wasted, simulated.device_bytes] }));
            pairs.push((real.mb_per_s, simulated.mb_per_s));
        }
        count += 1;
        equal += usize::from(same_ranking(&pairs));
    }
    let result = json!({
        "throughput_error_percent_max": worst.throughput,
        "hit_ratio_error_percent_max": worst.hit_ratio,
        "inserted_error_percent_max": worst.inserted,
        "waste_error_percent_max": worst.wasted,
        "device_bytes_error_percent_max": worst.device_bytes,
        "ranking_equal_percent": 100.0 * equal as f64 / f64::from(count.max(1)),
        "points": points,
    });
    println!("{result}");
    Ok(())
}

/// No two values whose real throughputs differ clearly are the other way round in the simulator.
fn same_ranking(pairs: &[(f64, f64)]) -> bool {
    pairs.iter().all(|(real, simulated)| {
        pairs
            .iter()
            .all(|(other, other_simulated)| real >= &(other * (1.0 - TIED)) || simulated <= &(other_simulated * (1.0 + TIED)))
    })
}

fn really(
    testbed: &Testbed,
    file: &std::path::Path,
    sensor: &mut EbpfSensor,
    workload: &str,
    kib: u32,
) -> anyhow::Result<Point> {
    testbed.set_read_ahead(kib)?;
    testbed.drop_caches()?;
    let bdi = BdiName(testbed.number.clone());
    let mut read = || anyhow::Ok(sensor.read()?.get(&bdi).map(|s| s.counters).unwrap_or_default());
    let before = read()?;
    let progress = Running::start(testbed, file, &format!("{workload}:{SECONDS}"), 12345 + u64::from(kib))?.finish()?;
    let counters = read()?.since(&before);
    anyhow::ensure!(testbed.read_ahead()? == kib, "read_ahead_kb was changed by somebody else");
    let (bytes, seconds) = progress.iter().fold((0.0, 0.0), |(b, s), p: &Progress| (b + p.bytes as f64, s + p.seconds));
    // The last part of a second is worked but not told.
    Ok(Point { mb_per_s: bytes / 1e6 / seconds, ..Point::new(&counters, bytes * SECONDS as f64 / seconds, SECONDS as f64) })
}

fn simulated(scenario: &str, kib: u32) -> anyhow::Result<Point> {
    let path = format!("fixtures/scenarios/{scenario}.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let mut spec = Scenario::parse(&text)?.spec()?;
    spec.end = Nanos::from_secs(SECONDS);
    let report = world::run(spec, &Control::Static(Kib(kib)), &())?;
    let total = report.total();
    Ok(Point::new(&total.counters, total.work_bytes as f64, total.seconds))
}
