// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output: results go to standard output as text for people or JSON lines for machines; the log goes to standard error, so a pipe
//! carries results only.

use crate::config::log_filter;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// One value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(write_all(&line)?)
}

/// Text as it is.
pub fn text(text: &str) -> anyhow::Result<()> {
    Ok(write_all(text.as_bytes())?)
}

fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Starts logging to standard error: `KEEPAHEAD_LOG` if it is set, else `filter` (`agent.log` of the configuration).
pub fn log_to_stderr(filter: &str, format: Format) -> anyhow::Result<()> {
    let wanted = std::env::var("KEEPAHEAD_LOG").ok().filter(|s| !s.is_empty());
    let (name, text) = match &wanted {
        Some(text) => ("KEEPAHEAD_LOG", text.as_str()),
        None => ("agent.log", filter),
    };
    let filter = log_filter(text).map_err(|e| {
        let message = format!("{name} = {text:?} is no log filter ({e}); write a level such as info, or keepahead=debug");
        super::Refused::new(super::Exit::Usage, message)
    })?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false).with_ansi(colour);
    // A second start (two verbs in one test process) keeps the first one.
    let _ = match format {
        Format::Text => log.try_init(),
        Format::Json => log.json().try_init(),
    };
    Ok(())
}
