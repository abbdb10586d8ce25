// SPDX-License-Identifier: MIT OR Apache-2.0
//! A full disk and a read-only one under the journal, as real file systems: the intent fails by name, so nothing is written.

use super::{FakeSys, device, open, run_info, tick};
use keepahead::cli::history::{self, Filter};
use keepahead::journal::Journal;
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
use std::path::Path;
use std::process::{Command, Stdio};

struct Tmpfs<'a>(&'a Path);

impl Tmpfs<'_> {
    /// `None`, with the reason printed, where this user may not mount.
    fn mount(at: &Path) -> Option<Tmpfs<'_>> {
        let is_mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(at));
        if !is_mounted {
            println!("skipped: a tmpfs cannot be mounted here (needs root)");
        }
        is_mounted.then_some(Tmpfs(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.0));
    }
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
fn on_a_full_disk_the_intent_fails_and_restoring_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path()) else { return };
    let outside = tempfile::tempdir().unwrap();
    let sys = FakeSys::new(outside.path(), &[device(0), device(1)]);
    let (mut journal, _) = open(disk.0);
    journal.intent(&device(0), Kib(128), Kib(512), SetReason::Trial).unwrap();
    sys.set(&device(0), 512);
    fill(disk.0);
    let e = (0..200)
        .find_map(|_| journal.intent(&device(1), Kib(128), Kib(512), SetReason::Trial).err())
        .expect("the disk is full and the intents go on");
    assert!(e.is_full(), "{e:?}");
    let told = e.to_string();
    assert!(told.contains("journal.sqlite") || told.contains("restore.json"), "{told}");
    assert!(told.contains("--state-dir"), "{told}");
    // The loop goes on: batches fail by name and are held back.
    let failed = (0..40).filter(|i| journal.input(&tick(i * 1000)).is_err()).count();
    assert!(failed <= 4, "retried {failed} times in 40 s");
    let (restored, _) = journal.restore(None, &sys.knobs());
    assert!(restored.iter().all(|r| r.outcome.release().is_some()), "{restored:?}");
    assert_eq!(sys.get(&device(0)), 128);
    drop(journal);
    assert!(!Journal::emergency_restore_file(disk.0).is_empty(), "the restore file was lost on the full disk");
}

fn fill(dir: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("ballast")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

#[test]
fn a_read_only_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path()) else { return };
    drop(open(disk.0));
    assert!(run(Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0)));
    let Err(e) = Journal::open(disk.0, run_info()) else { panic!("opened on a read-only disk") };
    let told = e.to_string();
    assert!(told.contains(&disk.0.display().to_string()) && told.contains("--state-dir"), "{told}");
    let mut out = Vec::new();
    history::run(disk.0, &Filter::default(), false, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("Nothing was tried yet"));
}
