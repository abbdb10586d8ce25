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
    /// A privilege, a kernel feature or the preload shim is missing.
    Missing = 3,
    /// Another agent runs on this machine.
    Locked = 4,
    /// The command of `exec` or `advise` is there and cannot be run; this and the next as shells have it.
    NotExecutable = 126,
    NotFound = 127,
}

pub const HELP: &str = "\
Exit codes:
  0  done
  1  something failed, or `restore` cannot know what was changed; standard error says what
  2  the command line, the configuration, a scenario or a trace is wrong
  3  a privilege, a kernel feature (see `keepahead doctor`) or the shim of `exec` is missing
  4  another keepahead runs on this machine
  126, 127  the command of `exec` or `advise` cannot be run, is not there

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
        #[cfg(target_os = "linux")]
        if let Some(lock) = error.downcast_ref::<crate::journal::LockError>() {
            return Exit::of_lock(lock);
        }
        Exit::Failure
    }

    /// A lock that somebody has is something else than one that cannot be taken.
    #[cfg(target_os = "linux")]
    fn of_lock(error: &crate::journal::LockError) -> Exit {
        use crate::journal::LockError;
        match error {
            LockError::Held { .. } => Exit::Locked,
            LockError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => Exit::Missing,
            LockError::Io { .. } => Exit::Failure,
        }
    }
}

/// An error and its causes on one line, each once: many say theirs in their own text.
pub fn in_words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // SQLite's code repeats the words that rusqlite has just said.
        if !text.contains(&cause) && !cause.contains(&last) {
            text += &format!(": {cause}");
        }
        last = cause;
    }
    text
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lock_that_cannot_be_taken_is_not_one_that_somebody_has() {
        use crate::journal::LockError;
        let of = |lock: LockError| Exit::of(&anyhow::Error::from(lock));
        let io = |errno| LockError::Io { path: "/run/keepahead.lock".into(), source: std::io::Error::from_raw_os_error(errno) };
        assert_eq!(of(LockError::Held { path: "/run/keepahead.lock".into(), pid: "7".into() }), Exit::Locked);
        assert_eq!(of(io(libc::EACCES)), Exit::Missing);
        assert_eq!(of(io(libc::ENOSPC)), Exit::Failure);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_cause_is_said_once() {
        use crate::journal::JournalError;
        let full = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), Some("database or disk is full".into()));
        let error = anyhow::Error::from(JournalError::Read { path: "/j".into(), source: full });
        assert_eq!(in_words(&error), "journal /j: cannot be read: database or disk is full");
        let absent = || std::io::Error::from_raw_os_error(libc::ENOENT);
        let error = anyhow::Error::from(crate::calibrate::CalibrateError::Io { path: "/dev/nosuch".into(), source: absent() });
        assert_eq!(in_words(&error), "/dev/nosuch: No such file or directory (os error 2)");
        let error = anyhow::Error::from(absent()).context("/dev/nosuch");
        assert_eq!(in_words(&error), "/dev/nosuch: No such file or directory (os error 2)");
    }
}
