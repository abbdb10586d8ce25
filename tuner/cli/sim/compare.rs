// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim compare FILE`: policies side by side; gives a table or a JSON line, CSV and plots on request.

use super::input::{Input, InputArgs};
use super::progress::Progress;
use super::run::{ModelArgs, check_places, value_kib};
use super::{Threads, exit};
use crate::cli::save::{self, save};
use crate::cli::{Exit, Format, Refused, output};
use clap::Args;
use keepahead_core::policy::Policy;
use keepahead_core::units::Kib;
use keepahead_policies::rules::Rules;
use keepahead_sim::compare::{Comparison, Plan, Row, compare};
use keepahead_sim::output::{csv, plot, table};
use keepahead_sim::report::Report;
use keepahead_sim::spec::{Control, Generation};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Static values, KiB, with commas between [default: the scenario's ladder_kib, or powers of two from 4 to 16384, within its bounds and
    /// half of its smallest cache].
    #[arg(long, value_name = "KIB,…", value_delimiter = ',', value_parser = value_kib)]
    pub values: Vec<Kib>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Write the table's rows here.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write plots (policies.svg, window.svg, hit-and-waste.svg) into this directory, which is made where it is not there.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub threads: Threads,
}

pub fn run(args: &CompareArgs, format: Format) -> anyhow::Result<Exit> {
    check_places(args.csv.as_deref(), args.svg.as_deref())?;
    let comparison = one(args)?;
    if let Some(file) = &args.csv {
        save(file, &csv::csv(&comparison.rows)?)?;
    }
    if let Some(dir) = &args.svg {
        plots(dir, &comparison)?;
    }
    match format {
        Format::Text => output::text(&table::comparison(&comparison))?,
        Format::Json => output::json_line(&comparison)?,
    }
    Ok(exit(comparison.partial))
}

fn one(args: &CompareArgs) -> anyhow::Result<Comparison> {
    let input = Input::load(&args.input.file, &args.input.machine)?;
    let kernel = args.input.kernel.unwrap_or_else(|| input.kernel());
    let seed = args.input.seed.unwrap_or_else(|| input.seed());
    let plan = plan(args, &input, kernel, seed)?;
    let learned = args.model.learned()?;
    let policies: [&(dyn Policy + Sync); 2] = [&Rules, &*learned];
    let others = if plan.phases.len() > 1 { 2 } else { 1 };
    let runs = plan.values.len() as u64 + others + policies.len() as u64;
    let progress = Progress::new(input.seconds().map(|seconds| seconds.saturating_mul(runs)))?;
    let run = |control: &Control| input.run(kernel, seed, control, &progress);
    args.threads.pool()?.install(|| compare(run, &plan, &policies, || progress.stopped()))
}

fn plan(args: &CompareArgs, input: &Input, kernel: Generation, seed: u64) -> anyhow::Result<Plan> {
    let settings = input.settings()?;
    let (spec, _) = input.spec(kernel, seed)?;
    let mut values = args.values.clone();
    values.sort_unstable();
    values.dedup();
    let named = if values.is_empty() { input.ladder() } else { Some(values) };
    let plan = Plan::of(&spec, settings, named);
    if plan.values.is_empty() {
        let message = format!(
            "no static value lies between {} and {}; name some with --values",
            plan.settings.floor, plan.settings.ceiling
        );
        return Err(Refused::new(Exit::Usage, message).into());
    }
    Ok(plan)
}

/// Three plots: all policies as bars, and over time those that are of interest: default, best static value, oracle, keepahead.
fn plots(dir: &Path, c: &Comparison) -> anyhow::Result<()> {
    let best = c.best.map(|value| format!("static {value}"));
    let of_interest = |row: &Row| !row.control.starts_with("static ") || Some(&row.control) == best.as_ref();
    let shown: Vec<&Report> =
        c.rows.iter().zip(&c.reports).filter(|(row, _)| of_interest(row)).map(|(_, report)| report).collect();
    save::make(dir)?;
    save(&dir.join("policies.svg"), plot::policies(c)?.as_bytes())?;
    save(&dir.join("window.svg"), plot::window(&shown)?.as_bytes())?;
    save(&dir.join("hit-and-waste.svg"), plot::hit_and_waste(&shown)?.as_bytes())
}
