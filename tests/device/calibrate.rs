// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead sim calibrate` on a loop device behind a throttle: the profile must say what the throttle was, and nobody may be loaded
//! unasked.

use clap::Parser;
use keepahead::actuator::Roots;
use keepahead::calibrate::{Target, compare, fit, measure};
use keepahead::cli::sim::calibrate::{CalibrateArgs, run};
use keepahead_sim::device::Profile;
use keepahead_testbed::{Fs, Testbed};
use std::path::Path;
use std::time::Duration;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: CalibrateArgs,
}

const DEVICE: &str = "KEEPAHEAD_TEST_DEVICE";

/// The part that runs inside the throttled group, as a process of its own; not a test when it is run by hand.
#[test]
fn inside_the_group() {
    let Some(device) = std::env::var_os(DEVICE) else { return };
    let target = Target::find(Path::new(&device), &Roots::default()).unwrap();
    let points = measure(&target, Duration::from_secs(22), |_| ()).unwrap();
    let profile = fit(&target, &points).unwrap();
    for point in &points {
        let model = compare(&profile, &target, point.spot).unwrap();
        println!("{:?}: {:.0} reads/s, model {model:.0}", point.spot, point.rate);
    }
    println!("PROFILE {}", serde_json::to_string(&profile).unwrap());
}

#[test]
fn a_throttled_device_gives_its_limits() {
    if super::skipped() {
        return;
    }
    let testbed = Testbed::new(768, Fs::Ext4).unwrap();
    testbed.file("data", 512).unwrap();
    testbed.limit(1000, 100_000_000, 512).unwrap();
    let mut inside = testbed.cgroup.command(std::env::current_exe().unwrap());
    inside.args(["--exact", "calibrate_real_kernel::inside_the_group", "--nocapture"]);
    let said = keepahead_testbed::run(inside.env(DEVICE, format!("/dev/{}", testbed.name))).unwrap();
    println!("{said}");
    let json = said.lines().find_map(|line| line.split_once("PROFILE ")).unwrap().1;
    let profile: Profile = serde_json::from_str(json).unwrap();
    let (iops, bytes) = (profile.iops.unwrap().baseline, profile.bytes.unwrap().baseline);
    assert!((900.0..1100.0).contains(&iops), "{iops} IOPS");
    assert!((90e6..110e6).contains(&bytes), "{bytes} bytes a second");
}

#[test]
fn a_device_in_use_is_not_loaded_unasked() {
    if super::skipped() {
        return;
    }
    let testbed = Testbed::new(256, Fs::Ext4).unwrap();
    let args = Command::parse_from(["calibrate", &testbed.name]).args;
    let mut reader = std::process::Command::new("fio");
    reader.args(["--name=r", "--rw=read", "--direct=1", "--readonly", "--time_based", "--runtime=20", "--output=/dev/null"]);
    let mut reader = reader.arg(format!("--filename=/dev/{}", testbed.name)).spawn().unwrap();
    // It takes fio a moment to start; what is waited for is its first read.
    let stat = format!("/sys/block/{}/stat", testbed.name);
    let reads = || std::fs::read_to_string(&stat).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let before = reads();
    while reads() == before && reader.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = run(&args, &Roots::default(), &mut Vec::new(), &mut Vec::new()).unwrap_err().to_string();
    reader.kill().unwrap();
    reader.wait().unwrap();
    for part in ["is mounted on", "had I/O in the last second", "--yes"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_written_is_a_profile_and_an_old_file_stays() {
    if super::skipped() {
        return;
    }
    let testbed = Testbed::new(256, Fs::Ext4).unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("loop.toml");
    let path = file.to_str().unwrap();
    let args = Command::parse_from(["calibrate", &testbed.name, "--seconds", "3", "--yes", "--out", path]).args;
    let mut said = Vec::new();
    run(&args, &Roots::default(), &mut said, &mut Vec::new()).unwrap();
    println!("{}", String::from_utf8_lossy(&said));
    let text = std::fs::read_to_string(&file).unwrap();
    Profile::from_table(text.parse().unwrap()).unwrap();
    let error = run(&args, &Roots::default(), &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(format!("{error:#}").contains("exists"), "{error:#}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}
