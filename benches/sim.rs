// SPDX-License-Identifier: MIT OR Apache-2.0
//! How true and how fast the simulator is, on this machine, now. True in each event: random scripts on a real kernel and on the simulated
//! one. True in sum: every workload of the testbed at static values, on the throttled device and in the simulator for the same time from
//! a cold cache; counts come from the project's own sensor, not sampled, and are compared per demanded page, so that speed does not show
//! as an error of counts. The throttle by itself, with direct reads. Fast: the crate's own bench. Prints tables and writes `target/bench/sim.json`.
//! `KEEPAHEAD_BENCH=quick`: fewer values and scripts; `KEEPAHEAD_BENCH_ROWS=seq,runs,throttle`: only the workloads that contain one of the words.

#[path = "../tests/device/throttle.rs"]
mod throttle;

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
use serde::Serialize;
use serde_json::{Value, json};
use std::process::Command;

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
#[derive(Clone, Copy, Debug, Serialize)]
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
    let mut rows = measured(speed, &["random_cached_maccesses_per_s", "sequential_maccesses_per_s", "bytes_per_cached_page"]);
    for filesystem in ["ext4", "xfs"] {
        let names = [format!("events_identical_{filesystem}_percent"), format!("scripts_{filesystem}")];
        rows.extend(measured(|| events(filesystem), &names.each_ref().map(String::as_str)));
    }
    rows.extend(measured(sums, &["hit_ratio_error_percent_max", "throughput_error_percent_max", "ranking_equal_percent"]));
    rows.extend(measured(throttled, &["throttle_error_percent_max"]));
    for row in &rows {
        let value = row["value"]
            .as_f64()
            .map_or_else(|| row["why"].to_string(), |v| format!("{v:.2} {}", row["unit"].as_str().unwrap_or("")));
        println!("{:32} {value}", row["name"].as_str().unwrap_or_default());
    }
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/sim.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("written: target/bench/sim.json");
    Ok(())
}

/// The rows of one measurement; where it fails, the rows that it should have given, with the reason.
fn measured(measure: impl FnOnce() -> anyhow::Result<Vec<Value>>, names: &[&str]) -> Vec<Value> {
    measure()
        .unwrap_or_else(|e| names.iter().map(|name| json!({ "name": name, "value": null, "why": format!("{e:#}") })).collect())
}

fn quick() -> bool {
    std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick")
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    anyhow::ensure!(!text.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(text)
}

/// One thread, cached accesses, at 16 GiB of simulated cache.
fn speed() -> anyhow::Result<Vec<Value>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let text =
        output(Command::new(cargo).args(["bench", "--quiet", "--locked", "--package", "keepahead-sim", "--bench", "speed"]))?;
    let found: serde_json::Map<String, Value> = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
    let unit = |name: &str| {
        if name.contains("bytes") {
            "bytes"
        } else if name.contains("gib") {
            "GiB"
        } else {
            "million a second"
        }
    };
    Ok(found.iter().map(|(name, value)| json!({ "name": name, "value": value, "unit": unit(name) })).collect())
}

/// Random scripts on the real kernel and on the simulated one.
fn events(filesystem: &str) -> anyhow::Result<Vec<Value>> {
    let (seed, scripts) = (std::process::id().to_string(), if quick() { "100" } else { "1000" });
    let mut validate = Command::new(env!("CARGO_BIN_EXE_keepahead"));
    validate.args(["--format", "json", "sim", "validate", "--keep-going", "--scripts", scripts, "--seed", &seed]);
    let text = output(validate.args(["--save", "target/bench/mismatches", "--filesystem", filesystem]))?;
    let found: Value = serde_json::from_str(text.trim()).with_context(|| text.clone())?;
    let count = |name: &str| found[name].as_f64().unwrap_or(0.0);
    let same = 100.0 * (count("identical") + count("varying")) / count("scripts");
    Ok(vec![
        json!({ "name": format!("events_identical_{filesystem}_percent"), "value": same, "unit": "% of scripts", "seed": seed,
            "kernel": found["kernel"], "events": found["events"], "varying": found["varying"], "disturbed": found["disturbed"] }),
        json!({ "name": format!("scripts_{filesystem}"), "value": found["scripts"], "unit": "" }),
    ])
}

/// Whether a row is among those that were asked for.
fn wanted(name: &str) -> bool {
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    only.is_empty() || only.split(',').any(|word| name.contains(word))
}

