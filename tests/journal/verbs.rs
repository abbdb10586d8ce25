// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead restore` and the rules of restoring: only what is still ours, by identity, never across a boot, not beside an agent.

use super::{BOOT, FakeSys, applied, device, open, run_info};
use keepahead::cli::{Format, restore};
use keepahead::journal::recover::{self, Knobs as _};
use keepahead::journal::{AgentLock, Journal, Outcome, Outstanding, Release};
use keepahead_core::device::{BdiName, Device};
use keepahead_core::event::{Record, SetReason, What};
use keepahead_core::units::{Kib, Nanos};
use std::io;
use std::path::Path;

/// An agent that left 512 on two devices.
fn left_behind(dir: &Path) -> FakeSys {
    let sys = FakeSys::new(&dir.join("sys"), &[device(0), device(1)]);
    let (mut journal, _) = open(&dir.join("state"));
    for n in 0..2 {
        let id = journal.intent(&device(n), Kib(128), Kib(512), SetReason::Trial).unwrap();
        sys.set(&device(n), 512);
        journal.applied(id, &applied(&device(n), 128, 512)).unwrap();
    }
    sys
}

fn told(dir: &Path, only: Option<&str>, sys: &FakeSys) -> Result<String, restore::RestoreError> {
    let mut out = Vec::new();
    restore::run(&dir.join("state"), only, run_info(), &sys.knobs(), Format::Text, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn restores_one_then_the_others_then_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    assert_eq!(told(dir.path(), Some("nvme1n1"), &sys).unwrap(), "nvme1n1: restored 512 KiB → 128 KiB\n");
    assert_eq!((sys.get(&device(0)), sys.get(&device(1))), (512, 128));
    assert_eq!(told(dir.path(), None, &sys).unwrap(), "nvme0n1: restored 512 KiB → 128 KiB\n");
    assert!(told(dir.path(), None, &sys).unwrap().starts_with("Nothing to restore"));
    assert!(told(dir.path(), Some("sda"), &sys).unwrap_err().to_string().contains("sda"));
}

#[test]
fn refuses_beside_a_running_agent_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let _agent = AgentLock::take(&Journal::lock_path(&dir.path().join("state"))).unwrap();
    let e = told(dir.path(), None, &sys).unwrap_err().to_string();
    assert!(e.contains(&std::process::id().to_string()), "{e}");
    assert_eq!(sys.get(&device(0)), 512);
}

#[test]
fn leaves_the_value_of_somebody_else_and_a_device_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    sys.set(&device(0), 2048);
    sys.remove(&device(1));
    let said = told(dir.path(), None, &sys).unwrap();
    assert!(said.contains("nvme0n1: left at 2048 KiB") && said.contains("nvme1n1: the device is gone"), "{said}");
    assert_eq!(sys.get(&device(0)), 2048);
    assert!(told(dir.path(), None, &sys).unwrap().starts_with("Nothing to restore"));
}

/// Knobs of a fake `/sys`, but for what a test says of them.
struct Knobs<'a> {
    real: recover::BdiKnobs,
    find: &'a dyn Fn(&str) -> Option<BdiName>,
    writable: bool,
    /// How many files had a window.
    withdrawn: Option<usize>,
}

impl recover::Knobs for Knobs<'_> {
    fn node(&self, bdi: &BdiName) -> Option<u64> {
        self.real.node(bdi)
    }
    fn find(&self, identity: &str, _: &BdiName) -> Option<BdiName> {
        (self.find)(identity)
    }
    fn read(&self, bdi: &BdiName) -> io::Result<Kib> {
        self.real.read(bdi)
    }
    fn write(&self, bdi: &BdiName, value: Kib) -> io::Result<()> {
        if self.writable { self.real.write(bdi, value) } else { Err(io::ErrorKind::ReadOnlyFilesystem.into()) }
    }
    fn withdraw(&self, left: &Outstanding) -> io::Result<usize> {
        assert_eq!(left.ours, [Kib(4)]);
        self.withdrawn.ok_or_else(|| io::Error::other("listing open files: not permitted"))
    }
}

