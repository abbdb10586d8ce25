// SPDX-License-Identifier: MIT OR Apache-2.0
//! A realistic slow device on any machine: a loop device with direct I/O behind a cloud volume's throttle, and a memory limit for the
//! workload alone. What it sets up it removes: when dropped, on panic, after any signal, and at the next start what is still left.

mod cgroup;
mod device;
mod latency;
mod reaper;
pub mod workload;

pub use cgroup::Cgroup;
pub use device::{Fs, Testbed, drop_caches};

use std::process::Command;

/// Name of everything that a run leaves on the machine while it lives: `keepahead-testbed-PID…`.
pub const PREFIX: &str = "keepahead-testbed-";

/// Why a testbed cannot be set up here; `None` where it can.
pub fn unavailable() -> Option<String> {
    device_unavailable(Fs::Ext4).or_else(cgroup::unavailable)
}

/// Why a device that answers late cannot be set up here; `None` where it can.
pub fn late_unavailable() -> Option<String> {
    let fuse = std::path::Path::new("/dev/fuse").exists();
    unavailable().or_else(|| (!fuse).then(|| "no /dev/fuse: the kernel's fuse module is missing or not loaded".into()))
}

/// Why a device with this file system, without limits, cannot be set up here; `None` where it can.
pub fn device_unavailable(fs: Fs) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root: loop devices, mounts and cgroups need it".into());
    }
    if !std::path::Path::new("/dev/loop-control").exists() {
        return Some("no /dev/loop-control: the loop driver is missing".into());
    }
    for tool in ["losetup", fs.mkfs(), "mount", "umount"] {
        if run(Command::new(tool).arg("--version")).is_err() && run(Command::new(tool).arg("-V")).is_err() {
            return Some(format!("{tool} is missing: run scripts/setup test"));
        }
    }
    None
}

/// Runs a command to its end; its standard output, or what it said and how it ended.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    use anyhow::Context;
    let output = command.output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A program of the same build: beside this one, or one up (tests live in `deps/`).
pub fn program(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| anyhow::anyhow!("{name} is not beside {}: build the whole workspace", here.display()))
}
