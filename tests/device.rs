// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's devices against this kernel. One at a time (see the Makefile): the tests share the machine's devices.

#[path = "device/calibrate.rs"]
mod calibrate_real_kernel;
#[path = "device/throttle.rs"]
mod throttle;

/// Why nothing can be measured here, said the way that all tests do.
fn skipped() -> bool {
    let fio = std::process::Command::new("fio").arg("--version").output();
    let why =
        keepahead_testbed::unavailable().or_else(|| fio.is_err().then(|| "fio is missing: run scripts/setup test".into()));
    if let Some(why) = &why {
        println!("skipped: {why}");
    }
    why.is_some()
}

/// One point where I/Os are the limit, two where bytes are, one of them split by max_sectors_kb.
#[test]
fn real_kernel_throughput_under_a_throttle_is_the_models_within_a_tenth() {
    if skipped() {
        return;
    }
    let points = throttle::sweep(&[(1000, 400_000_000), (3000, 150_000_000)], &[4, 256, 4096], &[1, 4]);
    let bad: Vec<_> = points.into_iter().filter(|(error, ..)| *error > 0.10).collect();
    assert!(bad.is_empty(), "more than 10 % off (error, IOPS, KiB, depth): {bad:?}");
}