fn nowhere(_: &str) -> Option<BdiName> {
    None
}

impl<'a> Knobs<'a> {
    fn over(sys: &FakeSys, find: &'a dyn Fn(&str) -> Option<BdiName>) -> Knobs<'a> {
        Knobs { real: sys.knobs(), find, writable: true, withdrawn: None }
    }
}

/// As versions wrote that did not note which bdi it was.
#[test]
fn without_a_node_follows_the_identity_when_numbers_change() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    // The first device now has the number of the second; a stranger has the first one's.
    let swap = |identity: &str| (identity == device(0).identity).then(|| device(1).bdi);
    sys.set(&device(0), 512);
    let (mut journal, _) = open(&dir.path().join("state"));
    journal.restore(None, &Knobs::over(&sys, &swap)).1.unwrap();
    assert_eq!((sys.get(&device(0)), sys.get(&device(1))), (512, 128));
}

/// A device as discovery finds it now.
fn found(sys: &FakeSys, n: u32) -> Device {
    Device { node: sys.knobs().node(&device(n).bdi), ..device(n) }
}

fn write(journal: &mut Journal, sys: &FakeSys, device: &Device, from: u32, to: u32) {
    let id = journal.intent(device, Kib(from), Kib(to), SetReason::Trial).unwrap();
    sys.set(device, to);
    journal.applied(id, &applied(device, from, to)).unwrap();
}

/// One device, and a journal that knows of nothing yet. The folder goes with the first.
fn one() -> (tempfile::TempDir, FakeSys, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let sys = FakeSys::new(&dir.path().join("sys"), &[device(0)]);
    let (journal, _) = open(&dir.path().join("state"));
    (dir, sys, journal)
}

/// A loop device whose file has gone keeps its value, and the next one that is attached to it would begin with it.
#[test]
fn a_bdi_that_lives_on_without_its_device_gets_its_value_back() {
    let (_dir, sys, mut journal) = one();
    write(&mut journal, &sys, &found(&sys, 0), 128, 512);
    let (restored, noted) = journal.restore(None, &Knobs::over(&sys, &nowhere));
    noted.unwrap();
    assert_eq!((restored[0].outcome.clone(), sys.get(&device(0))), (Outcome::Restored, 128));
}

/// What it reads is its own, even where that is what the one before it was given.
#[test]
fn a_bdi_made_anew_under_the_same_name_is_not_touched_and_begins_from_its_own_value() {
    let (_dir, sys, mut journal) = one();
    write(&mut journal, &sys, &found(&sys, 0), 4096, 128);
    // Beside the old folder: a file system may give its number again once that is free.
    std::fs::rename(sys.root.join("class"), sys.root.join("before")).unwrap();
    let sys = FakeSys::new(&sys.root, &[device(0)]);
    let here = |_: &str| Some(device(0).bdi);
    let said = recover::restore(&journal.outstanding(), BOOT, &Knobs::over(&sys, &here));
    assert_eq!((said[0].outcome.clone(), sys.get(&device(0))), (Outcome::DeviceGone, 128));
    write(&mut journal, &sys, &found(&sys, 0), 128, 512);
    journal.restore(None, &Knobs::over(&sys, &here)).1.unwrap();
    assert_eq!(sys.get(&device(0)), 128, "not 4096, which was another bdi's");
}

/// It is the original from then on, though what was there before the first of our writes is still noted.
#[test]
fn what_somebody_else_wrote_between_two_writes_comes_back() {
    let (_dir, sys, mut journal) = one();
    write(&mut journal, &sys, &found(&sys, 0), 128, 512);
    let theirs = Device { original: Kib(2048), ..found(&sys, 0) };
    sys.set(&device(0), 2048);
    write(&mut journal, &sys, &theirs, 2048, 1024);
    journal.restore(None, &Knobs::over(&sys, &nowhere)).1.unwrap();
    assert_eq!(sys.get(&device(0)), 2048);
}

