// SPDX-License-Identifier: MIT OR Apache-2.0
//! Discovery on recorded machines: `fixtures/sysfs/*.tree`.

use keepahead::actuator::{Discovery, Hotplug, Roots, discover};
use keepahead::cli::devices;
use keepahead_core::device::{Device, DeviceKind};
use keepahead_core::units::Kib;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Plants a tree into a folder of its own.
fn planted(name: &str) -> (tempfile::TempDir, Roots) {
    let root = tempfile::tempdir().unwrap();
    let tree = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sysfs").join(name)).unwrap();
    for line in tree.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some((path, target)) = line.split_once(" -> ") {
            fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, root.path().join(path)).unwrap();
        } else if let Some((path, text)) = line.split_once(" = ") {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            writeln!(OpenOptions::new().create(true).append(true).open(path).unwrap(), "{text}").unwrap();
        } else {
            fs::create_dir_all(root.path().join(line)).unwrap();
        }
    }
    let roots = Roots { sys: root.path().join("sys"), proc: root.path().join("proc") };
    (root, roots)
}

fn device<'a>(found: &'a Discovery, bdi: &str) -> &'a Device {
    found.tunable.iter().find(|d| d.bdi.0 == bdi).unwrap_or_else(|| panic!("{bdi} is not tunable: {:?}", found.not_tunable))
}

fn why<'a>(found: &'a Discovery, label: &str) -> &'a str {
    let refused = found.not_tunable.iter().find(|no| no.label == label);
    &refused.unwrap_or_else(|| panic!("{label} is not refused: {:?}", found.not_tunable)).why
}

fn bdis(found: &Discovery) -> Vec<&str> {
    found.tunable.iter().map(|d| d.bdi.0.as_str()).collect()
}

#[test]
fn partitions_share_the_disk_and_memory_is_named() {
    let (_root, roots) = planted("cloud.tree");
    let found = discover(&roots).unwrap();
    assert_eq!(bdis(&found), ["259:0", "254:0", "254:16", "254:32"]);
    let vda = device(&found, "254:0");
    assert_eq!((vda.label.as_str(), vda.kind, vda.original), ("vda", DeviceKind::Disk, Kib(8192)));
    assert_eq!((vda.identity.as_str(), vda.disks.as_slice()), ("serial:vol-0a1b2c", ["vda".to_owned()].as_slice()));
    assert!(vda.limits.rotational && vda.limits.max_sectors_kb == 1280);
    assert_eq!(found.mounted[&vda.bdi], ["ext4 on /", "xfs on /srv"]);
    assert_eq!(device(&found, "259:0").identity, "wwid:eui.0025385b71b0c2a1");
    assert_eq!(device(&found, "254:16").identity, "serial:same@vdb");
    assert_eq!(device(&found, "254:32").identity, "serial:same@vdc");
    assert!(why(&found, "zram0").contains("memory"));
    assert!(why(&found, "loop0").contains("without a backing file"));
    assert!(why(&found, "nvme0c0n1").contains("path of a multipath"));
    assert!(why(&found, "tmpfs on /dev/shm").contains("memory"));
}

#[test]
fn the_device_that_carries_the_file_system_is_tuned_its_members_are_not() {
    let (_root, roots) = planted("stacked.tree");
    let found = discover(&roots).unwrap();
    assert_eq!(bdis(&found), ["253:1", "7:3", "9:0"]);
    let luks = device(&found, "253:1");
    assert_eq!((luks.kind, luks.identity.as_str()), (DeviceKind::DeviceMapper, "dm-uuid:CRYPT-LUKS2-0123"));
    assert_eq!(luks.disks, ["sda", "sdb"]);
    for member in ["sda", "sdb", "dm-0"] {
        assert_eq!(why(&found, member), "a member of dm-1, which carries the file system");
    }
    assert_eq!(why(&found, "sdc"), "a member of md0, which carries the file system");
    let md = device(&found, "9:0");
    assert_eq!((md.kind, md.identity.as_str()), (DeviceKind::Md, "md-uuid:11111111-2222"));
    let image = device(&found, "7:3");
    assert_eq!(image.kind, DeviceKind::Loop);
    assert_eq!(image.disks, ["sdc", "sdd"], "through the backing file's mount and the mirror");
    assert_eq!(image.identity, "loop:/no/such/raid/images/disk.img");
}

