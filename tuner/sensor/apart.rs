// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are counted apart from their device, under a name of their own, because they have a readahead window of their own.
//! Takes names and inodes, keeps the programs' map of them.

use super::ebpf::failed;
use super::layout::COUNTERS_BYTES;
use super::{Inode, SensorError};
use keepahead_core::device::BdiName;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::collections::BTreeMap;

/// Groups of files that can be counted apart at a time; each takes 1.8 kB a CPU.
pub(super) const GROUPS: u32 = 32;

/// The groups there are, and the slots of theirs, which begin where those of devices end.
pub(super) struct Apart {
    slots: MapHandle,
    epoch: MapHandle,
    changes: u64,
    first: u32,
    groups: BTreeMap<BdiName, (u32, Vec<Inode>)>,
}

impl Apart {
    pub(super) fn new(slots: MapHandle, epoch: MapHandle, first: u32) -> Apart {
        Apart { slots, epoch, changes: 0, first, groups: BTreeMap::new() }
    }

    /// Name and slot of each group.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&BdiName, u32)> {
        self.groups.iter().map(|(name, (slot, _))| (name, *slot))
    }

    /// Counts these files, and no others, under a name; none: the name is given up. A file that is in two groups counts for the
    /// later one.
    pub(super) fn set(&mut self, name: &BdiName, files: &[Inode], counters: &MapHandle) -> Result<(), SensorError> {
        let slot = match self.groups.get(name) {
            Some((slot, _)) => *slot,
            None if files.is_empty() => return Ok(()),
            None => self.claim(counters)?,
        };
        let (_, before) = self.groups.remove(name).unwrap_or_default();
        for file in before.iter().filter(|file| !files.contains(file)) {
            // One that is gone already is as good.
            let _ = self.slots.delete(&key(file));
        }
        for file in files {
            self.slots.update(&key(file), &slot.to_ne_bytes(), MapFlags::ANY).map_err(|e| failed("files counted apart", e))?;
        }
        if !files.is_empty() {
            self.groups.insert(name.clone(), (slot, files.to_vec()));
        }
        // Streams that were met before look their slot up again.
        self.changes += 1;
        let (zero, word) = (0u32.to_ne_bytes(), self.changes.to_ne_bytes());
        self.epoch.update(&zero, &word, MapFlags::ANY).map_err(|e| failed("files counted apart", e))
    }

    /// A free slot with its counters at zero.
    fn claim(&self, counters: &MapHandle) -> Result<u32, SensorError> {
        let taken: Vec<u32> = self.groups.values().map(|(slot, _)| *slot).collect();
        let free = (self.first..self.first + GROUPS).find(|slot| !taken.contains(slot));
        let slot = free.ok_or_else(|| SensorError::Bpf {
            what: "files counted apart",
            reason: format!("{GROUPS} workloads have a window of their own already"),
        })?;
        let cpus = libbpf_rs::num_possible_cpus().map_err(|e| failed("CPU count", e))?;
        let zero = vec![vec![0u8; COUNTERS_BYTES]; cpus];
        counters.update_percpu(&slot.to_ne_bytes(), &zero, MapFlags::ANY).map_err(|e| failed("counters", e))?;
        Ok(slot)
    }
}

/// `struct ka_inode`; device numbers as the kernel has them (`MKDEV`, `include/linux/kdev_t.h`).
fn key(file: &Inode) -> [u8; 16] {
    let dev = u64::from(file.major << 20 | file.minor);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&file.ino.to_ne_bytes());
    key[8..].copy_from_slice(&dev.to_ne_bytes());
    key
}
