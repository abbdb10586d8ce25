// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent a machine: an exclusive `flock` on a file, which the kernel drops when its holder dies, however it dies. The file names
//! the holder's pid for people, and the machine's lock its state directory too, for who comes after it was killed; the lock is the truth.

use super::error::way_out;
use nix::fcntl::{Flock, FlockArg};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LockError {
    #[error("keepahead is already running here with pid {pid} (lock {path}): one agent a machine; stop that one first")]
    Held { path: PathBuf, pid: String },
    #[error("lock file {path}: {source}{}", way_out(source))]
    Io { path: PathBuf, source: std::io::Error },
}

/// Held until it is dropped or the process ends.
#[derive(Debug)]
pub struct AgentLock {
    _file: Flock<std::fs::File>,
}

impl AgentLock {
    /// Takes the lock or says who has it.
    pub fn take(path: &Path) -> Result<AgentLock, LockError> {
        AgentLock::take_and_say(path, "")
    }

    /// The same, and notes where this agent keeps its state.
    pub fn take_for(path: &Path, state_dir: &Path) -> Result<AgentLock, LockError> {
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.into());
        AgentLock::take_and_say(path, &format!("{}\n", state_dir.display()))
    }

    /// Where the last agent that took this lock keeps its state, whether or not it still lives; `None` where it did not say.
    pub fn state_dir(path: &Path) -> Option<PathBuf> {
        let said = std::fs::read_to_string(path).ok()?;
        said.lines().nth(1).map(PathBuf::from).filter(|dir| dir.is_absolute())
    }

    /// Whether an agent holds it now; also where that cannot be told.
    pub fn is_held(path: &Path) -> bool {
        match std::fs::File::open(path) {
            Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    fn take_and_say(path: &Path, more: &str) -> Result<AgentLock, LockError> {
        let io = |source| LockError::Io { path: path.into(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).map_err(io)?;
                held.seek(SeekFrom::Start(0)).map_err(io)?;
                write!(held, "{}\n{more}", std::process::id()).map_err(io)?;
                Ok(AgentLock { _file: held })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut said = String::new();
                let _ = file.read_to_string(&mut said);
                let pid = said.lines().next().map(str::trim).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned();
                Err(LockError::Held { path: path.into(), pid })
            }
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        let first = AgentLock::take(&path).unwrap();
        let told = AgentLock::take(&path).unwrap_err().to_string();
        assert!(told.contains(&format!("pid {}", std::process::id())), "{told}");
        drop(first);
        AgentLock::take(&path).unwrap();
    }

    #[test]
    fn who_comes_after_a_killed_agent_learns_where_its_state_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        assert!(!AgentLock::is_held(&path) && AgentLock::state_dir(&path).is_none());
        let held = AgentLock::take_for(&path, Path::new("/somewhere/else")).unwrap();
        assert!(AgentLock::is_held(&path));
        let told = AgentLock::take(&path).unwrap_err().to_string();
        assert!(told.contains(&format!("pid {} ", std::process::id())), "{told}");
        drop(held);
        assert!(!AgentLock::is_held(&path));
        assert_eq!(AgentLock::state_dir(&path).as_deref(), Some(Path::new("/somewhere/else")));
        AgentLock::take(&path).unwrap();
        assert_eq!(AgentLock::state_dir(&path), None);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let told = AgentLock::take(Path::new("/nonexistent/agent.lock")).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/agent.lock"), "{told}");
    }

    #[test]
    fn root_is_advised_where_rights_are_missing_and_nowhere_else() {
        let told =
            |errno| LockError::Io { path: "/run/keepahead.lock".into(), source: std::io::Error::from_raw_os_error(errno) };
        let told = |errno| told(errno).to_string();
        assert!(told(libc::EACCES).ends_with("; run as root"), "{}", told(libc::EACCES));
        assert!(told(libc::ENOSPC).ends_with("; free space there"), "{}", told(libc::ENOSPC));
        assert!(told(libc::EROFS).ends_with("; remount it writable"), "{}", told(libc::EROFS));
        assert!(told(libc::EIO).ends_with("(os error 5)"), "{}", told(libc::EIO));
    }
}
