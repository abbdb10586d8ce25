// SPDX-License-Identifier: MIT OR Apache-2.0
//! RocksDB's `db_bench` (Debian: rocksdb-tools) over mmap, as in the papers on readahead tuning.

use crate::load::Rate;
use anyhow::{Context, ensure};
use keepahead_testbed::{Testbed, run as command};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// 3.6 million values of 400 bytes: 1.5 GB, three times the memory of the workload.
const KEYS: u32 = 3_600_000;

/// Facebook's "prefix dist" mix of gets, puts and scans, as RocksDB's wiki gives it (Cao et al., FAST 2020), without its sine of rates.
const MIXGRAPH: [&str; 12] = [
    "--keyrange_dist_a=14.18",
    "--keyrange_dist_b=-2.917",
    "--keyrange_dist_c=0.0164",
    "--keyrange_dist_d=-0.08082",
    "--keyrange_num=30",
    "--value_k=0.2615",
    "--value_sigma=25.45",
    "--iter_k=2.517",
    "--iter_sigma=14.236",
    "--mix_get_ratio=0.85",
    "--mix_put_ratio=0.14",
    "--mix_seek_ratio=0.01",
];

pub fn unavailable() -> Option<String> {
    let found = Command::new("db_bench").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    (!found).then(|| "db_bench is missing: apt install rocksdb-tools".into())
}

fn arguments(dir: &Path) -> Vec<String> {
    let fixed = [
        "--compression_type=none",
        "--cache_size=8388608",
        "--value_size=400",
        "--threads=1",
        "--mmap_read=1",
        "--advise_random_on_open=0",
    ];
    let mut all: Vec<String> = fixed.iter().map(|s| (*s).to_owned()).collect();
    all.extend([format!("--db={}", dir.display()), format!("--num={KEYS}")]);
    all
}

/// Fills a database on the device, which [`run`] leaves as it is; its directory.
pub fn build(testbed: &Testbed) -> anyhow::Result<PathBuf> {
    let dir = testbed.mount().join("db");
    command(Command::new("db_bench").args(arguments(&dir)).args(["--benchmarks=fillseq,compact", "--disable_wal=1"]))?;
    Ok(dir)
}

/// The same database anew: a run that writes would leave the next one another. Tables are never changed in place, so links will do for
/// them, as in RocksDB's own checkpoints; the few small files beside them are copied.
fn checkpoint(dir: &Path) -> anyhow::Result<PathBuf> {
    let copy = dir.with_file_name("db.run");
    match std::fs::remove_dir_all(&copy) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).context(copy.display().to_string()),
        _ => std::fs::create_dir(&copy)?,
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (from, to) = (entry.path(), copy.join(entry.file_name()));
        let table = from.extension().is_some_and(|e| e == "sst");
        let done = if table { std::fs::hard_link(&from, &to) } else { std::fs::copy(&from, &to).map(|_| ()) };
        done.with_context(|| from.display().to_string())?;
    }
    Ok(copy)
}

/// Runs one benchmark for `seconds`: again from the start where it ends early (readseq and readreverse stop after one pass).
pub fn run(testbed: &Testbed, dir: &Path, name: &str, seconds: f64, seed: u64) -> anyhow::Result<Vec<Rate>> {
    let dir = checkpoint(dir)?;
    let (start, mut rates) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds - 0.5 {
        let offset = start.elapsed().as_secs_f64();
        let report = testbed.mount().with_file_name("report.csv");
        let said = testbed.mount().with_file_name("db_bench.err");
        let _ = std::fs::remove_file(&report);
        let left = seconds - offset;
        let mut db = testbed.cgroup.command("db_bench");
        db.args(arguments(&dir)).args([&format!("--benchmarks={name}"), "--use_existing_db=1", "--seek_nexts=50"]);
        if name == "mixgraph" {
            db.args(MIXGRAPH);
        }
        db.args([format!("--duration={}", left.ceil() as u64), format!("--seed={seed}")]);
        db.args(["--report_interval_seconds=1".to_owned(), format!("--report_file={}", report.display())]);
        let mut child = db.stdout(Stdio::null()).stderr(File::create(&said)?).spawn().context("db_bench")?;
        while start.elapsed().as_secs_f64() < seconds && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        match child.try_wait()? {
            // A pass that fails at once would otherwise be repeated to the end and count as slow.
            Some(status) => ensure!(status.success(), "db_bench {name}: {status}: {}", std::fs::read_to_string(&said)?.trim()),
            None => {
                child.kill()?;
                child.wait()?;
            }
        }
        rates.extend(parse(&std::fs::read_to_string(&report).unwrap_or_default(), offset));
    }
    Ok(rates)
}

/// `secs_elapsed,interval_qps` lines.
fn parse(report: &str, offset: f64) -> Vec<Rate> {
    let line = |l: &str| {
        let (second, rate) = l.split_once(',')?;
        Some(Rate {
            phase: 0,
            at_s: offset + second.trim().parse::<f64>().ok()?,
            seconds: 1.0,
            amount: rate.trim().parse().ok()?,
        })
    };
    report.lines().filter_map(line).collect()
}
