// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulator's devices against this kernel. One at a time (see the Makefile): the tests share the machine's devices.

#[path = "device/calibrate.rs"]
mod calibrate_real_kernel;
#[path = "device/throttle.rs"]
mod throttle_real_kernel;

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
