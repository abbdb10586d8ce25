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

/// Killed outright, a bench over a late device leaves neither its mounts nor its directory.
#[test]
fn real_kernel_a_late_device_whose_owner_is_killed_is_taken_down() {
    if let Some(why) = late_unavailable() {
        println!("skipped: {why}");
        return;
    }
    let mut bench = Command::new(env!("CARGO_BIN_EXE_keepahead-bench"));
    bench.arg("tuning").envs([("KEEPAHEAD_BENCH", "quick"), ("KEEPAHEAD_BENCH_ROWS", "phases")]);
    let mut bench = bench.stdout(Stdio::null()).spawn().unwrap();
    let name = format!("keepahead-testbed-{}-", bench.id());
    let mounts = || {
        let all = std::fs::read_to_string("/proc/mounts").unwrap();
        all.lines().filter(|line| line.contains(&name)).map(String::from).collect::<Vec<_>>()
    };
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", mounts());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait("the late device and its file system are mounted", &|| mounts().len() == 2);
    bench.kill().unwrap();
    bench.wait().unwrap();
    wait("both are gone", &|| mounts().is_empty());
}
