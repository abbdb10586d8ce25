// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listening socket: takes the configuration, gives a listener, systemd's where it handed one over, else one of our own, which
//! is removed again at the end. A Unix socket and nothing else.

use crate::config;
use nix::unistd::{Gid, Group, chown};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("control socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("control socket {}: something that is no socket is there; remove it, or set control.socket", path.display())]
    NotASocket { path: PathBuf },
    #[error("control socket {}: somebody listens there already", path.display())]
    Taken { path: PathBuf },
    #[error("control.group = {group}: no such group; create it, or choose another")]
    NoSuchGroup { group: String },
}

/// Removes its socket when dropped, unless it is systemd's or another's by now.
pub struct Listening {
    pub listener: UnixListener,
    own: Option<(PathBuf, u64)>,
}

impl Listening {
    /// Takes over systemd's socket (LISTEN_FDS) or makes one.
    pub fn open(control: &config::Control) -> Result<Listening, ListenError> {
        let failed = |source| ListenError::Socket { path: control.socket.clone(), source };
        let activated = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(failed)?;
        let listening = match activated {
            Some(listener) => Listening { listener, own: None },
            None => Listening::bind(control)?,
        };
        listening.listener.set_nonblocking(true).map_err(failed)?;
        Ok(listening)
    }

    fn bind(control: &config::Control) -> Result<Listening, ListenError> {
        let path = &control.socket;
        let failed = |source| ListenError::Socket { path: path.clone(), source };
        let group = group(&control.group)?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        remove_stale(path)?;
        // Under another name first: nobody connects before mode and group are as the configuration says.
        let mut name = path.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(name);
        let _ = fs::remove_file(&new);
        let ready = || {
            let listener = UnixListener::bind(&new)?;
            chown(&new, None, Some(group))?;
            fs::set_permissions(&new, Permissions::from_mode(control.mode.bits()))?;
            let inode = fs::symlink_metadata(&new)?.ino();
            fs::rename(&new, path)?;
            Ok((listener, inode))
        };
        let (listener, inode) = ready().map_err(|e| {
            let _ = fs::remove_file(&new);
            failed(e)
        })?;
        Ok(Listening { listener, own: Some((path.clone(), inode)) })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.own
            && fs::symlink_metadata(path).is_ok_and(|m| m.ino() == *inode)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a `kill -9` left behind goes; what answers, or is no socket, stays.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket { path: path.into() }),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(ListenError::Taken { path: path.into() }),
        Ok(_) => fs::remove_file(path).map_err(|source| ListenError::Socket { path: path.into(), source }),
    }
}

/// A group by name or number.
pub fn group(name: &str) -> Result<Gid, ListenError> {
    let by_name = || Group::from_name(name).ok().flatten().map(|g| g.gid);
    let found = name.parse().ok().map(Gid::from_raw).or_else(by_name);
    found.ok_or_else(|| ListenError::NoSuchGroup { group: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(dir: &tempfile::TempDir) -> config::Control {
        let group = nix::unistd::getgid().to_string();
        config::Control { socket: dir.path().join("run/control.sock"), group, ..config::Control::default() }
    }

    #[test]
    fn the_socket_comes_with_its_mode_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let control = control(&dir);
        let listening = Listening::bind(&control).unwrap();
        assert_eq!(fs::symlink_metadata(&control.socket).unwrap().mode() & 0o777, 0o660);
        assert!(matches!(Listening::bind(&control), Err(ListenError::Taken { .. })));
        drop(listening);
        assert!(!control.socket.exists());
        assert_eq!(fs::read_dir(control.socket.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_agent_left_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let control = control(&dir);
        let mut killed = Listening::bind(&control).unwrap();
        killed.own = None;
        drop(killed);
        assert!(control.socket.exists());
        drop(Listening::bind(&control).unwrap());
        fs::write(&control.socket, "mine").unwrap();
        assert!(matches!(Listening::bind(&control), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read(&control.socket).unwrap(), b"mine");
    }

    #[test]
    fn an_unknown_group_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let control = config::Control { group: "no-such-group".into(), ..control(&dir) };
        assert!(Listening::bind(&control).err().unwrap().to_string().contains("no-such-group"));
    }
}
