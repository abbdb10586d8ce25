// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: takes arguments, calls one verb (a file each), gives an exit code that says what kind of trouble it was.

#[cfg(target_os = "linux")]
mod advise;
#[cfg(target_os = "linux")]
mod check_config;
#[cfg(target_os = "linux")]
mod control;
#[cfg(target_os = "linux")]
pub mod devices;
#[cfg(target_os = "linux")]
mod doctor;
mod duration;
#[cfg(target_os = "linux")]
mod exec;
mod exit;
#[cfg(target_os = "linux")]
pub mod history;
#[cfg(target_os = "linux")]
mod holders;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod opened;
pub mod output;
mod programs;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
pub mod replay;
#[cfg(target_os = "linux")]
pub mod restore;
#[cfg(target_os = "linux")]
mod run;
mod save;
pub mod sim;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod story;
mod train;

#[cfg(target_os = "linux")]
pub use doctor::{Check, Report, Status};
pub use exit::{Exit, Refused, in_words};
#[cfg(target_os = "linux")]
pub use machine::config_and_state_dir;
pub use output::Format;
pub use programs::{AdviseArgs, ExecArgs, Pattern};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use std::num::NonZeroUsize;
use std::path::PathBuf;
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
    /// Have the running agent read its configuration again, whole or not at all.
    Reload(SocketArgs),
    /// Tune a device again that was left to somebody else.
    TakeBack(TakeBackArgs),
    /// Fix a device's read_ahead_kb until `unpin`; the original comes back when the agent leaves, unless `agent.on_exit` is "keep".
    Pin(PinArgs),
    /// End a pin: the value from before comes back, and the device is tuned again.
    Unpin(UnpinArgs),
    /// Have the agent read files into the page cache.
    Prefetch(PrefetchArgs),
    /// Have the agent advise the kernel about files: for the processes that have them open, or for a command.
    Advise(AdviseArgs),
    /// Run a command whose opened files are handed to the agent.
    Exec(ExecArgs),
    /// Tell each trial's story from the journal.
    History(HistoryArgs),
    /// Put the original values back by hand, where the present ones are still keepahead's; exit code 1 where no record says what was changed.
    Restore(RestoreArgs),
    /// Run the decisions of a journal again from its recorded windows and compare.
    Replay(ReplayArgs),
    /// Record what is demanded of a device, for `keepahead sim`: page ranges with time, file, process, read or mmap.
    Record(RecordArgs),
    /// Check a configuration file: exit code 0 and `ok`, or 2 and every problem with its line.
    CheckConfig(CheckConfigArgs),
    /// What would a policy do to this workload on this device under this kernel? Without root, on any system.
    Sim(sim::SimArgs),
    /// Make the data set that the learned policy learns from, and train it. Without root, on any system.
    Train(train::TrainArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Write nothing anywhere: print each suggested change with its evidence and the lines to apply it by hand.
    #[arg(long)]
    pub dry_run: bool,
    /// Tune this device only (bdi name, label or identity, as `keepahead devices` shows them; repeatable).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub device: Vec<String>,
    /// Leave after this time: 500ms, 60s, 5m, 1h.
    #[arg(long, value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Configuration file; without it /etc/keepahead/keepahead.toml where it exists, else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and their lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Only this device (label or bdi name).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    /// Only the newest N.
    #[arg(long, value_name = "N")]
    pub last: Option<NonZeroUsize>,
    /// Configuration file, for its state directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and their lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Only this device (label, bdi name or identity).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    /// Configuration file, for its state directory.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal, the restore file and their lock live (agent.state_dir of the configuration).
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The journal's SQLite file.
    #[arg(value_name = "JOURNAL")]
    pub journal: PathBuf,
    /// The learned policy's model, where the agent had another than the one that ships (agent.model).
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// The device (label, bdi name or identity, as `keepahead devices` shows them).
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub device: String,
    /// The trace to write; must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Record for this time: 500ms, 60s, 5m, 1h. Without it, until Ctrl-C.
    #[arg(long, value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Record one file in N, picked by a hash: bounds the cost.
    #[arg(long, value_name = "1/N", value_parser = one_in, default_value = "1/1")]
    pub sample_files: u32,
    /// Write paths as they are. Without it, a hash of each path under a random key that is not kept.
    #[arg(long)]
    pub plain_paths: bool,
    /// Hash paths under the first 16 bytes of this file, so that recordings under one key name files alike.
    #[arg(long, value_name = "FILE", conflicts_with = "plain_paths")]
    pub hash_key: Option<PathBuf>,
    /// End when the trace has so many MiB.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub max_mib: u64,
    /// The kernel's ring buffer, MiB, rounded up to a power of two: what does not fit is counted as lost.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub buffer_mib: u32,
}

#[derive(Clone, Debug, Args)]
pub struct SocketArgs {
    /// The agent's control socket; without it KEEPAHEAD_SOCKET, then control.socket of the configuration.
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct TakeBackArgs {
    /// Only this device (label, bdi name or identity); without it all that were left.
    #[arg(value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
    pub device: Option<String>,
    #[command(flatten)]
    pub at: SocketArgs,
}

#[derive(Clone, Debug, Args)]
pub struct PinArgs {
    /// Label, bdi name or identity, as `keepahead devices` shows them.
    #[arg(value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
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
    #[arg(value_name = "DEVICE", value_parser = NonEmptyStringValueParser::new())]
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

/// `1/N`, as `--sample-files` takes it.
fn one_in(text: &str) -> Result<u32, String> {
    let n = text.strip_prefix("1/").and_then(|n| n.parse().ok()).filter(|n| (1..=1 << 20).contains(n));
    n.ok_or_else(|| format!("{text:?} is no share of files: write 1/N with N from 1 (all) to 1048576, such as 1/16"))
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
            eprintln!("keepahead: {}", exit::in_words(&error));
            Exit::of(&error).into()
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match cli.verb {
        Verb::Sim(args) => sim::run(args, cli.format),
        Verb::Train(args) => train::run(&args, cli.format),
        verb => on_this_machine(verb, cli.format),
    }
}

#[cfg(target_os = "linux")]
fn on_this_machine(verb: Verb, format: Format) -> anyhow::Result<Exit> {
    machine::run(verb, format)
}

#[cfg(not(target_os = "linux"))]
fn on_this_machine(_: Verb, _: Format) -> anyhow::Result<Exit> {
    let message =
        "this verb needs Linux: its readahead is what keepahead tunes; here work `keepahead sim run`, `compare` and `sweep`";
    Err(Refused::new(Exit::Missing, message).into())
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
