// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim run FILE`: one run under one policy; gives its figures, in whole, by disk and by phase.

use super::input::{Input, InputArgs};
use super::progress::Progress;
use crate::cli::save::{self, save};
use crate::cli::{Exit, Format, output};
use clap::Args;
use keepahead_core::policy::Policy;
use keepahead_core::settings::{PolicyName, Settings};
use keepahead_core::units::Kib;
use keepahead_policies::rules::Rules;
use keepahead_sim::output::{csv, plot, table};
use keepahead_sim::report::{Report, Second};
use keepahead_sim::spec::Control;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub input: InputArgs,
    /// Who sets read_ahead_kb: default, rules, learned, or a value in KiB.
    #[arg(long, value_name = "POLICY", default_value = "rules")]
    pub policy: Who,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Write each second's figures of each disk here.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write plots (window.svg, hit-and-waste.svg) into this directory, which is made where it is not there.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// A model of the user's own.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// The learned policy's model, as `keepahead train --out` writes it [default: the one that ships].
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

impl ModelArgs {
    pub fn learned(&self) -> anyhow::Result<Box<dyn Policy + Send + Sync>> {
        crate::policy::load(PolicyName::Learned, self.model.as_deref())
    }
}

/// A policy by name, as options take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who(pub keepahead_sim::sweep::Who);

impl FromStr for Who {
    type Err = String;
    fn from_str(name: &str) -> Result<Who, String> {
        use keepahead_sim::sweep::Who as By;
        match name {
            "default" => Ok(Who(By::Default)),
            "rules" => Ok(Who(By::Rules)),
            "learned" => Ok(Who(By::Learned)),
            value => value_kib(value)
                .map(|value| Who(By::Static(value)))
                .map_err(|e| format!("{e}, or write default, rules or learned")),
        }
    }
}

impl Who {
    /// `learned`: the policy of that name.
    pub fn control<'a>(self, settings: &Settings, learned: &'a dyn Policy) -> Control<'a> {
        use keepahead_sim::sweep::Who as By;
        match self.0 {
            By::Default => Control::Default,
            By::Static(value) => Control::Static(value),
            By::Rules => Control::Keepahead { policy: &Rules, settings: settings.clone() },
            By::Learned => Control::Keepahead { policy: learned, settings: settings.clone() },
        }
    }
}

/// A value of `read_ahead_kb` on the command line. 0 turns readahead off and is a value too.
pub fn value_kib(text: &str) -> Result<Kib, String> {
    let value = text.parse().ok().filter(|kib| *kib <= 1 << 20);
    value.map(Kib).ok_or_else(|| format!("{text:?} is no read_ahead_kb: write a number of KiB from 0 to 1048576"))
}

/// Whether what is asked for beside the text can be written.
pub(super) fn check_places(csv: Option<&Path>, svg: Option<&Path>) -> anyhow::Result<()> {
    csv.map_or(Ok(()), save::check)?;
    svg.map_or(Ok(()), save::check_directory)
}

pub fn run(args: &RunArgs, format: Format) -> anyhow::Result<Exit> {
    check_places(args.csv.as_deref(), args.svg.as_deref())?;
    let input = Input::load(&args.input.file, &args.input.machine)?;
    let learned = args.model.learned()?;
    let control = args.policy.control(&input.settings()?, &*learned);
    let progress = Progress::new(input.seconds())?;
    let kernel = args.input.kernel.unwrap_or_else(|| input.kernel());
    let report = input.run(kernel, args.input.seed.unwrap_or_else(|| input.seed()), &control, &progress)?;
    drop(progress);
    if let Some(file) = &args.csv {
        save(file, &csv::csv(&seconds(&report))?)?;
    }
    if let Some(dir) = &args.svg {
        save::make(dir)?;
        save(&dir.join("window.svg"), plot::window(&[&report])?.as_bytes())?;
        save(&dir.join("hit-and-waste.svg"), plot::hit_and_waste(&[&report])?.as_bytes())?;
    }
    match format {
        Format::Text => output::text(&table::report(&report))?,
        Format::Json => output::json_line(&report)?,
    }
    Ok(super::exit(report.partial))
}

/// One second of one disk, flat.
#[derive(Serialize)]
struct Line<'a> {
    disk: &'a str,
    at_s: f64,
    read_ahead_kib: u32,
    demanded_pages: u64,
    hit_ratio: Option<f64>,
    pollution_mib_per_s: f64,
    stall_us_per_page: Option<f64>,
    throughput_mib_per_s: f64,
    device_mib_per_s: f64,
}

fn seconds(report: &Report) -> Vec<Line<'_>> {
    fn line<'a>(disk: &'a str, second: &Second) -> Line<'a> {
        let (figures, counters) = (&second.figures, &second.figures.counters);
        let mib_per_s = |bytes: f64| if figures.seconds > 0.0 { bytes / f64::from(1 << 20) / figures.seconds } else { 0.0 };
        Line {
            disk,
            at_s: second.at,
            read_ahead_kib: second.read_ahead.0,
            demanded_pages: counters.demanded(),
            hit_ratio: counters.hit_ratio(),
            pollution_mib_per_s: figures.pollution(),
            stall_us_per_page: figures.stall_per_page().map(|ns| ns / 1e3),
            throughput_mib_per_s: mib_per_s(figures.work_bytes as f64),
            device_mib_per_s: mib_per_s(counters.dev_read_bytes as f64),
        }
    }
    report.disks.iter().flat_map(|d| d.seconds.iter().map(|s| line(&d.label, s))).collect()
}
