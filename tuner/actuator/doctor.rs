// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `keepahead doctor` says about devices: insane inherited values, and who else writes the knob. Each with its remedy.

use super::descend::{listing, word};
use keepahead_core::device::{Device, DeviceKind};
use keepahead_core::units::Kib;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// One thing that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: String,
    pub why: String,
    pub remedy: String,
}

/// Above this a value that came from the rotational flag or `io_opt` deserves a look: the kernel's own default is 128.
const LARGE: Kib = Kib(1024);
const MIB: u64 = 1 << 20;

/// What is odd about one device's value and limits. (Linux 6.12 and later: `read_ahead_kb` follows `io_opt`, from 6.17 on the
/// rotational flag too.)
pub fn insane(device: &Device) -> Vec<Finding> {
    let Device { label, bdi, original: value, limits, kind, .. } = device;
    let mut found = Vec::new();
    if *value == Kib(0) {
        found.push(Finding {
            what: format!("{label}: read_ahead_kb is 0"),
            why: "every buffered read becomes requests of one page: 135 times slower measured on sequential reads".into(),
            remedy: format!("echo 128 > /sys/class/bdi/{bdi}/read_ahead_kb, and find out who set it (tuned, udev rules)"),
        });
    }
    let virtual_or_flash = label.starts_with("vd") || label.starts_with("nvme") || *kind == DeviceKind::Loop;
    if limits.rotational && virtual_or_flash && *value >= LARGE {
        found.push(Finding {
            what: format!("{label}: marked rotational, with read_ahead_kb {}", value.0),
            why: "virtio, NVMe and loop devices do not rotate; the flag alone gives them twice max_sectors_kb on Linux 6.17 and later"
                .into(),
            remedy: format!("let keepahead tune it, or echo 0 > /sys/block/{label}/queue/rotational and set read_ahead_kb afterwards"),
        });
    }
    if limits.optimal_io_bytes > MIB {
        found.push(Finding {
            what: format!("{label}: optimal_io_size is {} KiB", limits.optimal_io_bytes / 1024),
            why: "the kernel sets read_ahead_kb to at least twice that whenever queue limits change, whatever the workload"
                .into(),
            remedy:
                "let keepahead tune it; it tells the kernel's recomputation from a person's write and applies its value again"
                    .into(),
        });
    }
    found
}

/// Who else writes `read_ahead_kb`: tuned's active profile and udev rules. `root` is `/`.
pub fn other_writers(root: &Path) -> Vec<Finding> {
    let mut found: Vec<Finding> = tuned(root).into_iter().collect();
    for dir in
        ["etc/udev/rules.d", "run/udev/rules.d", "usr/local/lib/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d"]
    {
        // Merged-usr systems have one directory under two names.
        if dir == "lib/udev/rules.d" && fs::canonicalize(root.join("lib")).ok() == fs::canonicalize(root.join("usr/lib")).ok() {
            continue;
        }
        for name in listing(&root.join(dir)).unwrap_or_default() {
            found.extend(udev(&root.join(dir).join(&name), &format!("/{dir}/{name}")));
        }
    }
    found
}

fn udev(path: &Path, shown: &str) -> Option<Finding> {
    let text = fs::read_to_string(path).ok()?;
    let (at, line) = text.lines().enumerate().find(|(_, l)| !l.trim_start().starts_with('#') && l.contains("read_ahead_kb"))?;
    Some(Finding {
        what: format!("{shown}:{} writes read_ahead_kb: {}", at + 1, line.trim()),
        why: "udev runs it again at every add and change event; keepahead then takes its hands off that device".into(),
        remedy: format!(
            "remove the line (or mask {shown} by an empty file of that name in /etc/udev/rules.d), then udevadm control --reload"
        ),
    })
}

fn tuned(root: &Path) -> Option<Finding> {
    let profiles = word(&root.join("etc/tuned/active_profile"))?;
    let (profile, setting) = profiles.split_whitespace().find_map(|name| Some((name, readahead(root, name, 8)?)))?;
    let running = root.join("run/tuned").exists();
    Some(Finding {
        what: format!("tuned's profile {profile} sets readahead={setting}{}", if running { "" } else { " (tuned is not running)" }),
        why: "tuned writes it at its start, at a change of profile and when a disk is plugged in; keepahead then takes its hands off".into(),
        remedy: "remove readahead from the [disk] section in a profile of your own that includes this one, or exclude the disks by devices=".into(),
    })
}

/// The `readahead` of a profile, or of one that it includes.
fn readahead(root: &Path, profile: &str, depth: u32) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let places = ["etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles"];
    let files: Vec<PathBuf> = places.iter().map(|dir| root.join(dir).join(profile).join("tuned.conf")).collect();
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
    let setting = |key: &str| -> Option<String> {
        text.lines().filter_map(|l| l.split_once('=')).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().to_owned())
    };
    setting("readahead")
        .or_else(|| setting("include")?.split([',', ' ']).find_map(|parent| readahead(root, parent.trim(), depth)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepahead_core::device::{BdiName, QueueLimits};

    fn device(label: &str, value: u32, rotational: bool, optimal_io_bytes: u64) -> Device {
        Device {
            bdi: BdiName("254:0".into()),
            node: None,
            label: label.into(),
            kind: DeviceKind::Disk,
            identity: "path:x".into(),
            disks: vec![],
            original: Kib(value),
            limits: QueueLimits { max_sectors_kb: 1280, optimal_io_bytes, rotational },
        }
    }

    #[test]
    fn insane_values_are_named() {
        assert!(insane(&device("vda", 128, false, 0)).is_empty());
        assert!(insane(&device("sda", 4096, true, 0)).is_empty(), "a real disk may be rotational");
        assert!(insane(&device("vda", 0, false, 0))[0].what.contains("is 0"));
        assert!(insane(&device("vda", 2560, true, 0))[0].what.contains("rotational"));
        assert!(insane(&device("nvme0n1", 65536, false, 32 << 20))[0].what.contains("32768 KiB"));
    }

    #[test]
    fn other_writers_are_named_with_file_and_line() {
        let root = tempfile::tempdir().unwrap();
        let plant = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        plant("etc/udev/rules.d/60-ra.rules", "# read_ahead_kb\nSUBSYSTEM==\"block\", ATTR{queue/read_ahead_kb}=\"64\"\n");
        plant("etc/tuned/active_profile", "virtual-guest\n");
        plant("usr/lib/tuned/virtual-guest/tuned.conf", "[main]\ninclude=throughput-performance\n");
        plant("usr/lib/tuned/throughput-performance/tuned.conf", "[disk]\nreadahead=>4096\n");
        let found = other_writers(root.path());
        assert!(found[0].what.contains("virtual-guest sets readahead=>4096"), "{found:?}");
        assert!(found[1].what.starts_with("/etc/udev/rules.d/60-ra.rules:2"), "{found:?}");
        assert_eq!(found.len(), 2);
    }
}
