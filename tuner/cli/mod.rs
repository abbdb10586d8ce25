// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: takes arguments, calls one verb (a file each), gives an exit code that says what kind of trouble it was.

mod check_config;
mod control;
pub mod devices;
mod doctor;
mod duration;
mod exit;
pub mod history;
pub mod output;
pub mod replay;
pub mod restore;
mod run;
mod socket;
mod story;

pub use doctor::{Check, Report, Status};
pub use exit::{Exit, Refused};
pub use output::Format;

use crate::actuator::Roots;
use crate::agent;
use crate::config::{Config, ConfigError};
use clap::{Args, Parser, Subcommand};
use keepahead_core::event::{Input, Record};
use keepahead_core::step::{State, step};
use keepahead_policies::rules::Rules;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Closed-loop adaptive readahead for Linux: finds a better read_ahead_kb for every device, proves it on the live workload,
/// keeps it or undoes it, and puts everything back when it leaves.
#[derive(Debug, Parser)]
#[command(name = "keepahead", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Cli {
    /// Text for people, or JSON lines for machines.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch every tunable device and tune it, until a signal or --duration ends it.
    Run(RunArgs),
    /// Show every device, its value, and what is not tunable and why.
    Devices,
    /// Show what this machine and kernel offer, what is missing, and what to do about it.
    Doctor,
    /// Ask the running agent over its socket what it does.
    Status(SocketArgs),
    /// End running trials and start none until `resume`.
    Pause(SocketArgs),
    /// Start trials again after `pause`.
    Resume(SocketArgs),
    /// Tune a device again that was left to somebody else.
    TakeBack(TakeBackArgs),
    /// Fix a device's read_ahead_kb until `unpin`; the original comes back when the agent leaves.
    Pin(PinArgs),
    /// End a pin: the value from before comes back, and the device is tuned again.
    Unpin(UnpinArgs),
    /// Have the agent read files into the page cache.
    Prefetch(PrefetchArgs),
    /// Tell each trial's story from the journal.
    History(HistoryArgs),
    /// Put the original values back by hand, where the present ones are still keepahead's.
    Restore(RestoreArgs),
    /// Run the decisions of a journal again from its recorded windows and compare.
    Replay(ReplayArgs),
    /// Check a configuration file: exit code 0 and `ok`, or 2 and every problem with its line.
    CheckConfig(CheckConfigArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Write nothing anywhere: print each suggested change with its evidence and the lines to apply it by hand.
    #[arg(long)]
    pub dry_run: bool,
    /// Tune this device only (bdi name, label or identity, as `keepahead devices` shows them; repeatable).
    #[arg(long, value_name = "NAME")]
    pub device: Vec<String>,
    /// Leave after this time: 500ms, 60s, 5m, 1h.
    #[arg(long, value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Configuration file; without it /etc/keepahead/keepahead.toml where it exists, else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and the lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Only this device (label or bdi name).
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Only the newest N.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Configuration file, for its state directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and the lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Only this device (label or bdi name).
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Configuration file, for its state directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and the lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The journal's SQLite file.
    #[arg(value_name = "JOURNAL")]
    pub journal: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct SocketArgs {
    /// The agent's control socket; without it control.socket of the configuration.
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct TakeBackArgs {
    /// Only this device (label, bdi name or identity); without it all that were left.
    #[arg(value_name = "DEVICE")]
    pub device: Option<String>,
    #[command(flatten)]
    pub at: SocketArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// Label, bdi name or identity, as `keepahead devices` shows them.
    #[arg(value_name = "DEVICE")]
    pub device: String,
    /// read_ahead_kb: a power of two within [bounds] of the configuration.
    #[arg(value_name = "KIB")]
    pub value_kib: u32,
    #[command(flatten)]
    pub at: SocketArgs,
}

#[derive(Clone, Debug, Args)]
pub struct UnpinArgs {
    /// Label, bdi name or identity.
    #[arg(value_name = "DEVICE")]
    pub device: String,
    #[command(flatten)]
    pub at: SocketArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PrefetchArgs {
    /// Files, in the order in which they are read.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub at: SocketArgs,
}

#[derive(Clone, Debug, Args)]
pub struct CheckConfigArgs {
    /// The file; without it /etc/keepahead/keepahead.toml.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// The configuration that applies, and where state lives: `--state-dir` wins over it.
pub fn config_and_state_dir(config: Option<&Path>, state_dir: Option<PathBuf>) -> Result<(Config, PathBuf), ConfigError> {
    let config = Config::load_or_default(config)?;
    let state_dir = state_dir.unwrap_or_else(|| config.agent.state_dir.clone());
    Ok((config, state_dir))
}

/// Parses the command line, runs the verb, says what went wrong on standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // A reader that left early (`| head`) is no failure of ours.
            if output::is_broken_pipe(&error) {
                return Exit::Ok.into();
            }
            eprintln!("keepahead: {error:#}");
            Exit::of(&error).into()
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.verb {
        Verb::Doctor => doctor::run(cli.format),
        Verb::Status(at) => control::status(&at, cli.format),
        Verb::Pause(at) => control::order(&at, "Pause", json!({}), "paused", cli.format),
        Verb::Resume(at) => control::order(&at, "Resume", json!({}), "resumed", cli.format),
        Verb::TakeBack(args) => control::take_back(&args, cli.format),
        Verb::Pin(args) => control::pin(&args, cli.format),
        Verb::Unpin(args) => control::unpin(&args, cli.format),
        Verb::Prefetch(args) => control::prefetch(&args, cli.format),
        Verb::CheckConfig(args) => check_config::run(args.file, cli.format),
        Verb::History(args) => tell_history(args, cli.format),
        Verb::Replay(args) => run_replay(&args.journal),
        Verb::Devices => {
            devices::run(cli.format, &Roots::default())?;
            Ok(Exit::Ok)
        }
        Verb::Run(args) => run::run(args, cli.format),
        Verb::Restore(args) => restore_by_hand(args),
    }
}

fn tell_history(args: HistoryArgs, format: Format) -> anyhow::Result<Exit> {
    let (_, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    let filter = history::Filter { device: args.device, last: args.last };
    history::run(&state_dir, &filter, format == Format::Json, &mut std::io::stdout().lock())?;
    Ok(Exit::Ok)
}

fn restore_by_hand(args: RestoreArgs) -> anyhow::Result<Exit> {
    let (config, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    let roots = Roots::default();
    let mut actuator = agent::open_actuator(&config, &roots);
    let (info, knobs) = (agent::run_info(&config, &roots), agent::LiveKnobs::new(&roots, Some(&mut actuator)));
    restore::run(&state_dir, args.device.as_deref(), info, &knobs, &mut std::io::stdout().lock())?;
    Ok(Exit::Ok)
}

/// The step of this version, with the state that a checkpoint holds.
struct Step(Option<State>);

impl replay::Replayable for Step {
    fn restore(&mut self, checkpoint_json: &str) -> Result<(), String> {
        self.0 = Some(serde_json::from_str(checkpoint_json).map_err(|e| e.to_string())?);
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Vec<Record> {
        self.0.as_mut().map_or(Vec::new(), |state| step(state, &Rules, input).records)
    }
}

fn run_replay(journal: &Path) -> anyhow::Result<Exit> {
    let equal = replay::run(journal, &mut Step(None), &mut std::io::stdout().lock())?;
    Ok(if equal { Exit::Ok } else { Exit::Failure })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
