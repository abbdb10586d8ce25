// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cooperating programs gain through the control socket, on a device of 3000 IOPS and 150 MB/s with 512 MB of memory: the figures of
//! `control.json`. Programs are those of `tests/control` and `tests/clients`, which
//! use the Python package.

mod bed;
mod crowd;
mod programs;
mod tenants;

use anyhow::anyhow;
use bed::Bed;
use serde_json::{Value, json};
use std::time::Duration;

const IOPS: u64 = 3000;
const BYTES_PER_S: u64 = 150_000_000;
const MEMORY_MIB: u64 = 512;
/// Time for the loop to find the windows, and then to measure them, seconds.
const FIND_S: u64 = 60;
const MEASURE_S: u64 = 15;

struct Sizes {
    files: usize,
    weights_mib: u64,
    backup_mib: u64,
    connections: usize,
    plans: usize,
    trials: usize,
    statics: &'static [u32],
    /// Of the scan and of the lookups, KiB.
    windows: &'static [[u32; 2]],
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick");
    let sizes = match quick {
        true => Sizes {
            files: 3000,
            weights_mib: 768,
            backup_mib: 1024,
            connections: 2000,
            plans: 200,
            trials: 1,
            statics: &[16, 48, 128],
            windows: &[[64, 16]],
        },
        false => Sizes {
            files: 20_000,
            weights_mib: 2048,
            backup_mib: 2048,
            connections: 10_000,
            plans: 1000,
            trials: 3,
            statics: &[4, 16, 32, 48, 64, 96, 128, 256, 512],
            windows: &[[48, 16], [64, 4], [64, 16], [96, 16], [128, 4], [128, 16], [256, 4]],
        },
    };
    let mut rows = Vec::new();
    /// The rows' figures, in the order of their names.
    type Part = fn(&Bed, &Sizes) -> anyhow::Result<Vec<Value>>;
    let (none, late) = (Duration::ZERO, Duration::from_millis(1));
    let (small, weights) = (sizes.files as u64 / 6 + 300, sizes.weights_mib + 300);
    let parts: [(&[&str], u64, Duration, Part); 10] = [
        (&["epochs_bandwidth_ratio", "epochs_speedup"], small, none, programs::epochs),
        (&["epochs_bandwidth_ratio_late", "epochs_speedup_late"], small, late, programs::epochs),
        (&["weights_speedup", "weights_ratio_to_cat"], weights, none, programs::weights),
        (&["weights_speedup_late", "weights_ratio_to_cat_late"], weights, late, programs::weights),
        (&["small_weights_speedup", "small_weights_ratio_to_cat"], weights, none, programs::small_weights),
        (&["small_weights_speedup_late", "small_weights_ratio_to_cat_late"], weights, late, programs::small_weights),
        (&["reader_hit_ratio_kept"], sizes.backup_mib + 700, none, programs::reader),
        (&["tenants_min_ratio", "wrong_hint_cost_percent"], 1800, none, tenants::tenants),
        (&["left_behind"], 500, none, crowd::left_behind),
        (&["connections_survived", "crowd_trials_same", "crowd_pairs_ratio"], 900, none, crowd::crowd),
    ];
    let only = std::env::var("KEEPAHEAD_BENCH_ROWS").unwrap_or_default();
    for (names, mib, latency, part) in parts {
        if !only.is_empty() && !only.split(',').any(|word| names[0].contains(word)) {
            continue;
        }
        let mut measured = Bed::new(mib, latency)
            .and_then(|bed| part(&bed, &sizes))
            .unwrap_or_else(|e| names.iter().map(|_| json!({ "value": null, "why": format!("{e:#}") })).collect());
        for (row, name) in measured.iter_mut().zip(names) {
            row["name"] = json!(name);
        }
        rows.extend(measured);
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let value = row["value"].as_f64().map_or("-".into(), |v| format!("{v:.2}"));
        println!("{:26} {value:>9} {}: {}{}", text("name"), text("unit"), text("detail"), text("why"));
    }
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/control.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    println!("written: target/bench/control.json");
    Ok(())
}

fn row(value: f64, unit: &str, detail: String) -> Value {
    json!({ "value": value, "unit": unit, "detail": detail })
}

fn speed(run: &Value) -> anyhow::Result<f64> {
    run["mb_per_s"].as_f64().ok_or_else(|| anyhow!("no speed in {run}"))
}
