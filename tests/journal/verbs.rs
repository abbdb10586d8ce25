// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead restore` and the rules of restoring: only what is still ours, by identity, never across a boot, not beside an agent.

use super::{FakeSys, applied, device, open, run_info};
use keepahead::cli::restore;
use keepahead::journal::recover::{self, FoundKnobs};
use keepahead::journal::{AgentLock, Journal, Release};
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
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
    restore::run(&dir.join("state"), only, run_info(), &sys.knobs(), &mut out)?;
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

#[test]
fn follows_the_identity_when_numbers_change() {
    let dir = tempfile::tempdir().unwrap();
    let sys = left_behind(dir.path());
    // The first device now has the number of the second; a stranger has the first one's.
    let swap = |identity: &str, _: &_| (identity == device(0).identity).then(|| device(1).bdi);
    sys.set(&device(0), 512);
    let knobs = FoundKnobs { knobs: sys.knobs(), finder: &swap };
    let (mut journal, _) = open(&dir.path().join("state"));
    journal.restore(None, &knobs).1.unwrap();
    assert_eq!((sys.get(&device(0)), sys.get(&device(1))), (512, 128));
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
    struct ReadOnly(recover::BdiKnobs);
    impl recover::Knobs for ReadOnly {
        fn find(&self, i: &str, b: &keepahead_core::device::BdiName) -> Option<keepahead_core::device::BdiName> {
            self.0.find(i, b)
        }
        fn read(&self, b: &keepahead_core::device::BdiName) -> std::io::Result<Kib> {
            self.0.read(b)
        }
        fn write(&self, _: &keepahead_core::device::BdiName, _: Kib) -> std::io::Result<()> {
            Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
        }
    }
    let mut out = Vec::new();
    let state = dir.path().join("state");
    let e = restore::run(&state, None, run_info(), &ReadOnly(sys.knobs()), &mut out).unwrap_err();
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
