// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim calibrate DEVICE`: measures a device and writes its profile. Takes a device, a time and a file; gives the profile and
//! a table of what was measured against what the profile's model does. Asks before it loads a device that somebody uses.

use crate::actuator::Roots;
use crate::calibrate::{self, Point, Spot, Target};
use crate::cli::{Exit, Refused};
use anyhow::Context;
use clap::Args;
use keepahead_sim::device::Profile;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        anyhow::ensure!(!path.exists(), "{} exists: name another file, or remove it", path.display());
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        anyhow::ensure!(dir.is_dir(), "{}: there is no directory {}", path.display(), dir.display());
    }
    writeln!(said, "reading from {} for {} s, nothing is written to it", target.path.display(), args.seconds)?;
    let points = calibrate::measure(&target, Duration::from_secs(args.seconds), |_| ())?;
    let profile = calibrate::fit(&target, &points)?;
    table(&target, &points, &profile, said)?;
    let text = format!(
        "# {}, measured in {} s by keepahead sim calibrate. Latency as the reader sees it, waking included: wake_us = 0 beside it.\n{}",
        target.path.display(),
        args.seconds,
        toml::to_string(&profile)?
    );
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

fn table(target: &Target, points: &[Point], profile: &Profile, said: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        said,
        "{:<28} {:>10} {:>10} {:>9} {:>10} {:>10} {:>7}",
        "reads", "p50 us", "p99 us", "MB/s", "reads/s", "model", "error"
    )?;
    for point in points {
        let Spot { depth, bytes, random } = point.spot;
        let name = format!("{:>4} KiB {:<10} depth {depth}", bytes >> 10, if random { "random" } else { "sequential" });
        let model = calibrate::compare(profile, target, point.spot)?;
        writeln!(
            said,
            "{name:<28} {:>10.0} {:>10.0} {:>9.1} {:>10.0} {model:>10.0} {:>6.1}%",
            point.quantile(0.5) * 1e6,
            point.quantile(0.99) * 1e6,
            point.mb_per_s(),
            point.rate,
            (model / point.rate - 1.0) * 100.0
        )?;
    }
    Ok(())
}
