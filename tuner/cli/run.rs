// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead run`: takes its arguments and the configuration, starts the agent.

use super::output::{self, Format};
use super::{Exit, Refused, RunArgs, config_and_state_dir};
use crate::actuator::{Roots, discover};
use crate::agent::{self, Plan};
use crate::config::DeviceSelection;
use keepahead_core::device::Device;

pub fn run(args: RunArgs, format: Format) -> anyhow::Result<Exit> {
    let (config, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    output::log_to_stderr(&config.agent.log, format)?;
    let RunArgs { dry_run, device, duration, config: config_file, .. } = args;
    any_is_there(&device, &config.devices)?;
    agent::run(Plan { config, config_file, state_dir, dry_run, only: device, duration, format })
}

/// Refuses devices that are asked for and not there, before anything is made for the run. One is enough: the others may be plugged in.
fn any_is_there(names: &[String], selection: &DeviceSelection) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let found = discover(&Roots::default())?;
    let not_tunable = |name: &String| {
        found.not_tunable.iter().find(|no| no.label == *name || no.bdi.as_ref().is_some_and(|bdi| bdi.0 == *name))
    };
    let why = |name: &String| -> Option<String> {
        let called = |device: &&Device| [&device.bdi.0, &device.label, &device.identity].contains(&name);
        match (found.tunable.iter().find(called), not_tunable(name)) {
            (Some(device), _) if selection.selects(device) => None,
            (Some(_), _) => Some(format!("{name} is excluded by the configuration: see [devices] there")),
            (None, Some(no)) => Some(format!("{name} is not tunable: {}", no.why)),
            (None, None) => Some(format!("no tunable device is called {name}; `keepahead devices` names them")),
        }
    };
    match names.iter().map(why).collect::<Option<Vec<_>>>() {
        Some(reasons) => {
            // One that is there and cannot be tuned (sysfs is read-only in a container) is no mistake in the command line.
            let exit = if names.iter().any(|name| not_tunable(name).is_some()) { Exit::Failure } else { Exit::Usage };
            Err(Refused::new(exit, reasons.join("\n")).into())
        }
        None => Ok(()),
    }
}
