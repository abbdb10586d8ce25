// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the verbs that act on what other programs read: `advise` and `exec`. On every system, as the command line is.

use super::{SocketArgs, duration};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    Sequential,
    Random,
    Once,
    /// Takes back what the program itself advised; that stays.
    Normal,
}

#[derive(Clone, Debug, Args)]
pub struct AdviseArgs {
    /// Files that processes have open or will open.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How they are read.
    #[arg(long, value_enum)]
    pub pattern: Pattern,
    /// Withdraw the advice after this time: 500ms, 60s, 5m, 1h. Without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, conflicts_with = "command")]
    pub time: Option<Duration>,
    #[command(flatten)]
    pub at: SocketArgs,
    /// Run this, and advise the files as it opens them, instead of those that are open elsewhere.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Only files whose absolute path, symbolic links resolved, fits: `*` any run, `?` one byte, `\` makes the next plain; repeatable.
    #[arg(long = "match", value_name = "GLOB")]
    pub globs: Vec<String>,
    /// How they are read: sequential, random, strided, shuffled, once or reused. Without it the agent finds out what it can.
    #[arg(long, value_parser = ["sequential", "random", "strided", "shuffled", "once", "reused"])]
    pub hint: Option<String>,
    /// Only files of at least so many KiB.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1 << 40))]
    pub min_kib: u64,
    /// What may lie read ahead and unread, MiB.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub budget_mib: u64,
    #[command(flatten)]
    pub at: SocketArgs,
    /// The command and its arguments.
    #[arg(last = true, value_name = "CMD", required = true)]
    pub command: Vec<OsString>,
}
