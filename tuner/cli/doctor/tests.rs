// SPDX-License-Identifier: MIT OR Apache-2.0
//! The doctor on fake trees: a healthy machine, and each trouble by itself.

use super::*;
use std::fs;

/// A tree of a machine that has everything; each test takes something away.
struct Machine {
    dir: tempfile::TempDir,
    page_bytes: u64,
}

impl Machine {
    fn healthy() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().unwrap(), page_bytes: 4096 };
        machine.put("proc/sys/kernel/osrelease", "6.12.1-amd64\n");
        machine.put("proc/self/status", "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n");
        machine.put("proc/self/limits", "Max locked memory         8388608              8388608              bytes\n");
        machine.put("proc/self/mounts", "sysfs /sys sysfs rw,nosuid 0 0\n");
        machine.put("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
        machine.put("proc/sys/kernel/yama/ptrace_scope", "1\n");
        machine.put("sys/kernel/btf/vmlinux", "");
        machine.put("sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
        machine.put("sys/fs/cgroup/cgroup.controllers", "memory io\n");
        machine
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn without(self, file: &str) -> Machine {
        fs::remove_file(self.dir.path().join(file)).unwrap();
        self
    }

    fn with(self, file: &str, text: &str) -> Machine {
        self.put(file, text);
        self
    }

    fn report(&self) -> Report {
        let root = self.dir.path();
        examine(&Roots { proc: root.join("proc"), sys: root.join("sys"), page_bytes: self.page_bytes })
    }

    /// The names of all checks that are not ok, with their status.
    fn troubles(&self) -> Vec<(String, Status)> {
        let checks = self.report().checks.into_iter();
        checks.filter(|c| c.status != Status::Ok).inspect(|c| assert!(c.remedy.is_some())).map(|c| (c.name, c.status)).collect()
    }
}

fn only(name: &str, status: Status) -> Vec<(String, Status)> {
    let mut all = built_without_ebpf();
    all.push((name.into(), status));
    all
}

/// A build without the feature says so at every machine.
fn built_without_ebpf() -> Vec<(String, Status)> {
    if cfg!(feature = "ebpf") { vec![] } else { vec![("BTF".into(), Status::Missing)] }
}

#[test]
fn a_healthy_machine_has_no_troubles() {
    assert_eq!(Machine::healthy().troubles(), built_without_ebpf());
}

#[test]
fn each_trouble_is_named_alone() {
    for (file, text, name, status) in [
        ("proc/sys/kernel/osrelease", "4.19.0\n", "kernel", Status::Missing),
        ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n", "lockdown", Status::Missing),
        ("proc/pressure/memory", "", "PSI", Status::Degraded),
        ("proc/sys/kernel/yama/ptrace_scope", "3\n", "ptrace_scope", Status::Degraded),
        ("proc/self/mounts", "sysfs /sys sysfs rw 0 0\nsysfs /sys sysfs ro,nosuid 0 0\n", "sysfs", Status::Missing),
        ("proc/self/mounts", "proc /proc proc rw 0 0\n", "sysfs", Status::Missing),
    ] {
        let mut found = Machine::healthy().with(file, text).troubles();
        // A kernel that old also charges maps to the locked memory.
        found.retain(|(n, _)| n != "MEMLOCK");
        found.sort_by_key(|(n, _)| n == name);
        assert_eq!(found, only(name, status), "{file}");
    }
    assert_eq!(Machine { page_bytes: 65536, ..Machine::healthy() }.troubles(), only("page size", Status::Missing));
    assert_eq!(Machine::healthy().without("sys/fs/cgroup/cgroup.controllers").troubles(), only("cgroups", Status::Degraded));
    let found = Machine::healthy().without("sys/kernel/btf/vmlinux").troubles();
    assert_eq!(found, [("BTF".to_owned(), Status::Missing)]);
}

#[test]
fn a_user_without_capabilities_is_told_each_one() {
    let status = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
    let found = Machine::healthy().with("proc/self/status", status).troubles();
    let names: Vec<_> = found.iter().filter(|(n, _)| n != "BTF").map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "ptrace_scope"]);
}

#[test]
fn the_capability_of_admins_covers_bpf_and_perfmon() {
    let status = "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000280000\n";
    assert_eq!(Machine::healthy().with("proc/self/status", status).troubles(), built_without_ebpf());
}

#[test]
fn before_5_11_locked_memory_matters() {
    let machine = Machine::healthy().with("proc/sys/kernel/osrelease", "5.10.0-30-amd64\n");
    assert_eq!(machine.troubles(), only("MEMLOCK", Status::Degraded));
    let limits = "Max locked memory         unlimited            unlimited            bytes\n";
    assert_eq!(machine.with("proc/self/limits", limits).troubles(), built_without_ebpf());
}

#[test]
fn text_and_json_carry_status_and_remedy() {
    let report = Report { checks: vec![Check::ok("kernel", "6.18"), Check::missing("BTF", "not there", "another kernel")] };
    let wanted = "ok        kernel  6.18\nMISSING   BTF     not there\n                  -> another kernel\n\n\
                  keepahead cannot tune here until what is MISSING is put right.\n";
    assert_eq!(report.text(), wanted);
    let json = serde_json::to_string(&report.checks[1]).unwrap();
    assert_eq!(json, r#"{"name":"BTF","status":"missing","detail":"not there","remedy":"another kernel"}"#);
}
