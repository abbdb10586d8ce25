// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes the text of a configuration file, gives a checked [`Config`] or all of its problems. Walks the spanned TOML tree by the
//! list of keys instead of deriving `Deserialize`, because a derived one stops at the first problem and knows no lines for limits.

use super::keys::{Key, Limit, Slot};
use super::rules::{rule, workload};
use super::table::{KEYS, ORDERED, TABLES, WORKLOAD, WORKLOADS_MOST};
use super::{Config, OnExit, Problem, SocketMode};
use keepahead_core::settings::PolicyName;
use keepahead_core::units::Nanos;
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

type Node<'a> = Spanned<DeValue<'a>>;

pub(super) fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { text, config: Config::default(), problems: vec![], lines: BTreeMap::new(), bad: BTreeSet::new() };
    if errors.is_empty() {
        walk.tables(tree.get_ref());
        walk.order();
    } else {
        // A tree recovered from a broken text would give problems that are none: say the broken places only.
        walk.problems = errors.iter().map(|e| walk.syntax(e)).collect();
    }
    walk.problems.sort_by_key(|p| p.line);
    if walk.problems.is_empty() { Ok(walk.config) } else { Err(walk.problems) }
}

struct Walk<'t> {
    text: &'t str,
    config: Config,
    problems: Vec<Problem>,
    /// The line of each key that the file gives.
    lines: BTreeMap<String, usize>,
    /// Keys with a problem of their own: their order is not looked at.
    bad: BTreeSet<String>,
}

