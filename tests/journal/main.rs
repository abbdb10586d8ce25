// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal and its verbs against what happens to files and processes in the field: `kill -9`, torn and flipped bytes, a full or
//! read-only disk, readers at work. Knobs are files of a fake `/sys`; the disks that fill up are real.

mod crash;
mod damage;
mod full;
mod known;
mod real;
mod replay;
mod retention;
mod story;
mod verbs;

use keepahead::journal::recover::BdiKnobs;
use keepahead::journal::{Journal, Notice, Retention, RunInfo};
use keepahead_core::device::{BdiName, Device, DeviceKind, QueueLimits};
use keepahead_core::event::{Applied, Input, Machine, OpenFiles, Tick};
use keepahead_core::units::{Kib, Nanos};
use std::path::{Path, PathBuf};

pub const BOOT: &str = "7d1c6b1e-boot";

pub fn run_info() -> RunInfo {
    RunInfo {
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        boot_id: BOOT.into(),
        pid: std::process::id(),
        settings: "{}".into(),
        retention: Retention::default(),
    }
}

pub fn open(dir: &Path) -> (Journal, Vec<Notice>) {
    Journal::open(dir, run_info()).unwrap()
}

pub fn device(n: u32) -> Device {
    Device {
        bdi: BdiName(format!("259:{n}")),
        node: None,
        label: format!("nvme{n}n1"),
        kind: DeviceKind::Disk,
        identity: format!("wwid:eui.{n:016}"),
        disks: vec![format!("nvme{n}n1")],
        original: Kib(128),
        limits: QueueLimits::default(),
    }
}

pub fn applied(device: &Device, old: u32, new: u32) -> Applied {
    Applied { bdi: device.bdi.clone(), old: Kib(old), wanted: Kib(new), read_back: Kib(new), files: OpenFiles::default() }
}

pub fn tick(ms: u64) -> Input {
    Input::Tick(Tick { now: Nanos::from_millis(ms), machine: Machine::default(), devices: Vec::new() })
}

/// A fake `/sys` with one knob for each device.
pub struct FakeSys {
    pub root: PathBuf,
}

impl FakeSys {
    pub fn new(root: &Path, devices: &[Device]) -> FakeSys {
        let sys = FakeSys { root: root.into() };
        for d in devices {
            std::fs::create_dir_all(sys.knob(d).parent().unwrap()).unwrap();
            sys.set(d, d.original.0);
        }
        sys
    }

    fn knob(&self, device: &Device) -> PathBuf {
        self.root.join("class/bdi").join(&device.bdi.0).join("read_ahead_kb")
    }

    /// In one go, as the kernel does it: a kill must not leave an empty knob.
    pub fn set(&self, device: &Device, value: u32) {
        let new = self.root.join(format!("new-{}", std::process::id()));
        std::fs::write(&new, value.to_string()).unwrap();
        std::fs::rename(new, self.knob(device)).unwrap();
    }

    pub fn get(&self, device: &Device) -> u32 {
        std::fs::read_to_string(self.knob(device)).unwrap().trim().parse().unwrap()
    }

    pub fn remove(&self, device: &Device) {
        std::fs::remove_dir_all(self.knob(device).parent().unwrap()).unwrap();
    }

    pub fn knobs(&self) -> BdiKnobs {
        BdiKnobs { sys: self.root.clone() }
    }
}
