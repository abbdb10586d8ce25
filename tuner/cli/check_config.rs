// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead check-config [FILE]`: takes a configuration file, prints `ok` or every problem with its line, and gives exit code 0
//! or 2. A file that cannot be read is a failure (1).

use super::output::{self, Format};
use super::{Exit, Refused};
use crate::config::{Config, ConfigError, DEFAULT_FILE};
use std::path::PathBuf;

pub fn run(file: Option<PathBuf>, format: Format) -> anyhow::Result<Exit> {
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    let name = file.display().to_string();
    match (Config::load(&file), format) {
        (Ok(_), Format::Text) => output::text(&format!("{name}: ok\n"))?,
        (Ok(_), Format::Json) => output::json_line(&serde_json::json!({ "file": name, "ok": true }))?,
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
