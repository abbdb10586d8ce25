// SPDX-License-Identifier: MIT OR Apache-2.0
//! A child process journals, writes knobs and is killed with SIGKILL: after each single step, and at random moments. Whatever it had
//! done, the next start puts the original back, and never touches a value that somebody else wrote.

use super::{FakeSys, applied, device, open, tick};
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const STEPS: u32 = 14;

/// Not a test of its own: the body of the child.
#[test]
fn crash_child() {
    let Ok(dir) = std::env::var("KEEPAHEAD_TEST_CRASH_DIR") else { return };
    let at: u32 = std::env::var("KEEPAHEAD_TEST_CRASH_AT").unwrap().parse().unwrap();
    agent(Path::new(&dir), at);
}

fn agent(dir: &Path, crash_at: u32) {
    let mut done = 0;
    let mut step = || {
        done += 1;
        if done == crash_at {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    };
    let d = device(0);
    let sys = FakeSys { root: dir.join("sys") };
    let (mut journal, _) = open(&dir.join("state"));
    step();
    for round in 0.. {
        let (from, to) = [(128, 1024), (1024, 128), (128, 512)][round % 3];
        let from = if round % 3 == 0 && round > 0 { 512 } else { from };
        journal.input(&tick(round as u64 * 500)).unwrap();
        step();
        let id = journal.intent(&d, Kib(from), Kib(to), SetReason::Trial).unwrap();
        step();
        sys.set(&d, to);
        step();
        journal.applied(id, &applied(&d, from, to)).unwrap();
        step();
        if round == 2 {
            step();
        }
    }
}

fn spawn(dir: &Path, at: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::crash_child", "--nocapture"])
        .env("KEEPAHEAD_TEST_CRASH_DIR", dir)
        .env("KEEPAHEAD_TEST_CRASH_AT", at.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn recover(dir: &Path) -> FakeSys {
    let sys = FakeSys { root: dir.join("sys") };
    let (mut journal, notices) = open(&dir.join("state"));
    assert!(!notices.iter().any(|n| n.to_string().contains("unusable")), "{notices:?}");
    let (restored, noted) = journal.restore(None, &sys.knobs());
    noted.unwrap();
    assert!(restored.iter().all(|r| r.outcome.release().is_some()), "{restored:?}");
    assert!(journal.outstanding().is_empty());
    sys
}

#[test]
fn killed_after_each_step_the_original_comes_back() {
    for at in 1..=STEPS {
        let dir = tempfile::tempdir().unwrap();
        let sys = FakeSys::new(&dir.path().join("sys"), &[device(0)]);
        let status = spawn(dir.path(), at).wait().unwrap();
        assert_eq!(status.signal(), Some(9), "step {at}");
        recover(dir.path());
        assert_eq!(sys.get(&device(0)), 128, "step {at}");
    }
}

#[test]
fn killed_at_random_moments_the_original_comes_back() {
    for round in 0..12_u64 {
        let dir = tempfile::tempdir().unwrap();
        let sys = FakeSys::new(&dir.path().join("sys"), &[device(0)]);
        let mut child = spawn(dir.path(), 0);
        std::thread::sleep(Duration::from_micros(20_000 + round * 13_337));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = sys.get(&device(0));
        recover(dir.path());
        assert_eq!(sys.get(&device(0)), 128, "round {round}, left at {left}");
    }
}

#[test]
fn a_value_written_by_somebody_else_after_the_crash_stays() {
    let dir = tempfile::tempdir().unwrap();
    let sys = FakeSys::new(&dir.path().join("sys"), &[device(0)]);
    spawn(dir.path(), 5).wait().unwrap();
    assert_eq!(sys.get(&device(0)), 1024);
    sys.set(&device(0), 4096);
    recover(dir.path());
    assert_eq!(sys.get(&device(0)), 4096);
}
