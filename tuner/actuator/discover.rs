// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds every bdi of the machine: which ones are worth tuning, under which name and identity and on which disks, and which are
//! not, and why. Takes the roots of sysfs and procfs, so that it runs on a recorded tree as well.

use super::descend::{Tree, word};
use super::error::ActuatorError;
use super::identity;
use super::knob::{Knob, queue_limits};
use super::mounts::{self, Mounts};
use super::network;
use keepahead_core::device::{BdiName, Device, DeviceKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where `/sys` and `/proc` are.
#[derive(Clone, Debug)]
pub struct Roots {
    pub sys: PathBuf,
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// Two disks may bear one serial number (hypervisors give what they like): their identities must differ all the same, or one would
/// be restored to the other's value.
fn tell_apart(devices: &mut [Device]) {
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for device in devices.iter() {
        *count.entry(device.identity.clone()).or_default() += 1;
    }
    for device in devices.iter_mut().filter(|device| count[&device.identity] > 1) {
        device.identity = format!("{}@{}", device.identity, device.label);
    }
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    pub tunable: Vec<Device>,
    pub not_tunable: Vec<NotTunable>,
    /// Mount points of each tunable bdi (`ext4 on /srv`).
    pub mounted: BTreeMap<BdiName, Vec<String>>,
}

/// Something that people may look for among the tunable devices, and why it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotTunable {
    pub label: String,
    pub bdi: Option<BdiName>,
    pub why: String,
}

/// What discovery reads from; passed along so that each source of devices is a function of its own.
pub(super) struct World<'a> {
    pub roots: &'a Roots,
    pub tree: Tree,
    pub mounts: Mounts,
    pub knob: Knob,
}

/// Finds all devices.
pub fn discover(roots: &Roots) -> Result<Discovery, ActuatorError> {
    let world = World { roots, tree: Tree::read(&roots.sys)?, mounts: Mounts::read(&roots.proc)?, knob: Knob::new(&roots.sys) };
    let mut found = Discovery::default();
    for (disk, number) in &world.tree.disks {
        match why_not(&world, disk) {
            Some(why) => found.refuse(disk.clone(), Some(BdiName(number.clone())), why),
            None => block(&world, disk, number, &mut found),
        }
    }
    network::own_bdis(&world, &mut found)?;
    network::without_bdi(&world, &mut found);
    tell_apart(&mut found.tunable);
    if world.mounts.sysfs_read_only() {
        for device in std::mem::take(&mut found.tunable) {
            found.refuse(device.label, Some(device.bdi), "sysfs is mounted read-only (a container?): run on the host".into());
        }
    }
    Ok(found)
}

impl Discovery {
    pub(super) fn refuse(&mut self, label: String, bdi: Option<BdiName>, why: String) {
        self.not_tunable.push(NotTunable { label, bdi, why });
    }

    /// Adds a device whose knob can be read, else says what is in the way.
    pub(super) fn offer(&mut self, world: &World, device: Device, mounted: Vec<String>) {
        match world.knob.read(&device.bdi) {
            Ok(original) => {
                self.mounted.insert(device.bdi.clone(), mounted);
                let node = world.knob.node(&device.bdi);
                self.tunable.push(Device { original, node, ..device });
            }
            Err(error) => self.refuse(device.label, Some(device.bdi), format!("its value cannot be read: {error}")),
        }
    }
}

/// Why a block device is not worth tuning.
fn why_not(world: &World, disk: &str) -> Option<String> {
    let dir = world.tree.dir(disk);
    if disk.starts_with("zram") || disk.starts_with("ram") {
        return Some("memory, not a disk: nobody waits for it".into());
    }
    if disk.starts_with("zd") && word(&dir.join("device/model")).is_none() && !dir.join("device").exists() {
        return Some("a ZFS volume: ZFS has a prefetcher of its own".into());
    }
    if word(&dir.join("hidden")).as_deref() == Some("1") {
        return Some("one path of a multipath device: the device above it carries the file system".into());
    }
    if disk.starts_with("loop") && world.tree.backing_file(disk).is_none() {
        return Some("a loop device without a backing file".into());
    }
    if word(&dir.join("size")).as_deref() == Some("0") {
        return Some("no medium: its size is 0".into());
    }
    let mounted_on: Vec<_> = world.tree.numbers(disk).flat_map(|number| world.mounts.of_device(number)).collect();
    if !mounted_on.is_empty() {
        let dax = |option| mounted_on.iter().all(|m| mounts::has(m, option) && mounts::value(m, option) != Some("never"));
        return dax("dax").then(|| "mounted with dax: reads bypass the page cache".into());
    }
    if let Some(fs) = world.tree.btrfs_of(disk) {
        let bdi = fs.bdi.as_deref().unwrap_or("not mounted");
        return Some(format!("a member of btrfs {}, which has a readahead of its own ({bdi})", fs.uuid));
    }
    let holder = world.tree.holder(disk)?;
    Some(format!("a member of {}, which carries the file system", world.tree.top(&holder)))
}

fn block(world: &World, disk: &str, number: &str, found: &mut Discovery) {
    let dir = world.tree.dir(disk);
    let kind = match disk {
        _ if disk.starts_with("loop") => DeviceKind::Loop,
        _ if disk.starts_with("dm-") => DeviceKind::DeviceMapper,
        _ if dir.join("md").is_dir() => DeviceKind::Md,
        _ => DeviceKind::Disk,
    };
    let mounted = world.tree.numbers(disk).flat_map(|number| world.mounts.of_device(number));
    let device = Device {
        bdi: BdiName(number.to_owned()),
        node: None,
        label: disk.to_owned(),
        kind,
        identity: identity::of_block(&world.roots.sys, &world.tree, disk),
        disks: world.tree.leaves(disk, &world.mounts),
        original: Default::default(),
        limits: queue_limits(&dir.join("queue")),
    };
    found.offer(world, device, described(mounted));
}

/// `ext4 on /srv`, each file system once with its mount points.
pub(super) fn described<'a>(mounted: impl Iterator<Item = &'a procfs::process::MountInfo>) -> Vec<String> {
    let mut by_type: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for mount in mounted {
        by_type.entry(&mount.fs_type).or_default().push(mount);
    }
    by_type.into_iter().map(|(fs, list)| format!("{fs} on {}", mounts::few(&mounts::points(list.into_iter())))).collect()
}