/// Direct reads of each size and depth under each limit, really and on the model alone.
fn throttled() -> anyhow::Result<Vec<Value>> {
    anyhow::ensure!(wanted("throttle"), "not asked for");
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("{why}");
    }
    let (sizes, depths): (&[u64], &[u64]) = match quick() {
        true => (&[4, 256, 4096], &[1, 4]),
        false => (&[4, 16, 64, 128, 256, 512, 1024, 2048, 4096], &[1, 2, 4]),
    };
    let points = throttle::sweep(&[(1000, 400_000_000), (3000, 150_000_000), (6000, 250_000_000)], sizes, depths);
    let worst = points.iter().map(|(error, ..)| 100.0 * error).fold(0.0, f64::max);
    Ok(vec![json!({ "name": "throttle_error_percent_max", "value": worst, "unit": "%", "points": points.len() })])
}

/// Every workload at static values, really and simulated.
fn sums() -> anyhow::Result<Vec<Value>> {
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("{why}");
    }
    let values: &[u32] = if quick() { &QUICK } else { &VALUES };
    let testbed = Testbed::new(2200, Fs::Ext4)?;
    let file = testbed.file("data", 1500)?;
    let mut sensor = EbpfSensor::open(&Places::default())?;
    sensor.force_shift(0)?;
    let (mut worst, mut equal, mut count, mut points) = (Error::default(), 0, 0, Vec::new());
    for (scenario, workload, iops, mb) in ROWS {
        if !wanted(workload) {
            continue;
        }
        testbed.limit(iops, mb * 1_000_000, 512)?;
        // Random faults that read the window at each miss are so few that 10 s of them differ by 3 % from seed to seed.
        let seconds = if workload == "rand-mmap" { 3 * SECONDS } else { SECONDS };
        let mut pairs = Vec::new();
        for &kib in values {
            let real = really(&testbed, &file, &mut sensor, (workload, seconds), kib)?;
            let simulated = simulated(scenario, kib, seconds)?;
            let error = Error::of(&real, &simulated);
            println!(
                "{workload:10} {kib:5} KiB  real {:6.1} MB/s, hit {:.3}  simulated {:6.1} MB/s, {:.3}  off: throughput {:.1} %, hit {:.1} points, \
                 inserted {:.1} %, wasted {:.1} %, device {:.1} %",
                real.mb_per_s,
                real.hit_ratio,
                simulated.mb_per_s,
                simulated.hit_ratio,
                error.throughput,
                error.hit_ratio,
                error.inserted,
                error.wasted,
                error.device_bytes
            );
            worst = worst.max(error);
            points.push(json!({ "workload": workload, "read_ahead_kb": kib, "real": real, "simulated": simulated }));
            pairs.push((real.mb_per_s, simulated.mb_per_s));
        }
        count += 1;
        equal += usize::from(same_ranking(&pairs));
    }
    let percent = |name: &str, value: f64| json!({ "name": name, "value": value, "unit": "%" });
    Ok(vec![
        percent("hit_ratio_error_percent_max", worst.hit_ratio),
        percent("throughput_error_percent_max", worst.throughput),
        percent("inserted_error_percent_max", worst.inserted),
        percent("waste_error_percent_max", worst.wasted),
        percent("device_bytes_error_percent_max", worst.device_bytes),
        json!({ "name": "ranking_equal_percent", "value": 100.0 * equal as f64 / f64::from(count.max(1)), "unit": "% of workloads", "points": points }),
    ])
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
    (workload, length): (&str, u64),
    kib: u32,
) -> anyhow::Result<Point> {
    testbed.set_read_ahead(kib)?;
    testbed.drop_caches()?;
    let bdi = BdiName(testbed.number.clone());
    let mut read = || anyhow::Ok(sensor.read()?.get(&bdi).map(|s| s.counters).unwrap_or_default());
    let before = read()?;
    let progress = Running::start(testbed, file, &format!("{workload}:{length}"), 12345 + u64::from(kib))?.finish()?;
    let counters = read()?.since(&before);
    anyhow::ensure!(testbed.read_ahead()? == kib, "read_ahead_kb was changed by somebody else");
    let (bytes, seconds) = progress.iter().fold((0.0, 0.0), |(b, s), p: &Progress| (b + p.bytes as f64, s + p.seconds));
    // The last part of a second is worked but not told.
    Ok(Point { mb_per_s: bytes / 1e6 / seconds, ..Point::new(&counters, bytes * length as f64 / seconds, length as f64) })
}

fn simulated(scenario: &str, kib: u32, seconds: u64) -> anyhow::Result<Point> {
    let path = format!("fixtures/scenarios/{scenario}.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let mut spec = Scenario::parse(&text)?.spec()?;
    spec.end = Nanos::from_secs(seconds);
    let report = world::run(spec, &Control::Static(Kib(kib)), &())?;
    let total = report.total();
    Ok(Point::new(&total.counters, total.work_bytes as f64, total.seconds))
}
