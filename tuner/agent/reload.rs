// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading the configuration again: whole or not at all. What a running agent cannot change is named, and keeps its old value.

use super::{Agent, load_policy, load_rules};
use crate::config::{Config, changes};
use crate::control::ControlError;
use keepahead_core::device::BdiName;
use keepahead_core::event::Input;
use serde_json::{Value, json};

/// Keys that are looked at when the agent starts, and tables of such keys.
const AT_START: [&str; 10] = [
    "devices.",
    "open_files.",
    "journal.",
    "agent.state_dir",
    "agent.log",
    "control.enabled",
    "control.socket",
    "control.mode",
    "control.group",
    "control.budget_mib",
];

impl Agent {
    /// The outer error ends the agent, the inner one is the answer.
    pub(super) fn reload(&mut self) -> anyhow::Result<Result<Value, ControlError>> {
        let mut read = match Config::load_or_default(self.plan.config_file.as_deref()) {
            Ok(read) => read,
            Err(e) => return Ok(Err(ControlError::failed(e))),
        };
        // Also where no key has changed: the model's file may have.
        let policy = load_policy(&mut read);
        let (after_restart, changed): (Vec<String>, Vec<String>) =
            changes(&self.plan.config, &read).into_iter().partition(|key| AT_START.iter().any(|start| key.starts_with(start)));
        let config = with_starting_keys_of(&self.plan.config, read);
        if config.settings != self.plan.config.settings {
            self.feed(Input::Settings { now: super::now(), settings: Box::new(config.settings.clone()) })?;
        }
        self.policy = policy;
        if config.workloads != self.plan.config.workloads {
            let ruled = self.owners.iter().filter(|(_, o)| o.whose.client().is_none()).map(|(name, _)| name.clone());
            let ruled: Vec<BdiName> = ruled.collect();
            ruled.iter().try_for_each(|name| self.end_window(name))?;
            self.ruled = load_rules(&config.workloads, &self.roots);
        }
        if let Some(board) = &self.board {
            board.permit(config.control.clone(), config.settings.memory_pressure_max);
        }
        if let Some(hands) = &mut self.hands {
            hands.on_exit(config.agent.on_exit);
        }
        self.plan.config = config;
        Ok(Ok(json!({ "changed": changed, "after_restart": after_restart })))
    }
}

/// What was `read`, but for the keys of [`AT_START`].
fn with_starting_keys_of(old: &Config, read: Config) -> Config {
    let mut config = Config { devices: old.devices.clone(), open_files: old.open_files.clone(), ..read };
    config.journal = old.journal.clone();
    (config.agent.state_dir, config.agent.log) = (old.agent.state_dir.clone(), old.agent.log.clone());
    let lists = std::mem::replace(&mut config.control, old.control.clone());
    (config.control.monitor, config.control.advise) = (lists.monitor, lists.advise);
    (config.control.tune, config.control.admin) = (lists.tune, lists.admin);
    config
}
