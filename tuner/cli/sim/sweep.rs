// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim sweep FILE… --out TABLE`: many runs into one Parquet table, in parts and in several goes; `sweep merge` puts tables
//! together.

use super::input::{Input, MachineArgs, bad, generation};
use super::progress::Progress;
use super::run::{Who, check_places};
use super::{Threads, exit};
use crate::cli::save::{self, save};
use crate::cli::{Exit, Format, Refused, output};
use clap::{Args, Subcommand};
use keepahead_core::settings::PolicyName;
use keepahead_core::units::Kib;
use keepahead_sim::compare::ladder;
use keepahead_sim::output::{csv, table};
use keepahead_sim::spec::Generation;
use keepahead_sim::sweep::{self, Cell, Shard, Subject, SweepRow};
use std::path::{Path, PathBuf};

/// Runs between two writes of the table: what a power cut can cost.
const BETWEEN_WRITES: usize = 128;

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SweepArgs {
    #[command(subcommand)]
    pub verb: Option<SweepVerb>,
    /// Scenarios (.toml) or traces.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The table. Runs that are in it already are not run again.
    #[arg(long, value_name = "PARQUET", required = true)]
    pub out: Option<PathBuf>,
    /// Kernels, with commas between, or `all` [default: the scenario's].
    #[arg(long, value_name = "VERSION,…", value_delimiter = ',', value_parser = kernels)]
    pub kernels: Vec<Kernels>,
    /// Seeds, with commas between [default: the scenario's].
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = seed)]
    pub seeds: Vec<u64>,
    /// Policies, with commas between: default, rules, learned, values in KiB, or `ladder` for 4 to 16384.
    #[arg(long, value_name = "POLICY,…", value_delimiter = ',', default_value = "default,ladder,rules", value_parser = policies)]
    pub policies: Vec<Policies>,
    /// Do this part only: 3/16 is the third of 16.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub shard: Shard,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Write the rows of the table here too.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
}

#[derive(Clone, Debug, Subcommand)]
pub enum SweepVerb {
    /// Put tables together; a run that is in several is kept once.
    Merge {
        #[arg(value_name = "PARQUET", required = true)]
        tables: Vec<PathBuf>,
        /// The table to write.
        #[arg(long, value_name = "PARQUET")]
        out: PathBuf,
    },
}

/// One word of a list that may stand for several values.
#[derive(Clone, Debug)]
pub struct Kernels(Vec<Generation>);
#[derive(Clone, Debug)]
pub struct Policies(Vec<sweep::Who>);

fn kernels(word: &str) -> Result<Kernels, String> {
    if word == "all" { Ok(Kernels(Generation::ALL.to_vec())) } else { generation(word).map(|one| Kernels(vec![one])) }
}

fn seed(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no seed: write whole numbers with commas between, such as 1,2,3"))
}

fn policies(word: &str) -> Result<Policies, String> {
    match word {
        "ladder" => Ok(Policies(ladder(Kib(4), Kib(16384)).into_iter().map(sweep::Who::Static).collect())),
        word => word.parse::<Who>().map(|one| Policies(vec![one.0])).map_err(|e| format!("{e}, or ladder")),
    }
}

pub fn run(args: SweepArgs, format: Format) -> anyhow::Result<Exit> {
    match (&args.verb, &args.out) {
        (Some(SweepVerb::Merge { tables, out }), _) => merge(tables, out),
        (None, Some(out)) => sweep(&args, out, format),
        (None, None) => Err(Refused::new(Exit::Usage, "--out PARQUET is missing").into()),
    }
}

fn merge(tables: &[PathBuf], out: &Path) -> anyhow::Result<Exit> {
    let tables = tables.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let rows = sweep::merge(tables).map_err(|e| Refused::new(Exit::Usage, e.to_string()))?;
    save(out, &sweep::write(&rows)?)?;
    eprintln!("{}: {} runs", out.display(), rows.len());
    Ok(Exit::Ok)
}

fn sweep(args: &SweepArgs, out: &Path, format: Format) -> anyhow::Result<Exit> {
    check_places(args.csv.as_deref(), None)?;
    let inputs = args.files.iter().map(|file| Input::load(file, &args.machine)).collect::<anyhow::Result<Vec<_>>>()?;
    let subjects: Vec<Subject> = inputs.iter().map(|input| subject(args, input)).collect();
    let mut controls: Vec<sweep::Who> = Vec::new();
    for who in args.policies.iter().flat_map(|word| &word.0) {
        if !controls.contains(who) {
            controls.push(*who);
        }
    }
    let mut rows = if out.exists() { read(out)? } else { Vec::new() };
    let cells = sweep::missing(sweep::cells(&subjects, &controls, args.shard), &subjects, &rows);
    if !cells.is_empty() {
        save::check(out)?;
    } else if !out.exists() {
        // A shard that has no run is a part of the whole, too.
        save(out, &sweep::write(&rows)?)?;
    }
    let seconds = cells.iter().map(|cell| inputs[cell.scenario].seconds()).sum();
    let progress = Progress::new(seconds)?;
    // Rows are told apart by the policy's name: a model of the user's own would pass for the one that ships.
    let learned = crate::policy::load(PolicyName::Learned, None)?;
    let run = |cell: &Cell| {
        if progress.stopped() {
            return Ok(None);
        }
        let input = &inputs[cell.scenario];
        input.run(cell.kernel, cell.seed, &Who(cell.who).control(&input.settings()?, &*learned), &progress).map(Some)
    };
    let pool = args.threads.pool()?;
    for part in cells.chunks(BETWEEN_WRITES) {
        let new = pool.install(|| sweep::run(part, &subjects, run))?;
        rows = sweep::merge([rows, new])?;
        save(out, &sweep::write(&rows)?)?;
        if progress.stopped() {
            break;
        }
    }
    let stopped = progress.stopped();
    drop(progress);
    show(args, &rows, format)?;
    Ok(exit(stopped))
}

fn subject(args: &SweepArgs, input: &Input) -> Subject {
    let mut kernels: Vec<Generation> = args.kernels.iter().flat_map(|word| word.0.clone()).collect();
    let mut seeds = args.seeds.clone();
    if kernels.is_empty() {
        kernels.push(input.kernel());
    }
    if seeds.is_empty() {
        seeds.push(input.seed());
    }
    // The same run twice would be the same row twice.
    kernels.sort_unstable();
    kernels.dedup();
    seeds.sort_unstable();
    seeds.dedup();
    Subject { hash: input.hash.clone(), kernels, seeds }
}

fn show(args: &SweepArgs, rows: &[SweepRow], format: Format) -> anyhow::Result<()> {
    if let Some(file) = &args.csv {
        save(file, &csv::csv(rows)?)?;
    }
    match format {
        Format::Text => output::text(&table::sweep(rows)),
        Format::Json => rows.iter().try_for_each(output::json_line),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<SweepRow>> {
    let bytes = std::fs::read(path).map_err(|e| bad(path, e))?;
    sweep::read(bytes).map_err(|e| bad(path, e))
}