#[test]
fn file_systems_with_a_bdi_of_their_own() {
    let (_root, roots) = planted("own-bdis.tree");
    let found = discover(&roots).unwrap();
    let btrfs = device(&found, "btrfs-1");
    assert_eq!((btrfs.label.as_str(), btrfs.kind), ("btrfs on /pool", DeviceKind::Btrfs));
    assert_eq!(
        (btrfs.identity.as_str(), btrfs.disks.as_slice()),
        ("fs-uuid:5f0e", ["sda".to_owned(), "sdb".into()].as_slice())
    );
    assert!(why(&found, "sdb").contains("a member of btrfs 5f0e") && why(&found, "sdb").contains("btrfs-1"));
    let nfs = device(&found, "0:45");
    assert_eq!((nfs.kind, nfs.identity.as_str()), (DeviceKind::Nfs, "nfs:nas:/export"));
    assert_eq!(nfs.label, "nas:/export on /mnt/nas");
    assert_eq!(device(&found, "0:46").kind, DeviceKind::Fuse);
    assert_eq!(device(&found, "cifs-1").label, "//win/share on /mnt/win");
    assert!(why(&found, "tank on /tank").contains("prefetcher of its own"));
    assert!(why(&found, "overlay on /ctr/merged").ends_with("tuned as btrfs on /pool, vda"));
    assert!(why(&found, "sdc").contains("dax"));
    assert!(found.not_tunable.iter().any(|no| no.why.contains("cannot be read")), "a bdi without a knob is named");
}

#[test]
fn a_read_only_sysfs_is_named() {
    let (_root, roots) = planted("container.tree");
    let found = discover(&roots).unwrap();
    assert!(found.tunable.is_empty());
    assert!(why(&found, "vda").contains("read-only"));
}

#[test]
fn what_comes_and_goes_is_told_once() {
    let (_root, roots) = planted("cloud.tree");
    let mut hotplug = Hotplug::new(roots.clone()).unwrap();
    assert!(hotplug.poll().unwrap().appeared.is_empty());
    fs::create_dir_all(roots.sys.join("block/loop0/loop")).unwrap();
    fs::write(roots.sys.join("block/loop0/loop/backing_file"), "/a.img\n").unwrap();
    fs::remove_dir_all(roots.sys.join("block/nvme0n1")).unwrap();
    fs::remove_dir_all(roots.sys.join("class/bdi/259:0")).unwrap();
    let plugged = hotplug.poll().unwrap();
    assert_eq!(plugged.appeared.iter().map(|d| d.label.as_str()).collect::<Vec<_>>(), ["loop0"]);
    assert_eq!(plugged.gone.iter().map(|b| b.0.as_str()).collect::<Vec<_>>(), ["259:0"]);
    // The same number with another file behind it is another device.
    fs::write(roots.sys.join("block/loop0/loop/backing_file"), "/b.img\n").unwrap();
    let plugged = hotplug.poll().unwrap();
    assert_eq!((plugged.appeared.len(), plugged.gone.len()), (1, 1));
    assert!(hotplug.poll().unwrap().gone.is_empty());
}

#[test]
fn devices_are_shown_with_value_disks_and_mounts() {
    let (_root, roots) = planted("stacked.tree");
    let found = discover(&roots).unwrap();
    let mut text = Vec::new();
    devices::text(&found, &mut text).unwrap();
    insta::assert_snapshot!(String::from_utf8(text).unwrap());
    let mut lines = Vec::new();
    devices::json_lines(&found, &mut lines).unwrap();
    let objects: Vec<serde_json::Value> =
        String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), found.tunable.len() + found.not_tunable.len());
    assert_eq!(objects[0]["device"]["bdi"], "253:1");
    // It may be one that an agent has written.
    assert!(objects[0]["device"]["read_ahead_kb"].is_u64() && objects[0]["device"]["original"].is_null(), "{}", objects[0]);
}
