// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the machine is set up with: takes `/proc` and `/sys`, gives checks for PSI, cgroups and whether sysfs can be written.

use super::{Check, Roots, read};

pub(super) fn checks(roots: &Roots) -> Vec<Check> {
    vec![pressure(roots), cgroups(roots), sysfs(roots)]
}

fn pressure(roots: &Roots) -> Check {
    // With CONFIG_PSI_DEFAULT_DISABLED the files are there, and reading them fails with EOPNOTSUPP.
    match read(&roots.proc, "pressure/memory") {
        Some(text) if text.starts_with("some ") => Check::ok("PSI", "memory pressure can be read"),
        _ => Check::degraded(
            "PSI",
            "no memory pressure to read: refaults alone tell when memory is short",
            "boot with psi=1 on a kernel built with CONFIG_PSI=y",
        ),
    }
}

fn cgroups(roots: &Roots) -> Check {
    let cgroup = roots.sys.join("fs/cgroup");
    if cgroup.join("cgroup.controllers").exists() {
        Check::ok("cgroups", "version 2")
    } else if cgroup.join("unified/cgroup.controllers").exists() {
        Check::ok("cgroups", "version 1 with version 2 beside it (hybrid)")
    } else if cgroup.join("memory").is_dir() || cgroup.join("cpu").exists() {
        Check::ok("cgroups", "version 1")
    } else {
        Check::degraded(
            "cgroups",
            "none mounted at /sys/fs/cgroup: rules by cgroup in [open_files] match nothing",
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
    }
}

fn sysfs(roots: &Roots) -> Check {
    let mounts = read(&roots.proc, "self/mounts").unwrap_or_default();
    // Later mounts cover earlier ones.
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next() == Some("/sys")).then(|| fields.nth(1)).flatten()
    });
    match options {
        Some(o) if o.split(',').any(|o| o == "ro") => Check::missing(
            "sysfs",
            "/sys is mounted read-only: read_ahead_kb cannot be written; `run --dry-run` works",
            "mount -o remount,rw /sys; in a container, run it privileged or on the host",
        ),
        Some(_) => Check::ok("sysfs", "/sys is mounted read-write"),
        None => Check::missing("sysfs", "nothing is mounted at /sys: no device can be found", "mount -t sysfs sysfs /sys"),
    }
}
