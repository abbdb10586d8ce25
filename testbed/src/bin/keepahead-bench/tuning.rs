// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does keepahead find what a sweep of static values finds? Each row: a workload behind a throttle where the knob matters.

use crate::agent::Agent;
use crate::load::{Load, Rate, mean};
use crate::{db, table};
use keepahead_testbed::workload::Kind;
use keepahead_testbed::{Fs, Testbed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

struct Row {
    load: Load,
    start_kib: u32,
    iops: u64,
    bytes_per_s: u64,
}

const SWEEP: &[u32] = &[16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
const QUICK: &[u32] = &[16, 128, 512, 2048];
/// keepahead's run: it must have settled after 30 s; the rest is its score.
const RUN_S: f64 = 45.0;
const SETTLED_S: f64 = 30.0;

fn rows() -> Vec<Row> {
    let row = |load, start_kib, iops, mb: u64| Row { load, start_kib, iops, bytes_per_s: mb * 1_000_000 };
    let mut rows = vec![
        row(Load::Own(Kind::SeqRead), 128, 1000, 400),
        row(Load::Own(Kind::SeqMmap), 128, 1000, 400),
        row(Load::Own(Kind::RandMmap), 128, 3000, 150),
        row(Load::Own(Kind::RandMmap), 2048, 3000, 150),
        row(Load::Own(Kind::Runs(8)), 128, 3000, 150),
        row(Load::Own(Kind::Runs(32)), 128, 3000, 150),
        row(Load::Own(Kind::RandPread), 128, 3000, 150),
        row(Load::Own(Kind::Idle), 128, 3000, 150),
    ];
    rows.extend(["readrandom", "readseq", "readreverse", "seekrandom"].map(|name| row(Load::Db(name), 128, 6000, 250)));
    rows
}

pub fn run(seed: u64, quick: bool) -> anyhow::Result<()> {
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    let testbed = Testbed::new(4200, Fs::Ext4)?;
    let file = testbed.file("data", 1500)?;
    let mut database: Option<PathBuf> = None;
    let mut results = Vec::new();
    for row in rows().iter().filter(|r| only.is_empty() || only.split(',').any(|o| r.load.name().contains(o))) {
        let measured = match (row.load, &database) {
            (Load::Db(_), None) => match db::unavailable() {
                Some(why) => Err(anyhow::anyhow!(why)),
                None => db::build(&testbed).map(|dir| database.insert(dir).clone()),
            },
            (Load::Db(_), Some(dir)) => Ok(dir.clone()),
            (Load::Own(_), _) => Ok(file.clone()),
        }
        .and_then(|path| measure(&testbed, &path, row, seed, quick));
        let name = format!("{} from {} KiB", row.load.name(), row.start_kib);
        let result = measured.unwrap_or_else(|e| json!({ "value": null, "why": format!("{e:#}") }));
        let mut result = json!({ "name": name, "unit": row.load.unit(), "seed": seed, "kernel": crate::kernel(),
            "iops": row.iops, "bytes_per_s": row.bytes_per_s, "memory_mib": 512, "result": result });
        let inner = result["result"].take();
        if let (Value::Object(all), Value::Object(inner)) = (&mut result, inner) {
            all.remove("result");
            all.extend(inner);
        }
        println!("{result}");
        results.push(result);
    }
    let columns = [
        "name",
        "unit",
        "default",
        "best_static",
        "best_static_kib",
        "keepahead",
        "ratio_to_default",
        "ratio_to_best",
        "settle_s",
        "changes_kept",
        "changes_reverted",
        "restored",
    ];
    table::print(&results, &columns);
    table::write("tuning", &results)
}

fn measure(testbed: &Testbed, path: &Path, row: &Row, seed: u64, quick: bool) -> anyhow::Result<Value> {
    testbed.limit(row.iops, row.bytes_per_s, 512)?;
    let idle = matches!(row.load, Load::Own(Kind::Idle));
    let values = if quick { QUICK } else { SWEEP };
    let passes = if quick { 1 } else { 2 };
    let mut sweep: Vec<(u32, Vec<f64>)> = values.iter().map(|v| (*v, Vec::new())).collect();
    if !idle {
        for pass in 0..passes {
            for (kib, scores) in &mut sweep {
                scores.push(score(&statically(testbed, path, row, *kib, if quick { 6.0 } else { 8.0 }, seed + pass)?, 2.0));
            }
        }
    }
    let median = |scores: &[f64]| {
        let mut sorted = scores.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    };
    let best_kib = sweep.iter().max_by(|a, b| median(&a.1).total_cmp(&median(&b.1))).map_or(row.start_kib, |b| b.0);

    testbed.set_read_ahead(row.start_kib)?;
    testbed.drop_caches()?;
    let state = testbed.mount().parent().map(|dir| dir.join("state")).unwrap_or_default();
    let agent = Agent::start(&[&testbed.name], &state)?;
    let rates = row.load.run(testbed, path, RUN_S, seed + 10)?;
    let records = agent.stop()?;
    let restored = testbed.read_ahead()? == row.start_kib;
    let ended = |outcome: &str| {
        records
            .iter()
            .filter(|(_, r)| r["record"] == "trial_ended" && r["verdict"]["outcome"] == outcome)
            .map(|(at, _)| *at)
            .collect::<Vec<_>>()
    };
    let (kept, rejected) = (ended("kept"), ended("reverted").len() + ended("aborted").len());
    let mut result = json!({ "changes_kept": kept.len(), "changes_reverted": rejected, "changes_void": ended("void").len(),
        "settle_s": kept.last(), "restored": restored,
        "final_kib": records.iter().rev().find_map(|(_, r)| r["verdict"]["outcome"].eq("kept").then(|| r["to"].clone())).unwrap_or(json!(row.start_kib)) });
    if idle {
        result["why"] = json!("an idle device: the number of changes is the result");
        return Ok(result);
    }
    // The same late stretch of a run at the default and at the best static value: what the cache holds by then counts too.
    let late = |kib| anyhow::Ok(mean(&statically(testbed, path, row, kib, 24.0, seed + 10)?, 12.0, RUN_S));
    let default = late(row.start_kib)?;
    let best = if best_kib == row.start_kib { default } else { late(best_kib)? };
    let ours = mean(&rates, SETTLED_S, RUN_S);
    let of_sweep: serde_json::Map<String, Value> = sweep.iter().map(|(kib, scores)| (kib.to_string(), json!(scores))).collect();
    for (key, value) in [
        ("default", default),
        ("best_static", best),
        ("keepahead", ours),
        ("ratio_to_default", ours / default),
        ("ratio_to_best", ours / best),
    ] {
        result[key] = json!(value);
    }
    result["best_static_kib"] = json!(best_kib);
    result["sweep"] = Value::Object(of_sweep);
    Ok(result)
}

fn statically(testbed: &Testbed, path: &Path, row: &Row, kib: u32, seconds: f64, seed: u64) -> anyhow::Result<Vec<Rate>> {
    testbed.set_read_ahead(kib)?;
    testbed.drop_caches()?;
    row.load.run(testbed, path, seconds, seed)
}

/// Throughput after a warm-up.
fn score(rates: &[Rate], warm_up: f64) -> f64 {
    mean(rates, warm_up, f64::INFINITY)
}