#[test]
fn a_write_back_that_could_not_be_declared_is_still_known_to_be_ours() {
    let (dir, sys, mut journal) = one();
    write(&mut journal, &sys, &found(&sys, 0), 128, 512);
    write(&mut journal, &sys, &found(&sys, 0), 512, 1024);
    // The disk under the journal is full: the trial's value gives way to the kept one all the same.
    journal.undeclared(&found(&sys, 0), Kib(1024), Kib(512));
    sys.set(&device(0), 512);
    // There is room again, and then the agent is killed.
    journal.flush().unwrap();
    drop(journal);
    let (mut journal, _) = open(&dir.path().join("state"));
    journal.restore(None, &Knobs::over(&sys, &nowhere)).1.unwrap();
    assert_eq!(sys.get(&device(0)), 128);
}

#[test]
fn windows_of_open_files_stay_noted_until_they_are_taken_back() {
    let (dir, sys, mut journal) = one();
    let bdi = BdiName("259:0/1".into());
    let files = Device { bdi, label: "db on nvme0n1".into(), identity: "open-files:4711:1".into(), ..device(0) };
    let id = journal.intent(&files, Kib(128), Kib(4), SetReason::Trial).unwrap();
    journal.applied(id, &applied(&files, 128, 4)).unwrap();
    let told = |withdrawn| {
        let mut out = Vec::new();
        let knobs = Knobs { withdrawn, ..Knobs::over(&sys, &nowhere) };
        let done = restore::run(&dir.path().join("state"), None, run_info(), &knobs, Format::Json, &mut out);
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (done.is_ok(), lines)
    };
    drop(journal);
    let (done, said) = told(None);
    assert!(!done && said[0]["outcome"] == "failed" && said[0]["error"].to_string().contains("not permitted"), "{said:?}");
    let (done, said) = told(Some(3));
    assert!(done && said[0]["outcome"] == "withdrawn" && said[0]["files"] == 3, "{said:?}");
    let (done, said) = told(Some(3));
    assert!(done && said[0]["text"].to_string().contains("Nothing to restore"), "{said:?}");
}

/// Nobody saw it being written: it is found out when the value is to be put back, and is a person's all the same.
#[test]
fn what_somebody_wrote_while_no_agent_ran_is_left_to_him_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    sys.set(&device(0), 64);
    told(dir.path(), None, &sys).unwrap();
    let left = || open(&dir.path().join("state")).0.left_to_others().unwrap();
    assert_eq!(left(), [device(0).bdi].into());
    let (mut journal, _) = open(&dir.path().join("state"));
    let taken = Record { at: Nanos(1), bdi: device(0).bdi, label: "nvme0n1".into(), what: What::TakenBack { value: Kib(64) } };
    journal.record(&[taken]).unwrap();
    journal.close().unwrap();
    assert_eq!(left(), [].into());
}

#[test]
fn nothing_known_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    for file in ["journal.sqlite", "journal.sqlite-wal", "restore.json"] {
        std::fs::write(dir.path().join("state").join(file), "torn").unwrap();
    }
    let e = told(dir.path(), None, &sys).unwrap_err();
    assert!(matches!(e, restore::RestoreError::NothingKnown), "{e}");
}

#[test]
fn another_boot_made_the_value_anew() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let mut info = run_info();
    info.boot_id = "another boot".into();
    let (mut journal, _) = Journal::open(&dir.path().join("state"), info).unwrap();
    let (restored, _) = journal.restore(None, &sys.knobs());
    assert!(restored[0].to_string().contains("booted since"), "{}", restored[0]);
    assert_eq!(sys.get(&device(0)), 512);
    assert!(journal.outstanding().is_empty());
}

