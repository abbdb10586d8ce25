// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead check-config [FILE]`: takes a configuration file, prints `ok` or every problem with its line, and gives exit code 0
//! or 2, also where the file cannot be read. What only this machine lacks is a warning beside the `ok`.

use super::output::{self, Format};
use super::{Exit, Refused};
use crate::actuator::{Discovery, Roots, discover};
use crate::config::{self, Config, ConfigError, DEFAULT_FILE, DeviceSelection};
use crate::control;
use crate::policy;
use std::path::PathBuf;

pub fn run(file: Option<PathBuf>, format: Format) -> anyhow::Result<Exit> {
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    let name = file.display().to_string();
    match (Config::load(&file), format) {
        (Ok(config), Format::Text) => {
            let warnings: String = not_here(&config).iter().map(|why| format!("{name}: warning: {why}\n")).collect();
            output::text(&format!("{name}: ok\n{warnings}"))?;
        }
        (Ok(config), Format::Json) => {
            let mut line = serde_json::json!({ "file": name, "ok": true });
            let warnings = not_here(&config);
            if !warnings.is_empty() {
                line["warning"] = warnings.join("; ").into();
            }
            output::json_line(&line)?;
        }
        (Err(error @ ConfigError::Unreadable { .. }), _) => return Err(Refused::new(Exit::Usage, error.to_string()).into()),
        (Err(ConfigError::Refused { problems, .. }), Format::Json) => {
            for problem in &problems {
                let mut line = serde_json::to_value(problem)?;
                line["file"] = name.clone().into();
                output::json_line(&line)?;
            }
            return Ok(Exit::Usage);
        }
        (Err(error), Format::Text) => {
            output::text(&format!("{error}\n"))?;
            return Ok(Exit::Usage);
        }
    }
    Ok(Exit::Ok)
}

/// What is right in the file and missing on this machine, which need not be the one that the file is for.
fn not_here(config: &Config) -> Vec<String> {
    let group = config.control.enabled.then(|| control::group(&config.control.group).err()).flatten();
    let model = policy::load(config.settings.policy, config.agent.model()).err();
    let group = group.map(|why| format!("{why}; without it there is no control socket"));
    let devices = discover(&Roots::default()).map_or_else(|_| Vec::new(), |found| no_device(&config.devices, &found));
    group
        .into_iter()
        .chain(nobody(&config.control))
        .chain(devices)
        .chain(model.map(|why| format!("{why:#}; the rules would go on")))
        .collect()
}

/// Lists of patterns that match nothing here: an `include` no tunable device, a name in `exclude` no device at all. (One of several patterns, or a
/// wildcard, may be there for other machines.) A machine without tunable devices is not the one that the file is for.
fn no_device(devices: &DeviceSelection, found: &Discovery) -> Vec<String> {
    let tunable: Vec<&str> = found.tunable.iter().flat_map(|d| [d.bdi.0.as_str(), &d.label, &d.identity]).collect();
    let others = found.not_tunable.iter().flat_map(|no| [Some(no.label.as_str()), no.bdi.as_ref().map(|bdi| bdi.0.as_str())]);
    let all: Vec<&str> = tunable.iter().copied().chain(others.flatten()).collect();
    let included = DeviceSelection::unmatched(&devices.include, &tunable);
    let nothing = !tunable.is_empty() && included.len() == devices.include.len();
    let include = nothing.then(|| {
        format!(
            "devices.include = {included:?}: no tunable device of this machine is called so; `keepahead devices` names them"
        )
    });
    let excluded = DeviceSelection::unmatched(&devices.exclude, &all).into_iter().filter(|name| !name.contains(['*', '?']));
    let exclude = excluded.filter(|_| !tunable.is_empty()).map(|name| {
        format!("devices.exclude = {name:?}: no device of this machine is called so; `keepahead devices` names them")
    });
    include.into_iter().chain(exclude).collect()
}

/// Entries of the control socket's lists that let nobody in.
fn nobody(control: &config::Control) -> Vec<String> {
    let lists =
        [("monitor", &control.monitor), ("advise", &control.advise), ("tune", &control.tune), ("admin", &control.admin)];
    let entries = lists.into_iter().flat_map(|(list, entries)| entries.iter().map(move |entry| (list, entry)));
    let named = |(list, entry): (&str, &String)| {
        let what = control::names_nobody(entry)?;
        Some(format!("control.{list} = {entry:?}: no such {what}; create it, or take it out: it lets nobody in"))
    };
    if control.enabled { entries.filter_map(named).collect() } else { Vec::new() }
}
