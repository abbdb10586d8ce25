// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent a machine: an exclusive `flock` on a file, which the kernel drops when its holder dies, however it dies. The file names
//! the holder's pid for people; the lock is the truth.

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
        let io = |source| LockError::Io { path: path.into(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0).map_err(io)?;
                held.seek(SeekFrom::Start(0)).map_err(io)?;
                writeln!(held, "{}", std::process::id()).map_err(io)?;
                Ok(AgentLock { _file: held })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = if pid.trim().is_empty() { "unknown".into() } else { pid.trim().into() };
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
