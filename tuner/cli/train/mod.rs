// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead train`: makes the data set in the simulator (or reads it), has the policies learn from it, writes the model and its card.
//! Equal seeds give equal files, byte for byte.

mod card;

use super::save::{self, save};
use super::sim::input::bad;
use super::sim::progress::Progress;
use super::{Exit, Format, Refused, output};
use anyhow::Context;
use clap::Args;
use keepahead_policies::dataset::Row;
use keepahead_policies::train::{Metrics, train};
use keepahead_sim::training::{self, DURATION_S, LADDER, WORLDS};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// The model to write.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The model card to write: data, seed, splits, metrics, known failures (Markdown).
    #[arg(long, value_name = "FILE", requires = "out")]
    pub card: Option<PathBuf>,
    /// Seed of all that is drawn: the worlds, and the splits and starts of the learning.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Worlds of the data set; each is run at eleven sizes from 4 to 8192 KiB.
    #[arg(long, value_name = "N", default_value_t = WORLDS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub worlds: u32,
    /// The data set (Parquet): read where it is there, else written.
    #[arg(long, value_name = "PARQUET")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub threads: super::sim::Threads,
}

/// What the data set is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Data {
    rows: usize,
    runs: usize,
    /// XXH64 of the Parquet file's bytes.
    hash: String,
}

/// What `--format json` says.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    data: &'a Data,
    metrics: Option<&'a Metrics>,
}

pub fn run(args: &TrainArgs, format: Format) -> anyhow::Result<Exit> {
    if args.out.is_none() && args.data.is_none() {
        return Err(
            Refused::new(Exit::Usage, "--out FILE for the model, or --data PARQUET for the data set, is missing").into()
        );
    }
    for file in [args.out.as_ref(), args.card.as_ref(), new_data(args)].into_iter().flatten() {
        save::check(file)?;
    }
    let Some(rows) = rows(args)? else { return Ok(super::sim::exit(true)) };
    let bytes = training::write(&rows)?;
    let hash = keepahead_sim::sweep::hash(&bytes, "");
    if let Some(path) = new_data(args) {
        save(path, &bytes)?;
    }
    let mut runs: Vec<u32> = rows.iter().map(|row| row.run).collect();
    runs.dedup();
    let data = Data { rows: rows.len(), runs: runs.len(), hash };
    let metrics = match &args.out {
        Some(out) => Some(learn(args, out, &rows, &data)?),
        None => None,
    };
    match format {
        Format::Json => output::json_line(&Told { data: &data, metrics: metrics.as_ref() })?,
        Format::Text => output::text(&told(&data, metrics.as_ref()))?,
    }
    Ok(Exit::Ok)
}

/// Where the data set is to be written.
fn new_data(args: &TrainArgs) -> Option<&PathBuf> {
    args.data.as_ref().filter(|path| !path.exists())
}

fn learn(args: &TrainArgs, out: &Path, rows: &[Row], data: &Data) -> anyhow::Result<Metrics> {
    let trained = train(rows, args.seed)?;
    let bytes = trained.model.to_bytes()?;
    save(out, &bytes)?;
    if let Some(card) = &args.card {
        save(card, card::card(data, args.seed, rows, &trained, bytes.len()).as_bytes())?;
    }
    Ok(trained.metrics)
}

fn told(data: &Data, metrics: Option<&Metrics>) -> String {
    let mut text = format!("{} rows of {} runs, hash {}\n", data.rows, data.runs, data.hash);
    for split in metrics.iter().flat_map(|metrics| &metrics.splits) {
        text += &format!(
            "left-out {}: pattern right {:.1} % (rules {:.1} %), stall to best {:.3} (rules {:.3})\n",
            split.left_out,
            split.accuracy_percent,
            split.rules_accuracy_percent,
            split.learned.end_to_best,
            split.rules.end_to_best
        );
    }
    text
}

/// The data set; `None` where Ctrl-C ended the making of it.
fn rows(args: &TrainArgs) -> anyhow::Result<Option<Vec<Row>>> {
    if let Some(path) = args.data.as_deref().filter(|path| path.exists()) {
        return read(path).map(Some);
    }
    let worlds = training::worlds(args.seed, args.worlds)?;
    let runs = worlds.len() * LADDER.len();
    let progress = Progress::new(Some(runs as u64 * u64::from(DURATION_S)))?;
    let rows = args.threads.pool()?.install(|| training::rows(&worlds, &progress))?;
    Ok((!progress.stopped()).then_some(rows))
}

fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    training::read(bytes).map_err(|error| bad(path, error))
}
