// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are counted apart from their device, under a name of their own, because they have a readahead window of their own; and
//! parts of them, because a process may advise these. Takes names, inodes and pages, keeps the programs' maps of them.

use super::ebpf::failed;
use super::layout::COUNTERS_BYTES;
use super::{FILE_PARTS, Inode, Part, SensorError};
use keepahead_core::device::BdiName;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use std::collections::BTreeMap;

/// Slots for groups of files and for parts of them; each takes 1.8 kB a CPU.
pub(super) const GROUPS: u32 = 64;

#[derive(Default)]
struct Group {
    slot: u32,
    files: Vec<Inode>,
    parts: Vec<(Part, u32)>,
}

/// The groups there are, and the slots of theirs, which begin where those of devices end.
pub(super) struct Apart {
    slots: MapHandle,
    parts: MapHandle,
    epoch: MapHandle,
    changes: u64,
    first: u32,
    groups: BTreeMap<BdiName, Group>,
}

impl Apart {
    pub(super) fn new(slots: MapHandle, parts: MapHandle, epoch: MapHandle, first: u32) -> Apart {
        Apart { slots, parts, epoch, changes: 0, first, groups: BTreeMap::new() }
    }

    /// Name and slot of each group, number and slot of each of its parts.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&BdiName, u32, impl Iterator<Item = (u32, u32)>)> {
        self.groups.iter().map(|(name, g)| (name, g.slot, g.parts.iter().map(|(part, slot)| (part.number, *slot))))
    }

    /// Slots of the parts of a group that are not among these: what they counted would be missing from its sum.
    pub(super) fn dropped(&self, name: &BdiName, parts: &[Part]) -> Vec<u32> {
        let before = self.groups.get(name).map(|g| g.parts.as_slice()).unwrap_or_default();
        before.iter().filter(|(part, _)| !parts.contains(part)).map(|(_, slot)| *slot).collect()
    }

    /// Counts these files, and no others, under a name; none: the name is given up. A file that is in two groups counts for the
    /// later one. Of one file at most [`FILE_PARTS`] parts are counted.
    pub(super) fn set(
        &mut self,
        name: &BdiName,
        files: &[Inode],
        parts: &[Part],
        counters: &MapHandle,
    ) -> Result<(), SensorError> {
        let before = self.groups.remove(name).unwrap_or_default();
        for file in before.files.iter().filter(|file| !files.contains(file)) {
            // One that is gone already is as good.
            let _ = self.slots.delete(&key(file));
        }
        for file in &before.files {
            let _ = self.parts.delete(&key(file));
        }
        if !files.is_empty() {
            // Without a slot there is no group: it would count for whoever has slot 0.
            let slot = if before.files.is_empty() { self.claim(&[], counters)? } else { before.slot };
            let mut group = Group { slot, files: files.to_vec(), parts: before.parts };
            // A part keeps its slot while its number and pages are the same: its counters go on.
            group.parts.retain(|(part, _)| parts.contains(part));
            let done = self.fill(&mut group, parts, counters);
            self.groups.insert(name.clone(), group);
            done?;
        }
        // Streams that were met before look their slot up again.
        self.changes += 1;
        let (zero, word) = (0u32.to_ne_bytes(), self.changes.to_ne_bytes());
        self.epoch.update(&zero, &word, MapFlags::ANY).map_err(|e| failed("files counted apart", e))
    }

    fn fill(&mut self, group: &mut Group, parts: &[Part], counters: &MapHandle) -> Result<(), SensorError> {
        for part in parts {
            if !group.parts.iter().any(|(known, _)| known == part) {
                let taken: Vec<u32> = group.parts.iter().map(|(_, slot)| *slot).chain([group.slot]).collect();
                group.parts.push((*part, self.claim(&taken, counters)?));
            }
        }
        for file in &group.files {
            let mut own = group.parts.iter().filter(|(part, _)| part.file == *file).peekable();
            if own.peek().is_some() {
                self.parts.update(&key(file), &words(own), MapFlags::ANY).map_err(|e| failed("regions", e))?;
            }
            let slot = group.slot.to_ne_bytes();
            self.slots.update(&key(file), &slot, MapFlags::ANY).map_err(|e| failed("files counted apart", e))?;
        }
        Ok(())
    }

    /// A free slot, none of `taken`, with its counters at zero.
    fn claim(&self, taken: &[u32], counters: &MapHandle) -> Result<u32, SensorError> {
        let used = |slot: u32| self.groups.values().any(|g| g.slot == slot || g.parts.iter().any(|(_, s)| *s == slot));
        let free = (self.first..self.first + GROUPS).find(|slot| !taken.contains(slot) && !used(*slot));
        let slot = free.ok_or_else(|| SensorError::Bpf {
            what: "files counted apart",
            reason: format!("{GROUPS} workloads and regions are counted apart already"),
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

/// `struct ka_parts`.
fn words<'a>(parts: impl Iterator<Item = &'a (Part, u32)>) -> Vec<u8> {
    let mut words = [0u64; 1 + 3 * FILE_PARTS];
    for (n, (part, slot)) in parts.take(FILE_PARTS).enumerate() {
        words[0] += 1;
        words[1 + n] = part.first;
        words[1 + FILE_PARTS + n] = part.last;
        words[1 + 2 * FILE_PARTS + n] = u64::from(*slot);
    }
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
