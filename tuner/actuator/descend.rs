// SPDX-License-Identifier: MIT OR Apache-2.0
//! The block devices of a sysfs tree, and the way down from each to the physical disks: through partitions, device-mapper and md
//! members, loop devices' backing files and btrfs members.

use super::error::ActuatorError;
use super::mounts::Mounts;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Deepest stack followed. Real ones have three or four layers; a loop over a file on itself must end somewhere.
const DEPTH: u32 = 16;

/// All block devices by name, and the numbers of them and of their partitions.
pub struct Tree {
    block: PathBuf,
    /// Whole disks: name to `MAJ:MIN`.
    pub disks: BTreeMap<String, String>,
    /// `MAJ:MIN` of disks and partitions to the whole disk's name.
    owner: BTreeMap<String, String>,
    /// Whole disk to its partitions' names and numbers.
    partitions: BTreeMap<String, Vec<(String, String)>>,
    /// btrfs file systems: uuid, bdi, member block devices (disks or partitions).
    pub btrfs: Vec<Btrfs>,
}

pub struct Btrfs {
    pub uuid: String,
    pub bdi: Option<String>,
    pub members: Vec<String>,
}

impl Tree {
    pub fn read(sys: &Path) -> Result<Tree, ActuatorError> {
        let block = sys.join("block");
        let mut tree = Tree {
            block: block.clone(),
            disks: BTreeMap::new(),
            owner: BTreeMap::new(),
            partitions: BTreeMap::new(),
            btrfs: btrfs(&sys.join("fs/btrfs")),
        };
        for name in listing(&block).map_err(|source| ActuatorError::Io { path: block.clone(), source })? {
            // A disk that leaves between the listing and here has no number any more.
            let Some(number) = word(&block.join(&name).join("dev")) else { continue };
            for part in listing(&block.join(&name)).unwrap_or_default() {
                let dir = block.join(&name).join(&part);
                if let (true, Some(part_number)) = (dir.join("partition").exists(), word(&dir.join("dev"))) {
                    tree.owner.insert(part_number.clone(), name.clone());
                    tree.partitions.entry(name.clone()).or_default().push((part, part_number));
                }
            }
            tree.owner.insert(number.clone(), name.clone());
            tree.disks.insert(name, number);
        }
        Ok(tree)
    }

    pub fn dir(&self, disk: &str) -> PathBuf {
        self.block.join(disk)
    }

    /// The whole disk that a `MAJ:MIN` (of itself or a partition) belongs to.
    pub fn owner(&self, number: &str) -> Option<&str> {
        self.owner.get(number).map(String::as_str)
    }

