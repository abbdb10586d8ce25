// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's hands: journal and actuator together. Each write is committed to the journal before it is done; where the journal
//! cannot take it, only a write that puts an old value back is done all the same.

use super::Plan;
use crate::actuator::ruled::withdraw;
use crate::actuator::{Actuate, Roots, SysfsActuator, discover, knob::Knob};
use crate::config::{Config, OnExit};
use crate::journal::recover::{Knobs, restore};
use crate::journal::{AllKnown, IntentId, Journal, JournalError, Outcome, Outstanding, Release, Restored, Retention, RunInfo};
use crate::sensor::Inode;
use keepahead_core::device::{BdiName, Device};
use keepahead_core::event::{Applied, Input, OpenFiles, Record, SetReason, What};
use keepahead_core::step::State;
use keepahead_core::units::Kib;
use keepahead_core::watched::Watched;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

pub struct Hands {
    journal: Journal,
    actuator: SysfsActuator,
    roots: Roots,
    on_exit: OnExit,
    /// The journal's last complaint, so that it is said once.
    said: Option<String>,
    /// Devices with open files that the bound of files a second left over, and their value.
    behind: BTreeMap<BdiName, Kib>,
    /// Devices left to somebody else in this boot.
    left: BTreeSet<BdiName>,
}

impl Hands {
    /// Opens journal and actuator and puts back what an earlier run left behind.
    pub fn open(plan: &Plan, roots: &Roots) -> anyhow::Result<Hands> {
        let info = run_info(&plan.config, roots);
        let mut actuator = open_actuator(&plan.config, roots);
        let opened = Journal::open(&plan.state_dir, info.clone());
        if opened.is_err() {
            // What an earlier run left behind does not wait for somebody who makes room on a full disk.
            let left = Journal::emergency_restore_file(&plan.state_dir);
            say_left(&restore(&left, &info.boot_id, &LiveKnobs::new(roots, Some(&mut actuator))));
        }
        let (journal, notices) = opened?;
        for notice in notices {
            eprintln!("keepahead: {notice}");
        }
        let on_exit = plan.config.agent.on_exit;
        let (behind, left) = (BTreeMap::new(), BTreeSet::new());
        let mut hands = Hands { journal, actuator, roots: roots.clone(), on_exit, said: None, behind, left };
        say_left(&hands.restore(None));
        hands.left = hands.journal.left_to_others()?;
        Ok(hands)
    }

    pub fn appeared(&mut self, device: &Device) {
        self.look_at_files(std::slice::from_ref(&device.bdi));
    }

    /// Whether this or an earlier run of this boot left the device to somebody: neither a restart nor another device behind the same knob is leave to take
    /// it back.
    pub fn is_left_to_others(&self, device: &Device) -> bool {
        self.left.contains(&device.bdi)
    }

    /// Learns what the open files carry, so that a later change tells their own advice from an old value.
    pub fn look_at_files(&mut self, bdis: &[BdiName]) {
        if let Err(e) = self.actuator.observe(bdis) {
            tracing::warn!("open files: {e}");
        }
    }

    /// The device, or the files that had a window, are gone. What bears the value may live on without the device (a loop device whose file went, a disk that
    /// became part of an array): then the original comes back.
    pub fn gone(&mut self, bdi: &BdiName) {
        self.behind.remove(bdi);
        let knob = Knob::new(&self.roots.sys);
        for left in self.journal.outstanding().into_iter().filter(|o| o.bdi == *bdi) {
            let lives_on = left.node.is_some() && knob.node(bdi) == left.node;
            if lives_on && knob.read(bdi).is_ok_and(|found| left.ours.contains(&found)) {
                self.restore(Some(&left.identity)).iter().for_each(|one| tracing::info!("{one}"));
            } else {
                let released = self.journal.released(&left.identity, Release::Gone);
                self.complain(released);
            }
        }
        self.actuator.forget(bdi);
    }

    /// Carries out one action and says what became of it.
    pub fn set(&mut self, device: &Device, from: Kib, to: Kib, why: SetReason) -> Input {
        let failed = |error: String| Input::Failed { now: super::now(), bdi: device.bdi.clone(), wanted: to, error };
        let promise = match self.promise(device, from, to, why) {
            Ok(promise) => promise,
            Err(e) => return failed(e),
        };
        // The original may be odd (2560, 15360 …): it was legal before us, in a trial's blocks as well as at its end.
        let done = match why {
            _ if to == device.original => self.actuator.restore(&device.bdi, from, to),
            SetReason::Revert => self.actuator.restore(&device.bdi, from, to),
            SetReason::Trial | SetReason::Reapply | SetReason::Pinned => self.actuator.set(&device.bdi, from, to),
        };
        let done = done.map_err(|e| e.to_string());
        if let Ok(applied) = &done {
            self.note_files(&device.bdi, applied.read_back, &applied.files);
        }
        self.settle(promise, done.as_ref().map_err(String::as_str));
        super::leave::panic_if_asked("first_write");
        done.map_or_else(failed, |applied| Input::Applied { now: super::now(), applied })
    }

