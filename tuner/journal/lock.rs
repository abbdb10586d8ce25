// SPDX-License-Identifier: MIT OR Apache-2.0
//! One agent a machine: an exclusive `flock` on a file, which the kernel drops when its holder dies, however it dies. The file names
//! the holder's pid for people, and the machine's lock its state directory too, for who comes after it was killed; the lock is the truth.

use super::error::way_out;
use nix::fcntl::{Flock, FlockArg};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LockError {
    #[error("keepahead is already running here with pid {pid} (lock {path}): one agent a machine; stop that one first")]
    Held { path: PathBuf, pid: String },
    #[error("lock file {path}: {source}{}", way_out(source))]
    Io { path: PathBuf, source: std::io::Error },
}

/// A look whether somebody holds the lock takes it for an instant ([`AgentLock::is_held`]).
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);

/// Held until it is dropped or the process ends.
#[derive(Debug)]
pub struct AgentLock {
    file: Flock<std::fs::File>,
}

impl AgentLock {
    /// Takes the lock or says who has it. What the last holder said of its state stays there.
    pub fn take(path: &Path) -> Result<AgentLock, LockError> {
        let io = |source| LockError::Io { path: path.into(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        let mut looks = 0;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    let mut lock = AgentLock { file: held };
                    let state_dir = AgentLock::state_dir(path);
                    lock.say(state_dir.as_deref()).map_err(io)?;
                    return Ok(lock);
                }
                // Somebody looks whether it is held.
                Err((again, nix::errno::Errno::EWOULDBLOCK)) if looks < LOOKS => {
                    looks += 1;
                    std::thread::sleep(LOOK);
                    file = again;
                }
                Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                    let mut said = String::new();
                    let _ = file.read_to_string(&mut said);
                    return Err(LockError::Held { path: path.into(), pid: pid(&said) });
                }
                Err((_, errno)) => return Err(io(errno.into())),
            }
        }
    }

    /// Notes where this agent keeps its state.
    pub fn keeps_state_in(&mut self, state_dir: &Path) -> std::io::Result<()> {
        self.say(Some(&std::path::absolute(state_dir)?))
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

    /// The pid that its holder has noted, where one holds it and whoever asks may read that.
    pub fn holder(path: &Path) -> Option<String> {
        let said = std::fs::read_to_string(path).ok()?;
        AgentLock::is_held(path).then(|| pid(&said))
    }

    fn say(&mut self, state_dir: Option<&Path>) -> std::io::Result<()> {
        let state_dir = state_dir.map_or(String::new(), |dir| format!("{}\n", dir.display()));
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        write!(self.file, "{}\n{state_dir}", std::process::id())
    }
}

/// Of what a holder says of itself; it may be about to.
fn pid(said: &str) -> String {
    said.lines().next().map(str::trim).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned()
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
        let mut held = AgentLock::take(&path).unwrap();
        held.keeps_state_in(Path::new("/somewhere/else")).unwrap();
        assert!(AgentLock::is_held(&path));
        assert_eq!(AgentLock::holder(&path), Some(std::process::id().to_string()));
        let told = AgentLock::take(&path).unwrap_err().to_string();
        assert!(told.contains(&format!("pid {} ", std::process::id())), "{told}");
        drop(held);
        assert!(!AgentLock::is_held(&path) && AgentLock::holder(&path).is_none());
        assert_eq!(AgentLock::state_dir(&path).as_deref(), Some(Path::new("/somewhere/else")));
        // Also after one that came to nothing.
        AgentLock::take(&path).unwrap();
        assert_eq!(AgentLock::state_dir(&path).as_deref(), Some(Path::new("/somewhere/else")));
    }

    #[test]
    fn looking_whether_it_is_held_keeps_nobody_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        std::fs::write(&path, "").unwrap();
        let look = Flock::lock(std::fs::File::open(&path).unwrap(), FlockArg::LockSharedNonblock).unwrap();
        let looked = std::thread::spawn(move || {
            std::thread::sleep(LOOK);
            drop(look);
        });
        AgentLock::take(&path).unwrap();
        looked.join().unwrap();
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