#[test]
fn a_refused_write_stays_noted() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let here = |identity: &str| (0..2).map(device).find(|d| d.identity == identity).map(|d| d.bdi);
    let read_only = Knobs { writable: false, ..Knobs::over(&sys, &here) };
    let mut out = Vec::new();
    let state = dir.path().join("state");
    let e = restore::run(&state, None, run_info(), &read_only, Format::Text, &mut out).unwrap_err();
    assert!(e.to_string().contains("2 of 2 devices"), "{e}");
    told(dir.path(), None, &sys).unwrap();
    assert_eq!(sys.get(&device(0)), 128);
}

#[test]
fn a_panic_hook_restores_without_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let restored = recover::emergency(&dir.path().join("state"), &sys.root, super::BOOT);
    assert_eq!(restored.len(), 2);
    assert_eq!((sys.get(&device(0)), sys.get(&device(1))), (128, 128));
}

#[test]
fn a_released_device_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let (mut journal, _) = open(&dir.path().join("state"));
    journal.released(&device(0).identity, Release::KeptOnExit).unwrap();
    journal.released("wwid:never seen", Release::Gone).unwrap();
    journal.close().unwrap();
    told(dir.path(), None, &sys).unwrap();
    assert_eq!((sys.get(&device(0)), sys.get(&device(1))), (512, 128));
}

/// Told as long as it is there; what was there before the first of two runs is what a person may want back.
#[test]
fn what_was_kept_on_purpose_is_told_with_the_way_back() {
    let (dir, sys, mut journal) = one();
    write(&mut journal, &sys, &device(0), 128, 512);
    journal.released(&device(0).identity, Release::KeptOnExit).unwrap();
    journal.close().unwrap();
    let said = told(dir.path(), None, &sys).unwrap();
    let kept = |value: u32| {
        format!(
            "nvme0n1: kept on purpose at {value} KiB by `on_exit = \"keep\"`; write 128 KiB back by hand: \
             echo 128 > /sys/class/bdi/259:0/read_ahead_kb\n"
        )
    };
    assert_eq!(said, kept(512) + "Nothing to restore: no device has a value of keepahead's but what was kept on purpose.\n");
    assert!(told(dir.path(), Some("nvme0n1"), &sys).unwrap().starts_with(&kept(512)));
    assert!(told(dir.path(), Some("sda"), &sys).is_err());
    let (mut journal, _) = open(&dir.path().join("state"));
    write(&mut journal, &sys, &Device { original: Kib(512), ..device(0) }, 512, 1024);
    journal.released(&device(0).identity, Release::KeptOnExit).unwrap();
    journal.close().unwrap();
    assert!(told(dir.path(), None, &sys).unwrap().starts_with(&kept(1024)));
    sys.set(&device(0), 64);
    let said = told(dir.path(), None, &sys).unwrap();
    assert_eq!(said, "Nothing to restore: no device has a value of keepahead's.\n");
    assert!(!dir.path().join("state/journal.sqlite-wal").exists(), "a look leaves nothing behind");
}

/// It cannot know, and must not begin a record that the next one would believe.
#[test]
fn no_record_is_no_success_and_stays_none() {
    let dir = tempfile::tempdir().unwrap();
    let sys = FakeSys::new(&dir.path().join("sys"), &[device(0)]);
    for _ in 0..2 {
        let e = told(dir.path(), None, &sys).unwrap_err();
        assert!(matches!(e, restore::RestoreError::NoRecord(_)) && e.to_string().contains("--state-dir"), "{e}");
    }
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(dir.path().join("state/journal.sqlite"), "").unwrap();
    assert!(told(dir.path(), None, &sys).is_err());
    assert_eq!(std::fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
}

#[test]
fn restoring_from_a_newer_journal_uses_the_restore_file() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    let path = Journal::path(&dir.path().join("state"));
    rusqlite::Connection::open(path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let said = told(dir.path(), None, &sys).unwrap();
    assert!(said.contains("format 9") && said.contains("nvme0n1: restored"), "{said}");
    assert_eq!(sys.get(&device(0)), 128);
}

#[test]
fn the_state_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir.path().join("a/state")));
    assert_eq!(std::fs::metadata(dir.path().join("a/state")).unwrap().permissions().mode() & 0o777, 0o700);
}
