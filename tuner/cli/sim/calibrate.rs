// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim calibrate DEVICE`: measures a device and writes its profile. Takes a device, a time and a file; gives the profile and
//! a table of what was measured against what the profile's model does. Asks before it loads a device that somebody uses.

use super::input::bad;
use crate::actuator::Roots;
use crate::calibrate::{self, Point, Spot, Target};
use crate::cli::{Exit, Refused, save};
use anyhow::Context;
use clap::Args;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Rates that the model misses by more than this share are no description of the device. A good fit stays within 15 %.
const DOUBTFUL: f64 = 0.5;

#[derive(Clone, Debug, Args)]
pub struct CalibrateArgs {
    /// A block device: /dev/nvme0n1, or nvme0n1.
    #[arg(value_name = "DEVICE")]
    pub device: PathBuf,
    /// How long to read from it, in all.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub seconds: u64,
    /// Write the profile to this file instead of standard output; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Do not ask before loading a device that is in use.
    #[arg(long)]
    pub yes: bool,
}

/// Measures and fits; the table goes to `said`, the profile to `out` where no file is named.
pub fn run(args: &CalibrateArgs, roots: &Roots, said: &mut dyn Write, out: &mut dyn Write) -> anyhow::Result<()> {
    let target = Target::find(&args.device, roots)?;
    if !args.yes {
        agree(&target, args.seconds, said)?;
    }
    if let Some(path) = &args.out {
        // Before the measurement: a wrong path should not cost its time.
        if path.symlink_metadata().is_ok() {
            return Err(bad(path, "exists: name another file, or remove it"));
        }
        save::check(path)?;
    }
    writeln!(said, "reading from {} for {} s, nothing is written to it", target.path.display(), args.seconds)?;
    let points = calibrate::measure(&target, Duration::from_secs(args.seconds), |_| ())?;
    let profile = calibrate::fit(&target, &points)?;
    let models = points.iter().map(|p| calibrate::compare(&profile, &target, p.spot)).collect::<Result<Vec<_>, _>>()?;
    table(&points, &models, said)?;
    let mut text = format!(
        "# {}, measured in {} s by keepahead sim calibrate. Latency as the reader sees it, waking included: wake_us = 0 beside it.\n",
        target.path.display(),
        args.seconds
    );
    for doubt in doubts(&target, &points, &models) {
        writeln!(said, "warning: {doubt}")?;
        text += &format!("# Warning: {doubt}\n");
    }
    text += &toml::to_string(&profile)?;
    let Some(path) = &args.out else { return Ok(out.write_all(text.as_bytes())?) };
    let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| path.display().to_string())
}

/// Returns where nobody uses the device or the person at the terminal agrees.
fn agree(target: &Target, seconds: u64, said: &mut dyn Write) -> anyhow::Result<()> {
    let uses = target.in_use()?;
    if uses.is_empty() {
        return Ok(());
    }
    let refuse = |why: &str| {
        let message = format!("{} is in use ({}): {why}", target.path.display(), uses.join("; "));
        Err(Refused::new(Exit::Usage, message).into())
    };
    if !std::io::stdin().is_terminal() {
        return refuse("its users would be slowed down; give --yes to measure it anyway");
    }
    write!(
        said,
        "{} is in use: {}.\nIts users will be slowed down for {seconds} s. Measure it? [y/N] ",
        target.path.display(),
        uses.join("; ")
    )?;
    said.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { refuse("not measured") }
}

fn table(points: &[Point], models: &[f64], said: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        said,
        "{:<28} {:>10} {:>10} {:>9} {:>10} {:>10} {:>7}",
        "reads", "p50 us", "p99 us", "MB/s", "reads/s", "model", "error"
    )?;
    for (point, model) in points.iter().zip(models) {
        writeln!(
            said,
            "{:<28} {:>10.0} {:>10.0} {:>9.1} {:>10.0} {model:>10.0} {:>6.1}%",
            name(point),
            point.quantile(0.5) * 1e6,
            point.quantile(0.99) * 1e6,
            point.mb_per_s(),
            point.rate,
            error(point, *model) * 100.0
        )?;
    }
    Ok(())
}

fn name(point: &Point) -> String {
    let Spot { depth, bytes, random } = point.spot;
    format!("{:>4} KiB {:<10} depth {depth}", bytes >> 10, if random { "random" } else { "sequential" })
}

fn error(point: &Point, model: f64) -> f64 {
    model / point.rate - 1.0
}

/// Why the profile should not be believed, and what to do.
fn doubts(target: &Target, points: &[Point], models: &[f64]) -> Vec<String> {
    let mut doubts = Vec::new();
    if target.is_cached_loop {
        let fastest = points.iter().map(Point::mb_per_s).fold(0.0, f64::max);
        doubts.push(format!(
            "{} is a loop device without direct I/O: up to {fastest:.0} MB/s came out of the page cache, not off a disk; \
             measure the disk below it, or set it up with losetup --direct-io=on",
            target.path.display()
        ));
    }
    let errors = points.iter().zip(models).map(|(point, model)| (error(point, *model), point));
    if let Some((worst, point)) = errors.max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).filter(|(e, _)| e.abs() > DOUBTFUL) {
        doubts.push(format!(
            "the profile's model is off by up to {:+.0} % ({}): a simulation with it says little of this device; measure it for \
             longer (--seconds) while nobody else uses it, or take the nearest built-in profile",
            worst * 100.0,
            name(point).split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_says_little_comes_with_a_warning() {
        let point = |depth, rate| Point { spot: Spot { depth, bytes: 4096, random: true }, rate, latencies: vec![1.0 / rate] };
        let points = [point(1, 10_000.0), point(4, 40_000.0)];
        let mut target = Target::of_size(4 << 30);
        target.path = "/dev/loop0".into();
        assert_eq!(doubts(&target, &points, &[11_000.0, 30_000.0]), [""; 0]);
        let told = doubts(&target, &points, &[11_000.0, 224_000.0]);
        assert!(matches!(&told[..], [one] if one.contains("off by up to +460 % (4 KiB random depth 4)")), "{told:?}");
        target.is_cached_loop = true;
        let told = doubts(&target, &points, &[11_000.0, 30_000.0]);
        assert!(
            matches!(&told[..], [one] if one.starts_with("/dev/loop0 is a loop device") && one.contains("164 MB/s")),
            "{told:?}"
        );
    }
}
