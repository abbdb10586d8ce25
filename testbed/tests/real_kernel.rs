// SPDX-License-Identifier: MIT OR Apache-2.0
//! The testbed itself, on this machine: the throttle throttles, and nothing is left behind.

use keepahead_testbed::workload::{Progress, Running};
use keepahead_testbed::{Fs, Testbed, late_unavailable, run, unavailable};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn real_kernel_the_throttle_holds_and_everything_is_removed() {
    if let Some(why) = unavailable() {
        println!("skipped: {why}");
        return;
    }
    let (mount, name);
    {
        let testbed = Testbed::new(256, Fs::Ext4).unwrap();
        (mount, name) = (testbed.mount(), testbed.name.clone());
        let file = testbed.file("data", 128).unwrap();
        testbed.limit(1000, 400_000_000, 512).unwrap();
        testbed.set_read_ahead(128).unwrap();
        testbed.drop_caches().unwrap();
        // 0.5 s read at most 64 MiB at 1000 requests of 128 KiB a second, so nothing is read twice.
        let all = Running::start(&testbed, &file, "seq-read:0.8", 7).unwrap().finish().unwrap();
        let speed = Progress::mb_per_s(&all);
        assert!((60.0..160.0).contains(&speed), "{speed} MB/s, 131 expected");
    }
    assert!(!mount.exists());
    let loops = run(Command::new("losetup").args(["-n", "-O", "BACK-FILE", &format!("/dev/{name}")])).unwrap_or_default();
    assert!(!loops.contains("keepahead-testbed"), "{loops}");
    assert!(!Path::new("/sys/fs/cgroup/blkio").join(mount.parent().unwrap().file_name().unwrap()).exists());
}

/// Each read waits its time, many wait together, and the file system in user space is gone afterwards.
#[test]
fn real_kernel_a_late_device_answers_late() {
    if let Some(why) = late_unavailable() {
        println!("skipped: {why}");
        return;
    }
    let (dir, name);
    {
        let testbed = Testbed::late(256, Fs::Ext4, Duration::from_millis(20)).unwrap();
        (dir, name) = (testbed.mount().parent().unwrap().to_owned(), testbed.name.clone());
        let path = testbed.file("data", 64).unwrap();
        testbed.set_read_ahead(0).unwrap();
        testbed.drop_caches().unwrap();
        let file = File::open(&path).unwrap();
        let page = |n: u64| file.read_exact_at(&mut [0; 4096], n << 20).unwrap();
        let begun = Instant::now();
        (0..10).for_each(page);
        let one_by_one = begun.elapsed();
        assert!(one_by_one >= Duration::from_millis(200), "{one_by_one:?}");
        let begun = Instant::now();
        std::thread::scope(|scope| (10..40).for_each(|n| drop(scope.spawn(move || page(n)))));
        assert!(begun.elapsed() < 2 * one_by_one, "30 at once: {:?}, 10 one by one: {one_by_one:?}", begun.elapsed());
    }
    assert!(!dir.exists());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    let loops = run(Command::new("losetup").args(["-n", "-O", "BACK-FILE", &format!("/dev/{name}")])).unwrap_or_default();
    assert!(!loops.contains("keepahead-testbed"), "{loops}");
}

/// Killed outright, a bench over a late device leaves neither its mounts nor its directory; nor does one that is killed between the two mounts.
#[test]
fn real_kernel_a_late_device_whose_owner_is_killed_is_taken_down() {
    if let Some(why) = late_unavailable() {
        println!("skipped: {why}");
        return;
    }
    let base = std::env::var_os("KEEPAHEAD_TESTBED_DIR").unwrap_or_else(|| "/var/tmp".into());
    for mounted in ["/late ", "/mnt "] {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_keepahead-bench"));
        bench.arg("tuning").envs([("KEEPAHEAD_BENCH", "quick"), ("KEEPAHEAD_BENCH_ROWS", "phases")]);
        let mut bench = bench.stdout(Stdio::null()).spawn().unwrap();
        // Its first testbed is not late.
        let (all, late) =
            (format!("keepahead-testbed-{}-", bench.id()), format!("keepahead-testbed-{}-1{mounted}", bench.id()));
        let mounts = || {
            let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
            mounts.lines().filter(|line| line.contains(&all)).map(String::from).collect::<Vec<_>>()
        };
        let wait = |what: &str, done: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !done() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", mounts());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        wait(&format!("{late}is there"), &|| mounts().iter().any(|line| line.contains(&late)));
        bench.kill().unwrap();
        bench.wait().unwrap();
        wait("all mounts are gone", &|| mounts().is_empty());
        wait("all directories are gone", &|| {
            let left = std::fs::read_dir(&base).unwrap().flatten();
            !left.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&all))
        });
    }
}
