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
        ScenarioError::impossible("settings", value, &message, &hint)
    };
    let defaults = Table::try_from(Settings::default()).map_err(|e| wrong(&e, "defaults"))?;
    let value = overrides.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let settings: Settings = overlay(defaults, overrides).try_into().map_err(|e: toml::de::Error| wrong(&e, &value))?;
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
