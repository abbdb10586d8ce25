// SPDX-License-Identifier: MIT OR Apache-2.0
//! The testbed itself, on this machine: the throttle throttles, and nothing is left behind.

use keepahead_testbed::workload::{Progress, Running};
use keepahead_testbed::{Fs, Testbed, run, unavailable};
use std::path::Path;
use std::process::Command;

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
