// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device to measure: takes a path or a name, gives what sysfs says of its queue, and who is using it.

use super::CalibrateError;
use crate::actuator::Roots;
use procfs::process::MountInfos;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A block device, found in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// To be opened: `/dev/sda`.
    pub path: PathBuf,
    pub bytes: u64,
    pub max_sectors_kb: u32,
    pub optimal_io_bytes: u64,
    pub rotational: bool,
    /// A loop device that reads its file through the page cache.
    pub is_cached_loop: bool,
    /// Its directory in sysfs; a partition's own.
    sys: PathBuf,
    proc: PathBuf,
}

impl Target {
    /// Finds a device by path (`/dev/sda`, links followed) or by name (`sda`).
    pub fn find(device: &Path, roots: &Roots) -> Result<Target, CalibrateError> {
        let path = if device.components().count() == 1 { Path::new("/dev").join(device) } else { device.to_owned() };
        let io = |source| CalibrateError::Io { path: path.clone(), source };
        let metadata = fs::metadata(&path).map_err(io)?;
        if !metadata.file_type().is_block_device() {
            return Err(CalibrateError::NotBlock(path));
        }
        let number = metadata.rdev();
        let sys =
            roots.sys.join("dev/block").join(format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number)));
        let sys = fs::canonicalize(&sys).map_err(|source| CalibrateError::Io { path: sys, source })?;
        // A partition has no queue of its own: its disk is the directory above.
        let queue = [sys.join("queue"), sys.join("../queue")].into_iter().find(|q| q.is_dir());
        let queue = queue.ok_or_else(|| CalibrateError::NotBlock(path.clone()))?;
        Ok(Target {
            bytes: read(&sys.join("size"))? * 512,
            max_sectors_kb: u32::try_from(read(&queue.join("max_sectors_kb"))?).unwrap_or(u32::MAX),
            optimal_io_bytes: read(&queue.join("optimal_io_size"))?,
            rotational: read(&queue.join("rotational"))? == 1,
            is_cached_loop: read(&queue.join("../loop/dio")).is_ok_and(|direct| direct == 0),
            path,
            sys,
            proc: roots.proc.clone(),
        })
    }

    /// One without a device, for what only calculates.
    #[cfg(test)]
    pub(crate) fn of_size(bytes: u64) -> Target {
        let none = PathBuf::new();
        let (path, sys, proc) = (none.clone(), none.clone(), none);
        Target { path, bytes, max_sectors_kb: 1280, optimal_io_bytes: 0, rotational: false, is_cached_loop: false, sys, proc }
    }

    /// Why it should not be loaded without asking; empty where nobody uses it. Watches its I/O for a second.
    pub fn in_use(&self) -> Result<Vec<String>, CalibrateError> {
        let mut uses = Vec::new();
        self.uses_of(&self.sys, &mut uses)?;
        let before = self.activity()?;
        std::thread::sleep(Duration::from_secs(1));
        let after = self.activity()?;
        if before != after || after.1 > 0 {
            uses.push("had I/O in the last second".into());
        }
        Ok(uses)
    }

    /// Mounts, swap and stacked devices on a device and on its partitions.
    fn uses_of(&self, sys: &Path, uses: &mut Vec<String>) -> Result<(), CalibrateError> {
        let name = sys.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = text(&sys.join("dev"))?;
        let mounts = self.proc.join("self/mountinfo");
        let parsed: MountInfos = procfs::FromRead::from_file(&mounts)
            .map_err(|e| CalibrateError::Io { path: mounts, source: std::io::Error::other(e.to_string()) })?;
        // btrfs mounts carry a number of their own, so the source counts too.
        let source = format!("/dev/{name}");
        let here = parsed.0.iter().filter(|m| m.majmin == number || m.mount_source.as_deref() == Some(&*source));
        uses.extend(here.map(|m| format!("{name} is mounted on {}", m.mount_point.display())));
        let swaps = fs::read_to_string(self.proc.join("swaps")).unwrap_or_default();
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&*source)) {
            uses.push(format!("{name} is swap space"));
        }
        uses.extend(children(&sys.join("holders")).map(|h| format!("{name} carries {}", file_name(&h))));
        for partition in children(sys).filter(|child| child.join("partition").exists()) {
            self.uses_of(&partition, uses)?;
        }
        Ok(())
    }

    /// Reads and writes completed, and requests in flight (`Documentation/block/stat.rst`: fields 1, 5 and 9).
    fn activity(&self) -> Result<(u64, u64), CalibrateError> {
        let stat = text(&self.sys.join("stat"))?;
        let field = |n: usize| stat.split_whitespace().nth(n).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Ok((field(0) + field(4), field(8)))
    }
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<String, CalibrateError> {
    let text = fs::read_to_string(path).map_err(|source| CalibrateError::Io { path: path.into(), source })?;
    Ok(text.trim().to_owned())
}

fn read(path: &Path) -> Result<u64, CalibrateError> {
    let text = text(path)?;
    text.parse().map_err(|_| CalibrateError::Io {
        path: path.into(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{text:?} is no number")),
    })
}
