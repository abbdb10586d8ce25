// SPDX-License-Identifier: MIT OR Apache-2.0
//! The verbs that look at or change this machine: takes a parsed verb, calls it with what it needs. On Linux only.

use super::{
    Exit, Format, HistoryArgs, ReplayArgs, RestoreArgs, Verb, check_config, control, devices, doctor, history, replay, restore,
};
use crate::actuator::Roots;
use crate::agent;
use crate::config::{Config, ConfigError};
use crate::policy;
use keepahead_core::event::{Input, Record};
use keepahead_core::policy::Policy;
use keepahead_core::step::{State, step};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The configuration that applies, and where state lives: `--state-dir` wins over it.
pub fn config_and_state_dir(config: Option<&Path>, state_dir: Option<PathBuf>) -> Result<(Config, PathBuf), ConfigError> {
    let config = Config::load_or_default(config)?;
    let state_dir = state_dir.unwrap_or_else(|| config.agent.state_dir.clone());
    Ok((config, state_dir))
}

pub(super) fn run(verb: Verb, format: Format) -> anyhow::Result<Exit> {
    match verb {
        Verb::Status(at) => control::status(&at, format),
        Verb::Pause(at) => control::order(&at, "Pause", json!({}), "paused", format),
        Verb::Resume(at) => control::order(&at, "Resume", json!({}), "resumed", format),
        Verb::Reload(at) => control::reload(&at, format),
        Verb::TakeBack(args) => control::take_back(&args, format),
        Verb::Pin(args) => control::pin(&args, format),
        Verb::Unpin(args) => control::unpin(&args, format),
        Verb::Prefetch(args) => control::prefetch(&args, format),
        Verb::Advise(args) => super::advise::run(args, format),
        Verb::Exec(args) => super::exec::run(args),
        Verb::Doctor => doctor::run(format),
        Verb::CheckConfig(args) => check_config::run(args.file, format),
        Verb::History(args) => tell_history(args, format),
        Verb::Record(args) => super::record::run(args, format),
        Verb::Replay(args) => run_replay(&args, format),
        Verb::Devices => {
            devices::run(format, &Roots::default())?;
            Ok(Exit::Ok)
        }
        Verb::Run(args) => super::run::run(args, format),
        Verb::Restore(args) => restore_by_hand(args, format),
        Verb::Sim(args) => super::sim::run(args, format),
        Verb::Train(args) => super::train::run(&args, format),
    }
}

fn tell_history(args: HistoryArgs, format: Format) -> anyhow::Result<Exit> {
    let (_, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    let filter = history::Filter { device: args.device, last: args.last.map(Into::into) };
    history::run(&state_dir, &filter, format == Format::Json, &mut std::io::stdout().lock())?;
    Ok(Exit::Ok)
}

fn restore_by_hand(args: RestoreArgs, format: Format) -> anyhow::Result<Exit> {
    let (config, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    let roots = Roots::default();
    let mut actuator = agent::open_actuator(&config, &roots);
    let (info, knobs) = (agent::run_info(&config, &roots), agent::LiveKnobs::new(&roots, Some(&mut actuator)));
    match restore::run(&state_dir, args.device.as_deref(), info, &knobs, format, &mut std::io::stdout().lock()) {
        // Its own kind says which exit code it is.
        Err(restore::RestoreError::Lock(lock)) => Err(lock.into()),
        done => done.map(|()| Exit::Ok).map_err(Into::into),
    }
}

/// The step of this version, with the state that a checkpoint holds.
struct Step<'a> {
    model: Option<&'a Path>,
    state: Option<(State, Box<dyn Policy>)>,
}

impl replay::Replayable for Step<'_> {
    fn restore(&mut self, checkpoint_json: &str) -> Result<(), String> {
        let state: State = serde_json::from_str(checkpoint_json).map_err(|e| e.to_string())?;
        let policy = policy::load(state.settings.policy, self.model).map_err(|e| format!("{e:#}"))?;
        self.state = Some((state, policy));
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Vec<Record> {
        if let (Input::Settings { settings, .. }, Some((_, policy))) = (input, &mut self.state)
            && let Ok(chosen) = policy::load(settings.policy, self.model)
        {
            *policy = chosen;
        }
        self.state.as_mut().map_or(Vec::new(), |(state, policy)| step(state, &**policy, input).records)
    }
}

fn run_replay(args: &ReplayArgs, format: Format) -> anyhow::Result<Exit> {
    let mut step = Step { model: args.model.as_deref(), state: None };
    let equal = replay::run(&args.journal, &mut step, format, &mut std::io::stdout().lock())?;
    Ok(if equal { Exit::Ok } else { Exit::Failure })
}