    /// Numbers of a disk and of its partitions.
    pub fn numbers<'a>(&'a self, disk: &str) -> impl Iterator<Item = &'a str> {
        let parts = self.partitions.get(disk).into_iter().flatten().map(|(_, number)| number.as_str());
        self.disks.get(disk).map(String::as_str).into_iter().chain(parts)
    }

    /// The whole disk of a device by name: `sda` for `sda3`.
    fn whole<'a>(&'a self, name: &'a str) -> &'a str {
        let of_part = self.partitions.iter().find(|(_, parts)| parts.iter().any(|(part, _)| part == name));
        of_part.map_or(name, |(disk, _)| disk.as_str())
    }

    /// What sits on top of a disk or one of its partitions: `dm-0`, `md0`, or the btrfs file system it is a member of.
    pub fn holder(&self, disk: &str) -> Option<String> {
        let parts = self.partitions.get(disk).into_iter().flatten().map(|(part, _)| self.dir(disk).join(part));
        let holders =
            std::iter::once(self.dir(disk)).chain(parts).flat_map(|d| listing(&d.join("holders")).unwrap_or_default());
        holders.into_iter().next()
    }

    /// The btrfs file system that a disk, or one of its partitions, is a member of.
    pub fn btrfs_of(&self, disk: &str) -> Option<&Btrfs> {
        self.btrfs.iter().find(|fs| fs.members.iter().any(|member| self.whole(member) == disk))
    }

    /// The topmost device above a holder: the one that carries the file system.
    pub fn top(&self, holder: &str) -> String {
        let mut top = holder.to_owned();
        for _ in 0..DEPTH {
            match self.holder(&top) {
                Some(above) => top = above,
                None => break,
            }
        }
        top
    }

    /// Leaf disks under a disk.
    pub fn leaves(&self, disk: &str, mounts: &Mounts) -> Vec<String> {
        let mut found = BTreeSet::new();
        self.descend(disk, mounts, DEPTH, &mut found);
        found.into_iter().collect()
    }

    /// Leaf disks under the members of a btrfs file system.
    pub fn leaves_of_btrfs(&self, fs: &Btrfs, mounts: &Mounts) -> Vec<String> {
        let mut found = BTreeSet::new();
        for member in &fs.members {
            self.descend(self.whole(member), mounts, DEPTH, &mut found);
        }
        found.into_iter().collect()
    }

    fn descend(&self, disk: &str, mounts: &Mounts, depth: u32, found: &mut BTreeSet<String>) {
        let below = if depth == 0 { Vec::new() } else { self.below(disk, mounts) };
        if below.is_empty() {
            found.insert(disk.to_owned());
        }
        for next in below {
            self.descend(&next, mounts, depth - 1, found);
        }
    }

    /// Whole disks directly below a disk.
    fn below(&self, disk: &str, mounts: &Mounts) -> Vec<String> {
        if let Some(file) = self.backing_file(disk) {
            return self.disks_of_file(&file, mounts);
        }
        let slaves = listing(&self.dir(disk).join("slaves")).unwrap_or_default();
        slaves.iter().map(|slave| self.whole(slave).to_owned()).collect()
    }

    /// The file behind a loop device.
    pub fn backing_file(&self, disk: &str) -> Option<PathBuf> {
        word(&self.dir(disk).join("loop/backing_file")).map(PathBuf::from)
    }

    /// Disks under a file: by its device number, else (another mount namespace, a deleted file) by the mount its path lies on.
    fn disks_of_file(&self, file: &Path, mounts: &Mounts) -> Vec<String> {
        let by_stat = fs::metadata(file).ok().map(|m| {
            let dev = m.st_dev();
            format!("{}:{}", libc::major(dev), libc::minor(dev))
        });
        let mount = mounts.under(file);
        // btrfs gives every subvolume a number of its own, which no mount shows: the path decides there.
        let number = match (by_stat, mount) {
            (Some(number), _) if self.owner(&number).is_some() => number,
            (_, Some(mount)) => mount.majmin.clone(),
            (stat, None) => stat.unwrap_or_default(),
        };
        if let Some(disk) = self.owner(&number) {
            return vec![disk.to_owned()];
        }
        let source = mount.and_then(|m| m.mount_source.as_deref()).and_then(|s| s.rsplit('/').next()).unwrap_or("");
        match self.btrfs.iter().find(|fs| fs.members.iter().any(|member| member == source)) {
            Some(fs) => fs.members.iter().map(|member| self.whole(member).to_owned()).collect(),
            None => Vec::new(),
        }
    }
}

fn btrfs(dir: &Path) -> Vec<Btrfs> {
    let uuids = listing(dir).unwrap_or_default().into_iter().filter(|name| dir.join(name).join("devices").is_dir());
    uuids
        .map(|uuid| {
            let fs_dir = dir.join(&uuid);
            let bdi =
                fs::read_link(fs_dir.join("bdi")).ok().and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()));
            Btrfs { bdi, members: listing(&fs_dir.join("devices")).unwrap_or_default(), uuid }
        })
        .collect()
}

/// Names in a directory, sorted.
pub fn listing(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(dir)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// A sysfs attribute without its newline; `None` where it is absent, unreadable or empty.
pub fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