    /// What earlier runs have learned.
    pub fn known(&mut self) -> AllKnown {
        self.journal.known().unwrap_or_else(|e| {
            tracing::warn!("what earlier runs have learned cannot be read, so it is learned again: {e}");
            AllKnown::new()
        })
    }

    /// Keeps what a verdict has taught.
    pub fn remember(&mut self, known: AllKnown) {
        let noted = self.journal.remember(&known);
        self.complain(noted);
    }

    /// What becomes of the values in the end.
    pub fn on_exit(&mut self, on_exit: OnExit) {
        self.on_exit = on_exit;
    }

    /// Declares a write; the journal has it when this returns. `None`: it could not take it, and the write is to be done all the same.
    pub fn promise(&mut self, device: &Device, from: Kib, to: Kib, why: SetReason) -> Result<Option<IntentId>, String> {
        match self.journal.intent(device, from, to, why) {
            Ok(id) => Ok(Some(id)),
            // The restore file already names the device, and what is there; putting the old value back needs no new promise.
            Err(e) if why == SetReason::Revert => {
                self.journal.undeclared(device, from, to);
                self.complain(Err(e));
                Ok(None)
            }
            Err(e) => Err(format!("not written, because it could not be journaled first: {e}")),
        }
    }

    /// What became of a promised write.
    pub fn settle(&mut self, promise: Option<IntentId>, done: Result<&Applied, &str>) {
        let Some(intent) = promise else { return };
        let noted = match done {
            Ok(applied) => self.journal.applied(intent, applied),
            Err(e) => self.journal.failed(intent, e),
        };
        self.complain(noted);
    }

    /// These files of a workload have a window of their own: a change of their device's value is not for them.
    pub fn leave_alone(&mut self, workload: &BdiName, files: &[Inode]) {
        self.actuator.leave_alone(workload, files);
    }

    fn note_files(&mut self, bdi: &BdiName, value: Kib, files: &OpenFiles) {
        self.behind.remove(bdi);
        if files.stale > 0 {
            self.behind.insert(bdi.clone(), value);
        }
    }

    /// Takes the present values to open files that were left over, as far as this second's bound goes.
    pub fn catch_up(&mut self) {
        for (bdi, value) in std::mem::take(&mut self.behind) {
            match self.actuator.refresh(&bdi, value) {
                // Nothing more could be reached: those that are left are out of reach, not late.
                Ok(files) if files.stale > 0 && files.refreshed > 0 => _ = self.behind.insert(bdi, value),
                Ok(_) => {}
                Err(e) => tracing::warn!("open files: {e}"),
            }
        }
    }

    pub fn note_input(&mut self, state: &State, input: &Input) {
        if self.journal.checkpoint_due() {
            match serde_json::to_string(state) {
                Ok(json) => {
                    let noted = self.journal.checkpoint(&json);
                    self.complain(noted);
                }
                Err(e) => tracing::warn!("no checkpoint for replay: {e}"),
            }
        }
        let noted = self.journal.input(input);
        self.complain(noted);
    }

    /// Keeps the records of one step, after which `state` is. A device that is somebody else's now is no longer ours to restore, nor is one whose
    /// original the kernel has made anew.
    pub fn note_records(&mut self, state: &State, records: &[Record]) {
        let noted = self.journal.record(records);
        self.complain(noted);
        for record in records {
            let raised = |found| state.devices().any(|d| d.device.bdi == record.bdi && d.device.original == found);
            let how = match record.what {
                What::HandsOff { .. } => {
                    self.left.insert(record.bdi.clone());
                    Release::HandsOff
                }
                What::TakenBack { .. } | What::Pinned { .. } => {
                    self.left.remove(&record.bdi);
                    continue;
                }
                What::KernelRaised { found, .. } if raised(found) => Release::KernelRaised,
                _ => continue,
            };
            for left in self.journal.outstanding().into_iter().filter(|o| o.bdi == record.bdi) {
                let released = self.journal.released(&left.identity, how);
                self.complain(released);
            }
        }
    }

    /// Puts the originals back, or leaves on purpose the values that may stay.
    pub fn leave(mut self, state: &State) -> Vec<Restored> {
        let (mut done, knob) = (Vec::new(), Knob::new(&self.roots.sys));
        if self.on_exit == OnExit::Keep {
            for left in self.journal.outstanding().into_iter().filter(|o| may_stay(&knob, state, o)) {
                let released = self.journal.released(&left.identity, Release::KeptOnExit);
                self.complain(released);
                let Outstanding { identity, label, last_written: from, original: to, .. } = left;
                done.push(Restored { identity, label, from, to, outcome: Outcome::Kept });
            }
        }
        done.extend(self.restore(None));
        if let Err(e) = self.journal.close() {
            tracing::error!("{e}");
        }
        done
    }

