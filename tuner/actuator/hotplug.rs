// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that come and go while keepahead runs. Once a tick it compares a cheap fingerprint (names of bdis, sizes and backing
//! files of block devices, the mount table); only where that changed the machine is discovered anew.
//!
//! Netlink uevents would tell sooner, but not of mounts, and not in a network namespace other than the first.

use super::descend::{listing, word};
use super::discover::{Discovery, Roots, discover};
use super::error::ActuatorError;
use super::knob::Knob;
use keepahead_core::device::{BdiName, Device};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// What changed since the last look.
#[derive(Clone, Debug, Default)]
pub struct Plugged {
    pub appeared: Vec<Device>,
    pub gone: Vec<BdiName>,
}

pub struct Hotplug {
    roots: Roots,
    fingerprint: u64,
    present: Discovery,
}

impl Hotplug {
    /// The devices that are there now are [`Hotplug::present`]; later calls of [`Hotplug::poll`] tell what changed.
    pub fn new(roots: Roots) -> Result<Hotplug, ActuatorError> {
        let fingerprint = fingerprint(&roots);
        let present = discover(&roots)?;
        Ok(Hotplug { roots, fingerprint, present })
    }

    pub fn present(&self) -> &Discovery {
        &self.present
    }

    /// Tells what changed. A bdi name that now stands for another device (a loop with a new file, a volume that was deactivated and activated) is
    /// gone and appeared.
    pub fn poll(&mut self) -> Result<Plugged, ActuatorError> {
        let fingerprint = fingerprint(&self.roots);
        if fingerprint == self.fingerprint {
            return Ok(Plugged::default());
        }
        let now = discover(&self.roots)?;
        let same = |a: &Device, b: &Device| (&a.bdi, a.node, &a.identity) == (&b.bdi, b.node, &b.identity);
        let missing_in = |list: &[Device], device: &Device| !list.iter().any(|other| same(other, device));
        let before = &self.present.tunable;
        let plugged = Plugged {
            appeared: now.tunable.iter().filter(|device| missing_in(before, device)).cloned().collect(),
            gone: before.iter().filter(|device| missing_in(&now.tunable, device)).map(|device| device.bdi.clone()).collect(),
        };
        self.fingerprint = fingerprint;
        self.present = now;
        Ok(plugged)
    }
}

fn fingerprint(roots: &Roots) -> u64 {
    let mut hasher = DefaultHasher::new();
    let knob = Knob::new(&roots.sys);
    for bdi in listing(&roots.sys.join("class/bdi")).unwrap_or_default() {
        (knob.node(&BdiName(bdi.clone())), bdi).hash(&mut hasher);
    }
    for disk in listing(&roots.sys.join("block")).unwrap_or_default() {
        let dir = roots.sys.join("block").join(&disk);
        (word(&dir.join("size")), word(&dir.join("loop/backing_file")), disk).hash(&mut hasher);
    }
    std::fs::read(roots.proc.join("self/mountinfo")).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
