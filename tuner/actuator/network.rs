// SPDX-License-Identifier: MIT OR Apache-2.0
//! File systems with a bdi of their own (btrfs, NFS, FUSE, CIFS, Ceph …), which no block device's knob reaches, and those without
//! any, named so that nobody looks for them in vain.

use super::descend::{Btrfs, listing};
use super::discover::{Discovery, World, described};
use super::error::ActuatorError;
use super::mounts;
use keepahead_core::device::{BdiName, Device, DeviceKind, QueueLimits};
use procfs::process::MountInfo;
use std::collections::BTreeMap;
use std::path::Path;

/// Goes through `/sys/class/bdi` for those that are no block device's.
pub(super) fn own_bdis(world: &World, found: &mut Discovery) -> Result<(), ActuatorError> {
    let dir = world.roots.sys.join("class/bdi");
    for name in listing(&dir).map_err(|source| ActuatorError::Io { path: dir.clone(), source })? {
        if world.tree.owner(&name).is_some() {
            continue;
        }
        if let Some(fs) = world.tree.btrfs.iter().find(|fs| fs.bdi.as_deref() == Some(name.as_str())) {
            btrfs(world, fs, &name, found);
            continue;
        }
        // NFS and FUSE: `0:45`, `0:45-fuseblk`; others: `cifs-3`, `ceph-1`.
        let number = name.split('-').next().unwrap_or(&name);
        let mut mounted: Vec<&MountInfo> = world.mounts.of_device(number).collect();
        let of_type = name.rsplit_once('-').map_or("", |(fs, _)| fs);
        if mounted.is_empty() {
            mounted = world.mounts.iter().filter(|m| m.fs_type == of_type).collect();
            let numbers: std::collections::BTreeSet<_> = mounted.iter().map(|m| &m.majmin).collect();
            // Two mounts of one type: the bdi's serial number does not say which.
            if numbers.len() > 1 {
                mounted.clear();
            }
        }
        own(world, &name, of_type, &mounted, found);
    }
    Ok(())
}

fn btrfs(world: &World, fs: &Btrfs, bdi: &str, found: &mut Discovery) {
    let members: Vec<String> = fs.members.iter().map(|member| format!("/dev/{member}")).collect();
    let of_this =
        |m: &&MountInfo| m.fs_type == "btrfs" && m.mount_source.as_ref().is_some_and(|source| is_member(source, &members));
    let mounted: Vec<&MountInfo> = world.mounts.iter().filter(of_this).collect();
    let points = mounts::points(mounted.iter().copied());
    let label = points.first().map_or_else(|| format!("btrfs {}", fs.uuid), |point| format!("btrfs on {point}"));
    let device = Device {
        bdi: BdiName(bdi.to_owned()),
        node: None,
        label,
        kind: DeviceKind::Btrfs,
        identity: format!("fs-uuid:{}", fs.uuid),
        disks: world.tree.leaves_of_btrfs(fs, &world.mounts),
        original: Default::default(),
        limits: QueueLimits::default(),
    };
    found.offer(world, device, described(mounted.into_iter()));
}

/// Mount sources may go through `/dev/mapper` links.
fn is_member(source: &str, members: &[String]) -> bool {
    let real = std::fs::canonicalize(source).map_or_else(|_| source.to_owned(), |path| path.display().to_string());
    members.contains(&real)
}

fn own(world: &World, name: &str, of_type: &str, mounted: &[&MountInfo], found: &mut Discovery) {
    let fs_type = mounted.first().map_or(of_type, |m| m.fs_type.as_str());
    let bdi = BdiName(name.to_owned());
    let point = mounts::points(mounted.iter().copied()).into_iter().next();
    let source = mounted.first().and_then(|m| m.mount_source.clone());
    let label = match (&source, &point) {
        (Some(source), Some(point)) => format!("{source} on {point}"),
        _ => format!("bdi {name} (not mounted in this namespace)"),
    };
    if matches!(fs_type, "zfs" | "bcachefs" | "lustre") {
        return found.refuse(label, Some(bdi), format!("{fs_type} has a prefetcher of its own"));
    }
    if matches!(fs_type, "mtd" | "tmpfs" | "ramfs") {
        return found.refuse(label, Some(bdi), "memory or flash without readahead".into());
    }
    let (kind, identity) = match (fs_type, source, point) {
        ("nfs" | "nfs4", Some(source), _) => (DeviceKind::Nfs, format!("nfs:{source}")),
        (fs, Some(source), Some(point)) => {
            let fuse = fs == "fuse" || fs == "fuseblk" || fs.starts_with("fuse.");
            (if fuse { DeviceKind::Fuse } else { DeviceKind::Other }, format!("mount:{fs}:{source}:{point}"))
        }
        _ => (DeviceKind::Other, format!("path:class/bdi/{name}")),
    };
    let disks = mounted.first().and_then(|m| disk_of_source(world, m)).unwrap_or_default();
    let (original, limits) = (Default::default(), QueueLimits::default());
    let device = Device { bdi, node: None, label, kind, identity, disks, original, limits };
    found.offer(world, device, described(mounted.iter().copied()));
}

/// Disks under a fuseblk mount, whose source is a block device.
fn disk_of_source(world: &World, mount: &MountInfo) -> Option<Vec<String>> {
    let name = mount.mount_source.as_deref()?.strip_prefix("/dev/")?;
    let disk = world.tree.disks.keys().find(|disk| *disk == name || world.tree.dir(disk).join(name).is_dir())?;
    Some(world.tree.leaves(disk, &world.mounts))
}

/// Mounted file systems that have no bdi worth tuning.
pub(super) fn without_bdi(world: &World, found: &mut Discovery) {
    let mut memory: BTreeMap<&str, Vec<&MountInfo>> = BTreeMap::new();
    for mount in world.mounts.iter() {
        match mount.fs_type.as_str() {
            fs @ ("tmpfs" | "ramfs" | "hugetlbfs") => memory.entry(fs).or_default().push(mount),
            "overlay" => overlay(world, mount, found),
            _ => {}
        }
    }
    for (fs, list) in memory {
        let label = format!("{fs} on {}", mounts::few(&mounts::points(list.into_iter())));
        found.refuse(label, None, "memory: there is no disk behind it".into());
    }
}

/// overlayfs has no readahead of its own: the real files below have.
fn overlay(world: &World, mount: &MountInfo, found: &mut Discovery) {
    let layers =
        ["upperdir", "lowerdir", "lowerdir+", "datadir+"].into_iter().filter_map(|option| mounts::value(mount, option));
    let mut below: Vec<String> = layers
        .flat_map(|dirs| dirs.split(':'))
        .filter(|dir| !dir.is_empty())
        .filter_map(|dir| world.mounts.under(Path::new(dir)))
        .filter(|under| under.mnt_id != mount.mnt_id)
        .map(|under| {
            let disk = world.tree.owner(&under.majmin).map(str::to_owned);
            disk.unwrap_or_else(|| format!("{} on {}", under.fs_type, under.mount_point.display()))
        })
        .collect();
    below.sort();
    below.dedup();
    let why = match below.is_empty() {
        true => "reads go through the real files of its layers, which are on no mount that is visible here".into(),
        false => format!("reads go through the real files of its layers: tuned as {}", below.join(", ")),
    };
    found.refuse(format!("overlay on {}", mount.mount_point.display()), None, why);
}
