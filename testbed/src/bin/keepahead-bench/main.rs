// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead-bench tuning`: measures on this machine, now; prints tables and writes `target/bench/NAME.json`. Nothing is
//! tuned to the bench: seeds come from the clock and are printed. `KEEPAHEAD_BENCH=quick` measures fewer values, once;
//! `KEEPAHEAD_BENCH_POLICY=learned` measures that policy.

mod agent;
mod db;
mod load;
mod phases;
mod table;
mod tuning;

use std::time::SystemTime;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "tuning".into());
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick");
    let policy = std::env::var("KEEPAHEAD_BENCH_POLICY").unwrap_or_else(|_| "rules".into());
    println!("kernel {}, seed {seed}, policy {policy}{}", kernel(), if quick { ", quick" } else { "" });
    match name.as_str() {
        "tuning" => tuning::run(seed, quick, &policy),
        other => anyhow::bail!("{other:?} is no bench of this program; there is tuning"),
    }
}

pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
