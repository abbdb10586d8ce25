// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead run`: takes its arguments and the configuration, starts the agent.

use super::output::{self, Format};
use super::{Exit, RunArgs, config_and_state_dir};
use crate::agent::{self, Plan};

pub fn run(args: RunArgs, format: Format) -> anyhow::Result<Exit> {
    let (config, state_dir) = config_and_state_dir(args.config.as_deref(), args.state_dir)?;
    output::log_to_stderr(&config.agent.log, format)?;
    let RunArgs { dry_run, device, duration, config: config_file, .. } = args;
    agent::run(Plan { config, config_file, state_dir, dry_run, only: device, duration, format })
}
