// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead-workload FILE --phases seq-read:20,rand-mmap:20`: runs closed-loop phases over one file that it opens once, and prints
//! a JSON line at each interval and at the end of each phase.

use clap::Parser;
use keepahead_testbed::workload::{self, Kind};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    file: PathBuf,
    /// KIND:SECONDS,…
    #[arg(long, value_delimiter = ',', value_parser = phase)]
    phases: Vec<(Kind, Duration)>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
}

fn phase(text: &str) -> anyhow::Result<(Kind, Duration)> {
    let (kind, seconds) = text.split_once(':').ok_or_else(|| anyhow::anyhow!("{text:?}: wanted KIND:SECONDS"))?;
    Ok((kind.parse()?, Duration::try_from_secs_f64(seconds.parse()?)?))
}

fn main() -> anyhow::Result<()> {
    let a = Arguments::parse();
    workload::run(&a.file, &a.phases, a.seed, Duration::from_millis(a.every_ms), &mut std::io::stdout().lock())
}
