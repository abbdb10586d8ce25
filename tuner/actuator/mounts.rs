// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is mounted where, from `/proc/self/mountinfo`: who carries which file system, and which directory lies on which.

use super::error::ActuatorError;
use procfs::FromBufRead;
use procfs::process::{MountInfo, MountInfos};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The mounts of this mount namespace.
pub struct Mounts(Vec<MountInfo>);

impl Mounts {
    pub fn read(proc: &Path) -> Result<Mounts, ActuatorError> {
        let path = proc.join("self/mountinfo");
        let file = File::open(&path).map_err(|source| ActuatorError::Io { path: path.clone(), source })?;
        let mounts = MountInfos::from_buf_read(BufReader::new(file)).map_err(|source| ActuatorError::Proc { path, source })?;
        Ok(Mounts(mounts.0))
    }

    pub fn iter(&self) -> impl Iterator<Item = &MountInfo> {
        self.0.iter()
    }

    /// Mounts of the file system with this device number.
    pub fn of_device<'a>(&'a self, majmin: &'a str) -> impl Iterator<Item = &'a MountInfo> {
        self.0.iter().filter(move |mount| mount.majmin == majmin)
    }

    /// The mount that a path lies on: the longest mount point above it, the last mounted of equals.
    pub fn under(&self, path: &Path) -> Option<&MountInfo> {
        self.0.iter().filter(|mount| path.starts_with(&mount.mount_point)).max_by_key(|m| m.mount_point.components().count())
    }

    /// Whether sysfs is mounted read-only, as in most containers.
    pub fn sysfs_read_only(&self) -> bool {
        // Parts of sysfs may be mounted elsewhere (/sys/fs/bpf), so the type alone does not find the one that counts.
        self.under(Path::new("/sys/class/bdi")).is_some_and(|m| m.fs_type == "sysfs" && has(m, "ro"))
    }
}

/// Whether a mount, or its superblock, has an option (with or without a value).
pub fn has(mount: &MountInfo, option: &str) -> bool {
    mount.mount_options.contains_key(option) || mount.super_options.contains_key(option)
}

/// Value of an option of the superblock.
pub fn value<'a>(mount: &'a MountInfo, option: &str) -> Option<&'a str> {
    mount.super_options.get(option)?.as_deref()
}

/// Mount points for people: at most three, and how many more.
pub fn points<'a>(mounts: impl Iterator<Item = &'a MountInfo>) -> Vec<String> {
    let mut points: Vec<String> = mounts.map(|m| m.mount_point.display().to_string()).collect();
    points.sort();
    points.dedup();
    points
}

/// `/a, /b, /c and 4 more`.
pub fn few(points: &[String]) -> String {
    match points.len() {
        0..=3 => points.join(", "),
        n => format!("{} and {} more", points[..3].join(", "), n - 3),
    }
}
