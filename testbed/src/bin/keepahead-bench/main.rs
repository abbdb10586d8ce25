// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead-bench tuning`: measures on this machine, now; prints tables and writes `target/bench/NAME.json`. Nothing is
//! tuned to the bench: seeds come from the clock and are printed. Its help names the environment variables it takes.

mod agent;
mod db;
mod load;
mod phases;
mod table;
mod tuning;

use clap::{Parser, ValueEnum};
use std::process::ExitCode;
use std::time::SystemTime;

const ENVIRONMENT: &str = "\
Environment:
  KEEPAHEAD_BENCH=quick            one order of turns where nothing drifts, phases of 30 s
  KEEPAHEAD_BENCH_POLICY=learned   measure that policy instead of the rules
  KEEPAHEAD_BENCH_ROWS=seq,runs    only the rows whose name contains one of these words
  KEEPAHEAD_TESTBED_DIR=DIR        where the device's file lives (some 8 GB), instead of /var/tmp";

/// Measures on this machine, now (root; many minutes): prints tables and writes target/bench/NAME.json.
#[derive(Parser)]
#[command(after_help = ENVIRONMENT)]
struct Arguments {
    #[arg(value_enum, default_value_t)]
    bench: Bench,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Bench {
    /// Does keepahead find what a sweep of static values finds?
    #[default]
    Tuning,
}

fn main() -> ExitCode {
    let Arguments { bench } = Arguments::parse();
    match run(bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("keepahead-bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: Bench) -> anyhow::Result<()> {
    if let Some(why) = keepahead_testbed::unavailable() {
        anyhow::bail!("no bench here: {why}");
    }
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let quick = std::env::var("KEEPAHEAD_BENCH").is_ok_and(|mode| mode == "quick");
    let policy = std::env::var("KEEPAHEAD_BENCH_POLICY").unwrap_or_else(|_| "rules".into());
    println!("kernel {}, seed {seed}, policy {policy}{}", kernel(), if quick { ", quick" } else { "" });
    match bench {
        Bench::Tuning => tuning::run(seed, quick, &policy),
    }
}

pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}
