// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same rules on the kernel's own knob: a loop device is written, its journal abandoned as by a kill, and the value comes back.

use super::{device, open, run_info};
use keepahead::cli::{Format, restore};
use keepahead::journal::Journal;
use keepahead::journal::recover::{BdiKnobs, Knobs};
use keepahead_core::device::{BdiName, Device};
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
use std::path::Path;
use std::process::Command;

struct Loop(String);

impl Loop {
    fn attach(dir: &Path) -> Result<Loop, String> {
        let image = dir.join("image");
        std::fs::File::create(&image).and_then(|f| f.set_len(1 << 20)).map_err(|e| e.to_string())?;
        let out = Command::new("losetup").args(["-f", "--show"]).arg(&image).output().map_err(|e| e.to_string())?;
        match out.status.success() {
            true => Ok(Loop(String::from_utf8_lossy(&out.stdout).trim().into())),
            false => Err(String::from_utf8_lossy(&out.stderr).trim().into()),
        }
    }

    fn device(&self, knobs: &BdiKnobs) -> Device {
        let label = self.0.trim_start_matches("/dev/").to_string();
        let bdi = BdiName(std::fs::read_to_string(format!("/sys/block/{label}/dev")).unwrap().trim().into());
        let original = knobs.read(&bdi).unwrap();
        Device { bdi, label, original, ..device(0) }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn a_loop_device_gets_its_value_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = match Loop::attach(dir.path()) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: no loop device: {why}"),
    };
    let knobs = BdiKnobs { sys: "/sys".into() };
    let device = disk.device(&knobs);
    let state = dir.path().join("state");
    let (mut journal, _) = open(&state);
    journal.intent(&device, device.original, Kib(64), SetReason::Trial).unwrap();
    knobs.write(&device.bdi, Kib(64)).unwrap();
    drop(journal);
    let mut out = Vec::new();
    restore::run(&state, Some(&device.label), run_info(), &knobs, Format::Text, &mut out).unwrap();
    assert_eq!(knobs.read(&device.bdi).unwrap(), device.original, "{}", String::from_utf8_lossy(&out));

    let (mut journal, _) = open(&state);
    journal.intent(&device, device.original, Kib(64), SetReason::Trial).unwrap();
    knobs.write(&device.bdi, Kib(256)).unwrap();
    drop(journal);
    restore::run(&state, None, run_info(), &knobs, Format::Text, &mut out).unwrap();
    assert_eq!(knobs.read(&device.bdi).unwrap(), Kib(256), "somebody else's value was touched");
    assert!(Journal::emergency_restore_file(&state).is_empty());
}