impl Walk<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|&b| b == b'\n').count()
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let line = self.line(error.span().map_or(0, |s| s.start));
        Problem { line, key: None, value: None, message: format!("not TOML: {}", error.message()) }
    }

    fn problem(&mut self, at: usize, key: &str, value: Option<String>, message: String) {
        self.bad.insert(key.into());
        self.problems.push(Problem { line: self.line(at), key: Some(key.into()), value, message });
    }

    fn tables(&mut self, tree: &DeTable<'_>) {
        for (name, node) in tree {
            let known = TABLES.iter().any(|(t, _)| *t == name.get_ref().as_ref());
            match node.get_ref() {
                DeValue::Array(rules) if name.get_ref() == WORKLOAD => self.workloads(rules),
                _ if name.get_ref() == WORKLOAD => {
                    let message = "is a list of rules: write [[workload]] above each one's conditions".to_owned();
                    self.problem(name.span().start, WORKLOAD, Some(self.written(node)), message);
                }
                DeValue::Table(table) if known => self.keys(name.get_ref(), table),
                _ if known => {
                    let message = format!("is a table: write [{0}] on a line of its own, and its keys below", name.get_ref());
                    self.problem(name.span().start, name.get_ref(), Some(self.written(node)), message);
                }
                DeValue::Table(table) if !table.is_empty() => {
                    for key in table.keys() {
                        self.unknown(key.span().start, &format!("{}.{}", name.get_ref(), key.get_ref()));
                    }
                }
                _ => self.unknown(name.span().start, name.get_ref()),
            }
        }
    }

    fn keys(&mut self, table: &str, keys: &DeTable<'_>) {
        for (name, node) in keys {
            let path = format!("{table}.{}", name.get_ref());
            let Some(key) = Key::find(&path) else {
                self.unknown(name.span().start, &path);
                continue;
            };
            self.lines.insert(path.clone(), self.line(name.span().start));
            if let Err(message) = set((key.slot)(&mut self.config), key, node.get_ref()) {
                self.problem(name.span().start, &path, Some(self.written(node)), message);
            }
        }
    }

    fn workloads(&mut self, rules: &[Node<'_>]) {
        for node in rules {
            let taken = |name: &str| self.config.workloads.iter().any(|w| w.name == name);
            match workload(node.get_ref(), taken) {
                Ok(rule) if self.config.workloads.len() < WORKLOADS_MOST => self.config.workloads.push(rule),
                Ok(_) => {
                    let message =
                        format!("is one rule too many: at most {WORKLOADS_MOST}; let one rule name several programs by globs");
                    self.problem(node.span().start, WORKLOAD, None, message);
                }
                Err(message) => self.problem(node.span().start, WORKLOAD, None, message),
            }
        }
    }

    fn unknown(&mut self, at: usize, path: &str) {
        let message = match nearest(path) {
            Some(key) => format!("unknown key; did you mean {key}?"),
            None => "unknown key; config/keepahead.toml lists the known ones".into(),
        };
        self.problem(at, path, None, message);
    }

    /// The value as it stands in the file, cut where it is long.
    fn written(&self, node: &Node<'_>) -> String {
        let text = self.text.get(node.span()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let short: String = line.chars().take(40).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    }

    /// Refuses pairs of keys that exclude each other, at the lower of the two lines.
    fn order(&mut self) {
        for (low, high) in ORDERED {
            let (Some(below), Some(above)) = (self.number(low), self.number(high)) else { continue };
            let line = self.lines.get(*low).max(self.lines.get(*high)).copied();
            if let Some(line) = line.filter(|_| below > above && !self.bad.contains(*low) && !self.bad.contains(*high)) {
                let default = if self.lines.contains_key(*high) { "" } else { " (its default)" };
                let message = format!("must not be above {high} = {above}{default}");
                self.problems.push(Problem { line, key: Some((*low).into()), value: Some(below.to_string()), message });
            }
        }
    }

    fn number(&mut self, path: &str) -> Option<f64> {
        let key = Key::find(path)?;
        (key.slot)(&mut self.config).toml().parse().ok()
    }
}

/// The known key that is most likely meant. A name right in a wrong table counts as near, too.
fn nearest(path: &str) -> Option<String> {
    let name = path.rsplit('.').next().unwrap_or(path);
    let distance = |key: &&Key| {
        let moved = strsim::damerau_levenshtein(name, key.name);
        // Between equals the same table wins.
        (moved, strsim::damerau_levenshtein(path, &key.path()))
    };
    let best = KEYS.iter().min_by_key(distance)?;
    (distance(&best).0 <= (name.len() / 3).max(1)).then(|| best.path())
}

/// Puts a value where it lives, or says why not.
fn set(slot: Slot<'_>, key: &Key, value: &DeValue<'_>) -> Result<(), String> {
    let wrong = || wrong_type(key, value);
    match slot {
        Slot::U32(v) => *v = u32::try_from(whole(key, value)?).map_err(|_| wrong())?,
        Slot::U64(v) => *v = whole(key, value)?,
        Slot::Millis(v) => *v = Nanos::from_millis(whole(key, value)?),
        Slot::Secs(v) => *v = Nanos::from_secs(whole(key, value)?),
        Slot::F64(v) => *v = number(key, value)?,
        Slot::Percent(v) => *v = number(key, value)? / 100.0,
        Slot::Bool(v) => *v = value.as_bool().ok_or_else(wrong)?,
        Slot::OnExit(v) => {
            *v = match value.as_str() {
                Some("restore") => OnExit::Restore,
                Some("keep") => OnExit::Keep,
                _ => return Err(wrong()),
            }
        }
        Slot::Policy(v) => {
            *v = match value.as_str() {
                Some("rules") => PolicyName::Rules,
                Some("learned") => PolicyName::Learned,
                _ => return Err(wrong()),
            }
        }
        Slot::Mode(v) => {
            let modes = [SocketMode::Owner, SocketMode::Group, SocketMode::Everyone];
            let written = value.as_str().ok_or_else(wrong)?;
            *v = modes.into_iter().find(|m| format!("{:04o}", m.bits()) == written).ok_or_else(wrong)?;
        }
        Slot::Path(v) => {
            let path = text(value).ok_or_else(wrong)?;
            // Each verb would look for it in another place, from where it is called.
            if key.limit == Limit::AbsolutePath && !path.starts_with('/') {
                return Err(wrong());
            }
            *v = path.into();
        }
        Slot::Text(v) => {
            let text = text(value).ok_or_else(wrong)?;
            if key.limit == Limit::LogFilter {
                log_filter(&text).map_err(|e| format!("is no log filter ({e}); write {}", key.limit.range()))?;
            }
            *v = text;
        }
        Slot::Globs(v) => {
            *v = value.as_array().and_then(|a| a.iter().map(|n| text(n.get_ref())).collect()).ok_or_else(wrong)?
        }
        Slot::Rules(v) => {
            let rules = value.as_array().ok_or_else(wrong)?;
            *v = rules.iter().map(|n| rule(n.get_ref())).collect::<Result<_, _>>()?;
        }
    }
    Ok(())
}

pub(super) fn text(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
}

fn wrong_type(key: &Key, value: &DeValue<'_>) -> String {
    let unit = if key.unit.is_empty() { String::new() } else { format!(", in {} (the unit is never written)", key.unit) };
    match key.limit {
        Limit::Whole { .. } | Limit::PowerOfTwo { .. } => {
            format!("wants a whole number{unit}, {}; not {}", key.limit.range(), kind(value))
        }
        Limit::Number { .. } => format!("wants a number{unit}, {}; not {}", key.limit.range(), kind(value)),
        Limit::Choice(_) | Limit::Bool | Limit::Text | Limit::AbsolutePath | Limit::LogFilter | Limit::Globs | Limit::Rules => {
            format!("wants {}", key.limit.range())
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number this large",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn whole(key: &Key, value: &DeValue<'_>) -> Result<u64, String> {
    let integer = value.as_integer().ok_or_else(|| wrong_type(key, value))?;
    let signed = i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| wrong_type(key, value))?;
    let (low, high) = match key.limit {
        Limit::Whole { low, high } | Limit::PowerOfTwo { low, high } => (low, high),
        _ => (0, u64::MAX),
    };
    let number = u64::try_from(signed).ok().filter(|n| (low..=high).contains(n));
    let number = number.ok_or_else(|| out_of_range(key, signed < i128::from(low)))?;
    match key.limit {
        Limit::PowerOfTwo { .. } if !number.is_power_of_two() => {
            let below = 1 << number.ilog2();
            Err(format!("is no power of two; the nearest are {below} and {}", (below * 2).min(high)))
        }
        _ => Ok(number),
    }
}

fn number(key: &Key, value: &DeValue<'_>) -> Result<f64, String> {
    let written = match value {
        DeValue::Integer(i) => i128::from_str_radix(i.as_str(), i.radix()).ok().map(|i| i as f64),
        DeValue::Float(f) => f.as_str().parse::<f64>().ok(),
        _ => None,
    };
    let number = written.ok_or_else(|| wrong_type(key, value))?;
    match key.limit {
        Limit::Number { .. } if number.is_nan() => Err(format!("is no number; wanted is {}", key.limit.range())),
        Limit::Number { low, high } if !(low..=high).contains(&number) => Err(out_of_range(key, number < low)),
        _ => Ok(number),
    }
}

fn out_of_range(key: &Key, below: bool) -> String {
    let side = if below { "below" } else { "above" };
    let unit = if key.unit.is_empty() { String::new() } else { format!(" ({})", key.unit) };
    format!("is {side} the allowed range, {}{unit}", key.limit.range())
}

/// What is logged. A word alone is a level: to the library it would be the name of a module, and all others would fall silent.
///
/// # Errors
/// What is wrong with it.
pub fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
    match text.split(',').map(str::trim).find(|word| !level(word)) {
        Some(word) => Err(format!("{word:?} is no level: off, error, warn, info, debug or trace")),
        None => EnvFilter::try_new(text).map_err(|e| e.to_string()),
    }
}
