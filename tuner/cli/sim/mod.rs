// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim …`: the simulator's verbs, a file each. `run`, `compare` and `sweep` work on any system and without privileges; the
//! others measure a real kernel.

#[cfg(target_os = "linux")]
pub mod calibrate;
mod compare;
pub(super) mod input;
pub(super) mod progress;
pub(super) mod run;
mod sweep;
#[cfg(all(target_os = "linux", feature = "ebpf"))]
pub mod validate;

use super::{Exit, Format};
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub struct SimArgs {
    #[command(subcommand)]
    pub verb: SimVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum SimVerb {
    /// Run one scenario or trace under one policy and show its figures.
    Run(run::RunArgs),
    /// Show policies side by side: default, static values, the best of them in hindsight, a per-phase oracle, keepahead under the rules and under the learned policy.
    Compare(compare::CompareArgs),
    /// Run scenarios × kernels × seeds × policies into a Parquet table; `sweep merge` puts tables together.
    Sweep(sweep::SweepArgs),
    /// Measure a device and make a profile of it (reads only).
    #[cfg(target_os = "linux")]
    Calibrate(calibrate::CalibrateArgs),
    /// Compare the simulated kernel with the real one, event by event (root, BPF).
    #[cfg(all(target_os = "linux", feature = "ebpf"))]
    Validate(validate::ValidateArgs),
}

pub fn run(args: SimArgs, format: Format) -> anyhow::Result<Exit> {
    match args.verb {
        SimVerb::Run(args) => run::run(&args, format),
        SimVerb::Compare(args) => compare::run(&args, format),
        SimVerb::Sweep(args) => sweep::run(args, format),
        #[cfg(target_os = "linux")]
        SimVerb::Calibrate(args) => {
            let roots = crate::actuator::Roots::default();
            calibrate::run(&args, &roots, &mut std::io::stderr().lock(), &mut std::io::stdout().lock())?;
            Ok(Exit::Ok)
        }
        #[cfg(all(target_os = "linux", feature = "ebpf"))]
        SimVerb::Validate(args) => run_validate(&args, format),
    }
}

#[cfg(all(target_os = "linux", feature = "ebpf"))]
fn run_validate(args: &validate::ValidateArgs, format: Format) -> anyhow::Result<Exit> {
    use keepahead_sim::{script::simulate, spec::Generation};
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let Some(generation) = Generation::of_release(&release) else {
        let message = format!("kernel {release} is older than {}, the oldest that is simulated", Generation::ALL[0]);
        return Err(super::Refused::new(Exit::Missing, message).into());
    };
    validate::run(args, format, |script, environment| simulate(script, environment, generation).concat())
}

/// How many threads: all cores, unless told otherwise.
#[derive(Clone, Copy, Debug, Args)]
pub struct Threads {
    /// Threads to use; results do not depend on it [default: every core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

impl Threads {
    pub(super) fn pool(self) -> anyhow::Result<rayon::ThreadPool> {
        // 0 is rayon's word for every core.
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0).into()).build()?)
    }
}

/// 0 for all there was to do, 1 for an interruption, said on standard error.
pub(super) fn exit(interrupted: bool) -> Exit {
    if !interrupted {
        return Exit::Ok;
    }
    eprintln!("keepahead: interrupted: the figures are those known so far");
    Exit::Failure
}
