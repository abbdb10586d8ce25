// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a configuration key is: takes an entry of [`KEYS`] and a [`Config`], gives the key's range and value in words of the
//! file, and the whole documented file ([`documented`]).

use super::table::{KEYS, TABLES, WORKLOAD, WORKLOADS};
use super::{Config, OnExit, SocketMode};
use crate::actuator::ruled::WorkloadRule;
use crate::actuator::rules::Rule;
use keepahead_core::settings::PolicyName;
use keepahead_core::units::Nanos;
use std::path::PathBuf;

/// One key.
pub struct Key {
    pub table: &'static str,
    pub name: &'static str,
    pub limit: Limit,
    pub unit: &'static str,
    pub meaning: &'static str,
    pub slot: fn(&mut Config) -> Slot<'_>,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Whole { low: u64, high: u64 },
    PowerOfTwo { low: u64, high: u64 },
    Number { low: f64, high: f64 },
    Choice(&'static [&'static str]),
    Bool,
    Text,
    AbsolutePath,
    LogFilter,
    Globs,
    Rules,
}

/// Where a value lives, and in which unit the file speaks of it.
pub enum Slot<'a> {
    U32(&'a mut u32),
    U64(&'a mut u64),
    Millis(&'a mut Nanos),
    Secs(&'a mut Nanos),
    F64(&'a mut f64),
    /// A share, 0 to 1, of which the file speaks in percent.
    Percent(&'a mut f64),
    Bool(&'a mut bool),
    OnExit(&'a mut OnExit),
    Policy(&'a mut PolicyName),
    Mode(&'a mut SocketMode),
    Path(&'a mut PathBuf),
    Text(&'a mut String),
    Globs(&'a mut Vec<String>),
    Rules(&'a mut Vec<Rule>),
}

impl Key {
    /// `bounds.floor_kib`
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.name)
    }

    /// The key with this full name.
    pub fn find(path: &str) -> Option<&'static Key> {
        KEYS.iter().find(|k| path.strip_prefix(k.table).and_then(|rest| rest.strip_prefix('.')) == Some(k.name))
    }
}

impl Limit {
    /// The range, for people: `4 to 1048576, a power of two`.
    pub fn range(&self) -> String {
        match self {
            Limit::Whole { low, high } => format!("{low} to {high}"),
            Limit::PowerOfTwo { low, high } => format!("{low} to {high}, a power of two"),
            Limit::Number { low, high } => format!("{low} to {high}"),
            Limit::Choice(words) => words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
            Limit::Bool => "true or false".into(),
            Limit::Text => "a string, not empty".into(),
            Limit::AbsolutePath => "an absolute path".into(),
            Limit::LogFilter => "a level such as \"info\", or \"keepahead=debug\"".into(),
            Limit::Globs => "a list of strings, none empty".into(),
            Limit::Rules => {
                "a list of { comm = \"GLOB\", uid = NUMBER, cgroup = \"GLOB\" }, each with at least one of them".into()
            }
        }
    }
}

impl Slot<'_> {
    /// The value as the file writes it.
    pub fn toml(&self) -> String {
        match self {
            Slot::U32(v) => v.to_string(),
            Slot::U64(v) => v.to_string(),
            Slot::Millis(v) => (v.0 / 1_000_000).to_string(),
            Slot::Secs(v) => (v.0 / 1_000_000_000).to_string(),
            Slot::F64(v) => format!("{v:?}"),
            // Nine digits drop the rounding of the division by 100.
            Slot::Percent(v) => format!("{:?}", (**v * 100.0 * 1e9).round() / 1e9),
            Slot::Bool(v) => v.to_string(),
            Slot::OnExit(v) => quote(on_exit_word(**v)),
            Slot::Policy(v) => quote(POLICIES[usize::from(**v == PolicyName::Learned)]),
            Slot::Mode(v) => quote(&format!("{:04o}", v.bits())),
            Slot::Path(v) => quote(&v.to_string_lossy()),
            Slot::Text(v) => quote(v),
            Slot::Globs(v) => format!("[{}]", v.iter().map(|g| quote(g)).collect::<Vec<_>>().join(", ")),
            Slot::Rules(v) => format!("[{}]", v.iter().map(rule).collect::<Vec<_>>().join(", ")),
        }
    }
}

pub(super) const SOCKET_MODES: &[&str] = &["0600", "0660", "0666"];
pub(super) const POLICIES: &[&str] = &["rules", "learned"];
pub(super) const ON_EXIT: &[&str] = &["restore", "keep"];

fn on_exit_word(v: OnExit) -> &'static str {
    match v {
        OnExit::Restore => ON_EXIT[0],
        OnExit::Keep => ON_EXIT[1],
    }
}

fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn rule(r: &Rule) -> String {
    let parts = [
        r.comm.as_ref().map(|v| format!("comm = {}", quote(v))),
        r.uid.map(|v| format!("uid = {v}")),
        r.cgroup.as_ref().map(|v| format!("cgroup = {}", quote(v))),
    ];
    format!("{{ {} }}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// The keys that two configurations give other values, in the file's order.
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let differs = |key: &&Key| (key.slot)(&mut old).toml() != (key.slot)(&mut new).toml();
    let mut changed: Vec<String> = KEYS.iter().filter(differs).map(Key::path).collect();
    if old.workloads != new.workloads {
        changed.push(WORKLOAD.into());
    }
    changed
}

/// The text of `config/keepahead.toml`: every key of `config` with meaning, unit, range and the default.
pub fn documented(config: &Config) -> String {
    let (mut config, mut defaults) = (config.clone(), Config::default());
    let mut text = String::from(
        "# SPDX-License-Identifier: MIT OR Apache-2.0\n\
         # keepahead: every key, with its default. Each may be left out. Unknown keys and values out of range are refused;\n\
         # `keepahead check-config FILE` tells. Written from tuner/config/table.rs: change it there.\n",
    );
    for (table, about) in TABLES {
        text += &format!("\n# {about}\n[{table}]\n");
        for key in KEYS.iter().filter(|k| k.table == *table) {
            let default = (key.slot)(&mut defaults).toml();
            let unit = if key.unit.is_empty() { String::new() } else { format!("Unit: {}. ", key.unit) };
            text += &format!("\n# {}\n# {unit}Range: {}. Default: {default}.\n", key.meaning, key.limit.range());
            text += &format!("{} = {}\n", key.name, (key.slot)(&mut config).toml());
        }
    }
    text += &format!("\n{WORKLOADS}");
    for WorkloadRule { name, who, path } in &config.workloads {
        let quoted = |text: &String| toml::Value::from(text.as_str()).to_string();
        let given =
            [("name", Some(quoted(name))), ("path", path.as_ref().map(quoted)), ("comm", who.comm.as_ref().map(quoted))];
        let more = [("uid", who.uid.map(|uid| uid.to_string())), ("cgroup", who.cgroup.as_ref().map(quoted))];
        let lines = given.into_iter().chain(more).filter_map(|(key, value)| Some(format!("{key} = {}\n", value?)));
        text += &format!("\n[[{WORKLOAD}]]\n{}", lines.collect::<String>());
    }
    text
}
