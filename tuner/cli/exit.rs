// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exit codes: what kind of trouble it was, for scripts and service managers. Part of the interface: numbers never change meaning.

use std::process::ExitCode;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    /// Command line, configuration, scenario or trace.
    Usage = 2,
    /// A privilege or a kernel feature is missing.
    Missing = 3,
    /// Another agent runs on this machine.
    Locked = 4,
}

pub const HELP: &str = "\
Exit codes:
  0  done
  1  something failed; standard error says what
  2  the command line, the configuration, a scenario or a trace is wrong
  3  a privilege or a kernel feature is missing (see `keepahead doctor`)
  4  another keepahead runs on this machine

Environment:
  KEEPAHEAD_SOCKET  the agent's control socket, for the verbs that talk to it
  KEEPAHEAD_LOG     what is logged to standard error, a tracing filter (info, debug, keepahead=trace)";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// The code that an error stands for.
    pub fn of(error: &anyhow::Error) -> Exit {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return refused.exit;
        }
        #[cfg(target_os = "linux")]
        if error.is::<crate::config::ConfigError>() {
            return Exit::Usage;
        }
        Exit::Failure
    }
}

/// An error that carries its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub exit: Exit,
    pub message: String,
}

impl Refused {
    pub fn new(exit: Exit, message: impl Into<String>) -> Refused {
        Refused { exit, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_code_survives_added_context() {
        let error = Err::<(), _>(Refused::new(Exit::Locked, "pid 7 holds the lock")).context("run").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Locked);
        assert_eq!(Exit::of(&anyhow::anyhow!("disk full")), Exit::Failure);
    }
}
