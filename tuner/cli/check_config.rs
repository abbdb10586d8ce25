// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead check-config [FILE]`: takes a configuration file, prints `ok` or every problem with its line, and gives exit code 0
//! or 2. A file that cannot be read is a failure (1). What only this machine lacks is a warning beside the `ok`.

use super::output::{self, Format};
use super::{Exit, Refused};
use crate::config::{Config, ConfigError, DEFAULT_FILE};
use crate::control;
use std::path::PathBuf;

pub fn run(file: Option<PathBuf>, format: Format) -> anyhow::Result<Exit> {
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    let name = file.display().to_string();
    match (Config::load(&file), format) {
        (Ok(config), Format::Text) => {
            let warnings = not_here(&config).map_or(String::new(), |why| format!("{name}: warning: {why}\n"));
            output::text(&format!("{name}: ok\n{warnings}"))?;
        }
        (Ok(config), Format::Json) => {
            let mut line = serde_json::json!({ "file": name, "ok": true });
            if let Some(why) = not_here(&config) {
                line["warning"] = why.into();
            }
            output::json_line(&line)?;
        }
        (Err(error @ ConfigError::Unreadable { .. }), _) => return Err(Refused::new(Exit::Failure, error.to_string()).into()),
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
fn not_here(config: &Config) -> Option<String> {
    let group = config.control.enabled.then(|| control::group(&config.control.group))?;
    group.err().map(|why| format!("{why}; without it there is no control socket"))
}
