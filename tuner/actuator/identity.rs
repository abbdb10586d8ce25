// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who a device is, in words that survive renumbering and reboots: the journal keys what it must restore by them.

use super::descend::{Tree, word};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

/// `dm-uuid:…`, `md-uuid:…`, `loop:BACKING:DEV:INO`, `wwid:…`, `serial:…`, else `path:` and the place in sysfs.
pub fn of_block(sys: &Path, tree: &Tree, disk: &str) -> String {
    let dir = tree.dir(disk);
    if let Some(file) = tree.backing_file(disk) {
        return match fs::metadata(&file) {
            Ok(meta) => {
                let dev = meta.st_dev();
                format!("loop:{}:{}:{}:{}", file.display(), libc::major(dev), libc::minor(dev), meta.st_ino())
            }
            Err(_) => format!("loop:{}", file.display()),
        };
    }
    for (kind, attribute) in [
        ("dm-uuid", "dm/uuid"),
        ("md-uuid", "md/uuid"),
        ("wwid", "wwid"),
        ("wwid", "device/wwid"),
        // virtio-blk: what the hypervisor calls the volume.
        ("serial", "serial"),
    ] {
        if let Some(value) = word(&dir.join(attribute)) {
            return format!("{kind}:{}", value.split_whitespace().collect::<Vec<_>>().join("_"));
        }
    }
    let real = fs::canonicalize(&dir).unwrap_or(dir);
    let root = fs::canonicalize(sys).unwrap_or_else(|_| sys.to_owned());
    format!("path:{}", real.strip_prefix(&root).unwrap_or(&real).display())
}