    fn restore(&mut self, only: Option<&str>) -> Vec<Restored> {
        let knobs = LiveKnobs::new(&self.roots, Some(&mut self.actuator));
        let (restored, noted) = self.journal.restore(only, &knobs);
        drop(knobs);
        self.complain(noted);
        restored
    }

    fn complain(&mut self, noted: Result<(), JournalError>) {
        let said = noted.err().map(|e| e.to_string());
        if let Some(text) = said.as_ref().filter(|text| self.said.as_ref() != Some(text)) {
            tracing::error!("{text}");
        }
        self.said = said;
    }
}

/// Whether a device reads what a trial has proven there, or a person has pinned: a trial's last write back may have failed.
fn may_stay(knob: &Knob, state: &State, left: &Outstanding) -> bool {
    let chosen = state.devices().find(|d| d.device.identity == left.identity).and_then(Watched::chosen);
    !left.is_of_open_files() && chosen.is_some() && knob.read(&left.bdi).ok() == chosen
}

fn say_left(restored: &[Restored]) {
    for one in restored {
        eprintln!("keepahead: left behind by an earlier run: {one}");
    }
}

/// What the journal wants to know of this run.
pub fn run_info(config: &Config, roots: &Roots) -> RunInfo {
    let settings = serde_json::to_string(&config.settings).unwrap_or_default();
    let retention = Retention { inputs_mib: config.journal.inputs_mib, days: config.journal.records_days };
    RunInfo::here(&roots.proc, settings, retention)
}

/// The knobs of this machine, and where BPF and rights allow, its open files.
#[cfg(feature = "ebpf")]
pub fn open_actuator(config: &Config, roots: &Roots) -> SysfsActuator {
    use crate::actuator::openfiles::OpenFilesActuator;
    let (knob, files) = (Knob::new(&roots.sys), &config.open_files);
    if !files.enabled {
        return SysfsActuator::new(knob);
    }
    match OpenFilesActuator::new(files.rules(), files.files_per_second, &roots.proc) {
        Ok(reach) => SysfsActuator::with_open_files(knob, reach),
        Err(e) => {
            eprintln!("keepahead: files that are already open will keep their old value: {e}");
            SysfsActuator::new(knob)
        }
    }
}

#[cfg(not(feature = "ebpf"))]
pub fn open_actuator(_: &Config, roots: &Roots) -> SysfsActuator {
    SysfsActuator::new(Knob::new(&roots.sys))
}

/// The knobs of this machine, found by identity (a device may have another number than it had). With an actuator, open files get
/// the restored value as well.
pub struct LiveKnobs<'a> {
    knob: Knob,
    proc: PathBuf,
    devices: Vec<Device>,
    actuator: Option<RefCell<&'a mut SysfsActuator>>,
}

impl<'a> LiveKnobs<'a> {
    pub fn new(roots: &Roots, actuator: Option<&'a mut SysfsActuator>) -> LiveKnobs<'a> {
        let devices = discover(roots).map(|found| found.tunable).unwrap_or_else(|e| {
            tracing::warn!("devices could not be listed, so they are found by the name they had: {e}");
            Vec::new()
        });
        let (knob, proc) = (Knob::new(&roots.sys), roots.proc.clone());
        LiveKnobs { knob, proc, devices, actuator: actuator.map(RefCell::new) }
    }
}

impl Knobs for LiveKnobs<'_> {
    fn node(&self, bdi: &BdiName) -> Option<u64> {
        self.knob.node(bdi)
    }

    fn find(&self, identity: &str, last: &BdiName) -> Option<BdiName> {
        match self.devices.iter().find(|d| d.identity == identity) {
            Some(device) => Some(device.bdi.clone()),
            None if self.devices.is_empty() => Path::exists(&self.knob.path(last)).then(|| last.clone()),
            None => None,
        }
    }

    fn read(&self, bdi: &BdiName) -> io::Result<Kib> {
        self.knob.read(bdi).map_err(io::Error::other)
    }

    fn write(&self, bdi: &BdiName, value: Kib) -> io::Result<()> {
        let found = self.read(bdi)?;
        match &self.actuator {
            Some(actuator) => actuator.borrow_mut().restore(bdi, found, value).map(|_| ()),
            None => self.knob.restore(bdi, found, value).map(|_| ()),
        }
        .map_err(io::Error::other)
    }

    fn withdraw(&self, left: &Outstanding) -> io::Result<usize> {
        let on = BdiName(left.bdi.0.split('/').next().unwrap_or_default().to_owned());
        let whose = super::windows::bearer(&left.identity);
        let whose = whose.ok_or_else(|| io::Error::other(format!("{:?} names neither a process nor a rule", left.identity)))?;
        withdraw(&on, &whose, &left.ours, &self.proc).map_err(io::Error::other)
    }
}
