// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration: takes a TOML file, gives a checked [`Config`], or every problem of the file at once with line, key, value
//! and limit. Every key is optional; the one list of keys, limits and explanations is `table.rs`, from which the file
//! `config/keepahead.toml`, the parser and the error texts all follow, so they cannot disagree.

mod glob;
mod keys;
mod parse;
mod problem;
mod rules;
mod table;

pub use glob::matches as glob_matches;
pub use keys::{changes, documented};
pub use parse::log_filter;
pub use problem::{ConfigError, Problem};

use crate::actuator::ruled::WorkloadRule;
use crate::actuator::rules::{FileRules, Rule};
use keepahead_core::device::Device;
use keepahead_core::settings::Settings;
use keepahead_core::units::{Kib, Nanos};
use std::path::{Path, PathBuf};

/// Where `keepahead` looks when no `--config` is given; without that file the defaults hold.
pub const DEFAULT_FILE: &str = "/etc/keepahead/keepahead.toml";

/// All that a file can say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    pub devices: DeviceSelection,
    /// What the pure stages are told: `[bounds]`, `[trial]` and `[guards]`.
    pub settings: Settings,
    pub agent: Agent,
    pub open_files: OpenFiles,
    pub journal: Journal,
    pub control: Control,
    /// Programs that cannot be changed, whose open files get a window of their own.
    pub workloads: Vec<WorkloadRule>,
}

/// Which devices to tune. A pattern is a glob (`*`, `?`) on the bdi name, the label or the identity.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSelection {
    pub include: Vec<String>,
    /// Wins over `include`.
    pub exclude: Vec<String>,
}

impl DeviceSelection {
    pub fn selects(&self, device: &Device) -> bool {
        let names = [device.bdi.0.as_str(), &device.label, &device.identity];
        let any = |globs: &[String]| globs.iter().any(|g| names.iter().any(|n| glob_matches(g, n)));
        any(&self.include) && !any(&self.exclude)
    }

    /// Patterns of a list that match none of these names.
    pub fn unmatched<'a>(list: &'a [String], names: &[&str]) -> Vec<&'a str> {
        list.iter().map(String::as_str).filter(|glob| !names.iter().any(|name| glob_matches(glob, name))).collect()
    }
}

impl Default for DeviceSelection {
    fn default() -> Self {
        DeviceSelection { include: vec!["*".into()], exclude: vec![] }
    }
}

/// In place of a file: the model inside the program.
const SHIPPED: &str = "shipped";

/// How the agent runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    pub tick: Nanos,
    /// Tick while a trial runs: blocks are cut and harm is seen at this grain.
    pub trial_tick: Nanos,
    /// The learned policy's model, or [`SHIPPED`].
    pub model: PathBuf,
    pub on_exit: OnExit,
    pub state_dir: PathBuf,
    /// A `tracing` filter; the environment variable `KEEPAHEAD_LOG` wins over it.
    pub log: String,
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            tick: Nanos::from_millis(1000),
            trial_tick: Nanos::from_millis(100),
            model: PathBuf::from(SHIPPED),
            on_exit: OnExit::Restore,
            state_dir: PathBuf::from("/var/lib/keepahead"),
            log: "info".into(),
        }
    }
}

impl Agent {
    /// A model of the user's own.
    pub fn model(&self) -> Option<&Path> {
        Some(self.model.as_path()).filter(|path| *path != Path::new(SHIPPED))
    }
}

/// What becomes of the values when the agent leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The originals come back where the value is still the one keepahead wrote.
    Restore,
    /// Values proven by a trial stay; the original of a trial in flight comes back all the same.
    Keep,
}

/// Whether and how files that are already open are brought to a new value.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenFiles {
    pub enabled: bool,
    pub files_per_second: u32,
    /// Empty: every process. Else only those that one of these rules matches.
    pub allow: Vec<Rule>,
    /// Wins over `allow`.
    pub deny: Vec<Rule>,
}

impl OpenFiles {
    /// The lists as the actuator asks them.
    pub fn rules(&self) -> FileRules {
        FileRules { allow: self.allow.clone(), deny: self.deny.clone() }
    }
}

impl Default for OpenFiles {
    fn default() -> Self {
        OpenFiles { enabled: true, files_per_second: 200, allow: vec![], deny: vec![] }
    }
}

/// How much the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Recorded inputs (for `replay`), MiB; the oldest go first.
    pub inputs_mib: u32,
    /// Records (for `history`), days.
    pub records_days: u32,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { inputs_mib: 256, records_days: 90 }
    }
}

/// The control socket, and who may call what on it. An entry of a list: a user's name or number, `%` and a group's, or `*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    pub enabled: bool,
    pub socket: PathBuf,
    pub mode: SocketMode,
    pub group: String,
    pub monitor: Vec<String>,
    pub advise: Vec<String>,
    pub tune: Vec<String>,
    pub admin: Vec<String>,
    /// Prefetched and not yet read data of all workloads together, MiB.
    pub budget_mib: u32,
}

impl Default for Control {
    fn default() -> Self {
        let root = || vec!["root".to_owned()];
        Control {
            enabled: true,
            socket: PathBuf::from("/run/keepahead/control.sock"),
            mode: SocketMode::Group,
            group: "root".into(),
            monitor: vec!["*".into()],
            advise: vec!["*".into()],
            tune: root(),
            admin: root(),
            budget_mib: 512,
        }
    }
}

/// Who may connect at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketMode {
    Owner,
    Group,
    Everyone,
}

impl SocketMode {
    /// Connecting takes the right to write.
    pub fn bits(self) -> u32 {
        match self {
            SocketMode::Owner => 0o600,
            SocketMode::Group => 0o660,
            SocketMode::Everyone => 0o666,
        }
    }
}

impl Config {
    /// Reads and checks `file`.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.into(), source })?;
        Config::parse(&text).map_err(|problems| ConfigError::Refused { file: file.into(), problems })
    }

    /// `--config` if given, else [`DEFAULT_FILE`] where it exists, else the defaults.
    pub fn load_or_default(file: Option<&Path>) -> Result<Config, ConfigError> {
        match file {
            Some(file) => Config::load(file),
            None if Path::new(DEFAULT_FILE).exists() => Config::load(Path::new(DEFAULT_FILE)),
            None => Ok(Config::default()),
        }
    }

    /// Checks a text: the config, or every problem in the order of lines.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        parse::parse(text)
    }
}

/// The widest bounds the file accepts: 4 KiB, because 0 makes every read a request of one page (135 times slower measured on
/// 6.18), to 1 GiB, past any device's bandwidth-delay product.
const READ_AHEAD_LIMITS: (Kib, Kib) = (Kib(4), Kib(1 << 20));

#[cfg(test)]
mod tests;
