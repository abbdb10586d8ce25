// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead's settings in a scenario: takes the keys that differ, gives all of them.

use super::error::{ScenarioError, nearest};
use keepahead_core::settings::Settings;
use toml::{Table, Value};

/// The defaults with `overrides` laid over them.
pub fn merged(overrides: &Table) -> Result<Settings, ScenarioError> {
    let wrong = |e: &dyn std::fmt::Display, value: &str| {
        let message = e.to_string().trim().replace('\n', " ");
        let hint = nearest(&message).map_or("use the names of keepahead's settings".into(), |n| format!("did you mean `{n}`?"));
        let key = message.split('`').nth(1).and_then(|name| written(overrides, name)).unwrap_or_default();
        ScenarioError::impossible(format!("settings{key}"), value, &message, &hint)
    };
    let defaults = Table::try_from(Settings::default()).map_err(|e| wrong(&e, "defaults"))?;
    let value = Value::Table(overrides.clone()).to_string();
    let settings: Settings = overlay(defaults, overrides).try_into().map_err(|e: toml::de::Error| wrong(&e, &value))?;
    if let Some(policy) = overrides.get("policy") {
        let limit = "a scenario says what happens to a policy, not which one it is";
        return Err(ScenarioError::impossible("settings.policy", policy, limit, "leave it out and choose with --policy"));
    }
    // Below 4 KiB every read becomes a request of one page (see `Settings::floor`).
    if settings.floor.0 < 4 || settings.ceiling < settings.floor {
        let limit = "floor must be at least 4, and ceiling not below it";
        return Err(ScenarioError::impossible(
            "settings",
            format!("{} to {}", settings.floor, settings.ceiling),
            limit,
            "in KiB",
        ));
    }
    Ok(settings)
}

/// Where a key of this name was written: at the top, or in a table below.
fn written(table: &Table, name: &str) -> Option<String> {
    let below = |(key, value): (&String, &Value)| Some(format!(".{key}{}", written(value.as_table()?, name)?));
    if table.contains_key(name) { Some(format!(".{name}")) } else { table.iter().find_map(below) }
}

fn overlay(mut base: Table, over: &Table) -> Table {
    for (key, value) in over {
        let merged = match (base.remove(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => Value::Table(overlay(below, above)),
            (_, value) => value.clone(),
        };
        base.insert(key.clone(), merged);
    }
    base
}
