// SPDX-License-Identifier: MIT OR Apache-2.0
//! A tunable backing device (bdi): who it is, across renumbering and reboots, and what it shares with others.

use crate::units::Kib;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of a bdi as in `/sys/class/bdi/`: `259:0`, `btrfs-1`, `0:45`. Unique while the device lives, reused afterwards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BdiName(pub String);

impl fmt::Display for BdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the identity of open files with a window of their own begins; the process that registered them follows, or the rule that names them.
pub const OPEN_FILES: &str = "open-files:";

/// The process whose open files have this identity (`open-files:PID:ID`). No other will ever have it.
pub fn process_of(identity: &str) -> Option<u32> {
    identity.strip_prefix(OPEN_FILES)?.split(':').next()?.parse().ok()
}

/// What kind of thing stands behind a bdi.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Disk,
    Loop,
    DeviceMapper,
    Md,
    Btrfs,
    Nfs,
    Fuse,
    /// No device: the open files of one workload, with a readahead window of their own on the device that bears them.
    OpenFiles,
    Other,
}

/// Queue limits that make the kernel recompute `read_ahead_kb` when they change (`blk_apply_bdi_limits`, `block/blk-settings.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueLimits {
    pub max_sectors_kb: u32,
    pub optimal_io_bytes: u64,
    pub rotational: bool,
}

/// One tunable device, as found at start or by hot-plug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub bdi: BdiName,
    /// Inode of its folder in sysfs, which tells it from a later bdi of the same name: the kernel numbers each new folder. `None`: unknown, or
    /// no device (open files).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// The name people know: `nvme0n1`, `dm-3`, `btrfs on /srv`, `nas:/export on /mnt`.
    pub label: String,
    pub kind: DeviceKind,
    /// Identity that survives renumbering: `wwid:…`, `dm-uuid:…`, `md-uuid:…`, `fs-uuid:…`, `loop:BACKING:DEV:INO`, `nfs:SERVER:PATH`,
    /// else `path:SYSFS-PATH`.
    pub identity: String,
    /// The physical disks underneath (whole-disk names): devices that share one must not be on trial at the same time.
    pub disks: Vec<String>,
    /// `read_ahead_kb` when keepahead first saw the device.
    pub original: Kib,
    pub limits: QueueLimits,
}
