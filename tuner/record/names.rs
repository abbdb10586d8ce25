// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of recorded files: takes a file's key and a process that used it, finds the path in `/proc`, gives it plain or as a keyed
//! hash. The kernel's events carry inodes only; a process that is gone by then leaves its files without a name.

use super::touch::FileKey;
use keepahead_sim::trace::{FileName, NAME_BYTES_MAX};
use procfs::process::{FDTarget, MMapPath, Process};
use siphasher::sip::SipHasher24;
use std::collections::HashMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Paths kept for files not demanded yet: a process with many open files is looked through once and not once a file.
const PATHS_MAX: usize = 65536;

/// How paths become names.
pub enum Naming {
    Plain,
    /// SipHash-2-4 of the path under this key.
    Hashed(Box<SipHasher24>),
}

impl Naming {
    /// Under the key given, so that recordings with the same one name files alike; else under a random one that nobody keeps.
    pub fn hashed(key: Option<[u8; 16]>) -> Result<Naming, std::io::Error> {
        let key = match key {
            Some(key) => key,
            None => {
                let mut random = [0; 16];
                rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
                random
            }
        };
        Ok(Naming::Hashed(Box::new(SipHasher24::new_with_key(&key))))
    }

    fn name(&self, path: &str) -> FileName {
        match self {
            Naming::Hashed(hasher) => FileName::Hashed(hasher.hash(path.as_bytes())),
            Naming::Plain if path.len() > NAME_BYTES_MAX => FileName::Unknown,
            Naming::Plain => FileName::Plain(path.to_owned()),
        }
    }
}

pub struct Names {
    naming: Naming,
    /// btrfs shows each subvolume's own device number, which events do not have: there the inode number has to do.
    inode_only: bool,
    paths: HashMap<FileKey, String>,
}

impl Names {
    pub fn new(naming: Naming, inode_only: bool) -> Names {
        Names { naming, inode_only, paths: HashMap::new() }
    }

    /// The name of a file that `pid` has just used.
    pub fn of(&mut self, file: FileKey, pid: u32) -> FileName {
        let key = self.comparable(file);
        if !self.paths.contains_key(&key) {
            if self.paths.len() >= PATHS_MAX {
                self.paths.clear();
            }
            self.look(pid);
        }
        self.paths.get(&key).map_or(FileName::Unknown, |path| self.naming.name(path))
    }

    fn comparable(&self, file: FileKey) -> FileKey {
        if self.inode_only { FileKey { dev: 0, ..file } } else { file }
    }

    /// All files that the process has open or mapped now. What is not readable any more has no names.
    fn look(&mut self, pid: u32) {
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { return };
        for fd in process.fd().into_iter().flatten().flatten() {
            // By way of /proc, so that the file's own numbers come, whatever is at that path by now.
            if let (FDTarget::Path(path), Ok(meta)) = (&fd.target, std::fs::metadata(format!("/proc/{pid}/fd/{}", fd.fd))) {
                let block = meta.file_type().is_block_device();
                let (dev, ino) = if block { (0, kernel_dev(meta.rdev()).into()) } else { (kernel_dev(meta.dev()), meta.ino()) };
                self.learn(FileKey { dev, ino }, path);
            }
        }
        for map in process.maps().into_iter().flatten() {
            if let MMapPath::Path(path) = &map.pathname {
                let dev = (map.dev.0 as u32) << 20 | map.dev.1 as u32;
                self.learn(FileKey { dev, ino: map.inode }, path);
            }
        }
    }

    fn learn(&mut self, file: FileKey, path: &Path) {
        let key = self.comparable(file);
        self.paths.entry(key).or_insert_with(|| path.to_string_lossy().into_owned());
    }
}

/// `dev_t` as the kernel keeps it: 20 bits of minor.
fn kernel_dev(dev: u64) -> u32 {
    rustix::fs::major(dev) << 20 | rustix::fs::minor(dev)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(path: &Path) -> FileKey {
        let meta = std::fs::metadata(path).unwrap();
        FileKey { dev: kernel_dev(meta.dev()), ino: meta.ino() }
    }

    #[test]
    fn an_open_file_has_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name = Names::new(Naming::Plain, false).of(own(file.path()), std::process::id());
        assert_eq!(name, FileName::Plain(file.path().to_string_lossy().into_owned()));
    }

    #[test]
    fn a_mapped_program_has_its_path() {
        let program = std::env::current_exe().unwrap();
        let name = Names::new(Naming::Plain, false).of(own(&program), std::process::id());
        assert_eq!(name, FileName::Plain(program.to_string_lossy().into_owned()));
    }

    #[test]
    fn what_nobody_has_open_is_unknown() {
        let gone = FileKey { dev: u32::MAX, ino: 1 };
        assert_eq!(Names::new(Naming::Plain, false).of(gone, std::process::id()), FileName::Unknown);
        assert_eq!(Names::new(Naming::Plain, false).of(gone, u32::MAX), FileName::Unknown);
    }

    #[test]
    fn hashes_join_under_one_key_and_under_random_keys_do_not() {
        let hash = |key| Naming::hashed(key).unwrap().name("/srv/db/main.db");
        assert_eq!(hash(Some([7; 16])), hash(Some([7; 16])));
        assert_ne!(hash(Some([7; 16])), hash(Some([8; 16])));
        assert_ne!(hash(None), hash(None));
    }
}
