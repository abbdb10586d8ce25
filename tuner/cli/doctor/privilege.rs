// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this process may do: takes `/proc/self`, gives checks for capabilities, locked memory and ptrace.

use super::{Check, Roots, Status, kernel, read};

/// Bit numbers of `linux/capability.h`.
const DAC_OVERRIDE: u32 = 1;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

pub(super) fn checks(roots: &Roots) -> Vec<Check> {
    let effective = effective(roots);
    let mut checks = capabilities(effective, kernel::release(roots), uid(roots));
    checks.push(memlock(roots));
    checks.push(ptrace_scope(roots, has(effective, SYS_PTRACE)));
    checks
}

fn has(effective: u64, bit: u32) -> bool {
    effective & (1 << bit) != 0
}

fn status_field(roots: &Roots, field: &str) -> Option<String> {
    let text = read(&roots.proc, "self/status")?;
    text.lines().find_map(|l| l.strip_prefix(field)).map(|v| v.trim().to_owned())
}

fn effective(roots: &Roots) -> u64 {
    status_field(roots, "CapEff:").and_then(|v| u64::from_str_radix(&v, 16).ok()).unwrap_or(0)
}

/// The file-system uid: the one that file permissions are checked with.
fn uid(roots: &Roots) -> Option<u32> {
    status_field(roots, "Uid:")?.split_whitespace().nth(3)?.parse().ok()
}

fn capabilities(effective: u64, release: Option<(u32, u32)>, uid: Option<u32>) -> Vec<Check> {
    // CAP_BPF and CAP_PERFMON came with 5.8; CAP_SYS_ADMIN stands for both, before and since.
    let before_split = release.is_some_and(|r| r < (5, 8));
    let admin = has(effective, SYS_ADMIN);
    let row = |name: &str, bit: u32, status: Status, without: &str| {
        if has(effective, bit) {
            Check::ok(name, "held")
        } else if admin && (bit == BPF || bit == PERFMON) {
            Check::ok(name, "covered by CAP_SYS_ADMIN")
        } else {
            Check { status, ..Check::degraded(name, format!("not held: {without}"), format!("run as root, or grant {name}")) }
        }
    };
    let mut checks = vec![
        row("CAP_BPF", BPF, Status::Missing, "no probe can load; only `run --dry-run` with coarse device statistics works"),
        row("CAP_PERFMON", PERFMON, Status::Missing, "no probe can attach; only `run --dry-run` with coarse statistics works"),
        row(
            "CAP_SYS_ADMIN",
            SYS_ADMIN,
            if before_split { Status::Missing } else { Status::Degraded },
            "who else writes a knob is not named, the kernel's own measure of the probes' cost cannot be read, and kernels before 5.8 load no probe",
        ),
        row("CAP_SYS_PTRACE", SYS_PTRACE, Status::Degraded, "files that others already have open keep their old window"),
    ];
    checks.push(match (has(effective, DAC_OVERRIDE), uid) {
        (true, _) => Check::ok("CAP_DAC_OVERRIDE", "held"),
        // The knobs in sysfs belong to root with mode 0644.
        (false, Some(0)) => Check::ok("CAP_DAC_OVERRIDE", "not held, not needed: the knobs belong to root, who asks"),
        (false, _) => Check::missing(
            "CAP_DAC_OVERRIDE",
            "not held, and not root: read_ahead_kb cannot be written; `run --dry-run` works",
            "run as root, or grant CAP_DAC_OVERRIDE",
        ),
    });
    checks
}

fn memlock(roots: &Roots) -> Check {
    const ENOUGH: u64 = 64 << 20;
    if kernel::release(roots).is_none_or(|r| r >= (5, 11)) {
        return Check::ok("MEMLOCK", "does not matter: BPF maps are charged to the cgroup since 5.11");
    }
    let limits = read(&roots.proc, "self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|l| l.strip_prefix("Max locked memory")).and_then(|l| l.split_whitespace().next());
    match soft {
        Some("unlimited") => Check::ok("MEMLOCK", "unlimited"),
        Some(bytes) if bytes.parse::<u64>().is_ok_and(|b| b >= ENOUGH) => Check::ok("MEMLOCK", format!("{bytes} bytes")),
        other => Check::degraded(
            "MEMLOCK",
            format!("{} bytes: before 5.11 BPF maps count against it, and may not fit", other.unwrap_or("unknown")),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ),
    }
}

fn ptrace_scope(roots: &Roots, ptrace: bool) -> Check {
    let stale = "files that others already have open keep their old window until they are opened again";
    match read(&roots.proc, "sys/kernel/yama/ptrace_scope").as_deref() {
        None => Check::ok("ptrace_scope", "Yama is not active"),
        Some("3") => Check::degraded(
            "ptrace_scope",
            format!("3: nobody may reach another process's files: {stale}"),
            "boot with kernel.yama.ptrace_scope at 2 or lower (3 cannot be undone while running)",
        ),
        Some(scope) if ptrace => Check::ok("ptrace_scope", format!("{scope}: CAP_SYS_PTRACE is enough")),
        Some("0") => Check::ok("ptrace_scope", "0: files of the same user are in reach"),
        Some(scope) => {
            Check::degraded("ptrace_scope", format!("{scope}, and CAP_SYS_PTRACE is not held: {stale}"), "grant CAP_SYS_PTRACE")
        }
    }
}
