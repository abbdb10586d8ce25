// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules about programs in the file: `open_files.allow` and `deny`, and `[[workload]]`. Takes TOML values, gives rules or says why not.

use super::keys::Limit;
use super::parse::text;
use crate::actuator::ruled::WorkloadRule;
use crate::actuator::rules::Rule;
use toml::de::DeValue;

/// Characters of a rule's name.
const NAME_CHARS: usize = 64;

/// A `[[workload]]`. `taken`: names of the rules before it.
pub(super) fn workload(value: &DeValue<'_>, taken: impl Fn(&str) -> bool) -> Result<WorkloadRule, String> {
    let table = value.as_table().ok_or("wants a table of name and conditions")?;
    let mut found = WorkloadRule::default();
    for (name, node) in table {
        let value = node.get_ref();
        match name.get_ref().as_ref() {
            "name" => found.name = text(value).ok_or("name wants a text, such as \"postgres\"")?,
            "path" => {
                let glob = text(value).filter(|glob| glob.starts_with(['/', '*']));
                found.path = Some(glob.ok_or("path wants a glob on whole paths, such as \"/srv/db/*\"")?);
            }
            other if !condition(&mut found.who, other, value)? => {
                return Err(format!("unknown condition {other}; the known ones are path, comm, uid and cgroup"));
            }
            _ => {}
        }
    }
    let name = &found.name;
    if name.is_empty() || name.chars().count() > NAME_CHARS || name.chars().any(|c| c.is_control() || c == '/') {
        return Err(format!("wants a name of 1 to {NAME_CHARS} printable characters without /, not {name:?}"));
    }
    if taken(name) {
        return Err(format!("name {name:?} is given to an earlier rule; each wants its own"));
    }
    if found.who == Rule::default() && found.path.is_none() {
        return Err(format!("rule {name:?} has no condition: give at least one of path, comm, uid and cgroup"));
    }
    Ok(found)
}

/// Takes one condition in; `false` where there is none of this name.
fn condition(rule: &mut Rule, name: &str, value: &DeValue<'_>) -> Result<bool, String> {
    let good = match name {
        "comm" => text(value).map(|v| rule.comm = Some(v)),
        "cgroup" => text(value).map(|v| rule.cgroup = Some(v)),
        "uid" => {
            let uid = value.as_integer().and_then(|i| u32::from_str_radix(i.as_str(), i.radix()).ok());
            uid.map(|v| rule.uid = Some(v))
        }
        _ => return Ok(false),
    };
    good.ok_or_else(|| format!("condition {name} wants another value; wanted is {}", Limit::Rules.range()))?;
    Ok(true)
}

pub(super) fn rule(value: &DeValue<'_>) -> Result<Rule, String> {
    let table = value.as_table().ok_or_else(|| format!("wants {}", Limit::Rules.range()))?;
    let mut rule = Rule::default();
    for (name, node) in table {
        if !condition(&mut rule, name.get_ref(), node.get_ref())? {
            return Err(format!("unknown condition {}; the known ones are comm, uid and cgroup", name.get_ref()));
        }
    }
    // A rule without conditions would match every process: surely not what was meant.
    if rule == Rule::default() {
        Err(format!("a rule without conditions; wanted is {}", Limit::Rules.range()))
    } else {
        Ok(rule)
    }
}
