// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has a file open: takes files, gives the descriptors of other processes on them, as this process's own (`pidfd_getfd(2)`, which
//! needs the right to trace the holder). Advice belongs to the open file description, so nothing else reaches what others read.

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode of a file.
pub type Identity = (u64, u64);

pub fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// Looks again and again, and gives each descriptor once.
#[derive(Default)]
pub struct Holders {
    except: Option<i32>,
    seen: BTreeSet<(i32, i32)>,
    /// Descriptors that the kernel did not let out.
    pub refused: usize,
}

impl Holders {
    /// `except`: a process to pass over beside this one; the agent opens the files that he is given.
    pub fn new(except: Option<i32>) -> Holders {
        Holders { except, ..Holders::default() }
    }

    /// Those that were not there at the last look.
    pub fn look(&mut self, files: &[Identity]) -> Vec<OwnedFd> {
        let me = std::process::id() as i32;
        let now: BTreeSet<(i32, i32)> = numbers(Path::new("/proc"))
            .filter(|pid| *pid != me && Some(*pid) != self.except)
            .flat_map(|pid| numbers(&directory(pid)).map(move |fd| (pid, fd)))
            .filter(|(pid, fd)| is_one_of(&directory(*pid).join(fd.to_string()), files))
            .collect();
        let new: Vec<_> = now.difference(&self.seen).copied().collect();
        self.seen = now;
        new.into_iter().filter_map(|(pid, fd)| self.borrow(pid, fd, files)).collect()
    }

    fn borrow(&mut self, pid: i32, fd: i32, files: &[Identity]) -> Option<OwnedFd> {
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        match pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()) {
            // Between the look and now the number may have been used again.
            Ok(fd) => rustix::fs::fstat(&fd).is_ok_and(|s| files.contains(&(s.st_dev, s.st_ino))).then_some(fd),
            Err(rustix::io::Errno::PERM) => {
                self.refused += 1;
                None
            }
            Err(_) => None,
        }
    }
}

fn directory(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd"))
}

/// The entries of a directory of /proc that are numbers; none where it is gone or closed to us.
fn numbers(directory: &Path) -> impl Iterator<Item = i32> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Sockets and pipes are passed over by their links' text, so that nothing is asked of a file system for them.
fn is_one_of(link: &Path, files: &[Identity]) -> bool {
    let to_a_path = fs::read_link(link).is_ok_and(|to| to.is_absolute());
    to_a_path && identity(link).is_ok_and(|found| files.contains(&found))
}
