// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel offers: takes `/proc` and `/sys`, gives checks for its version, BTF, lockdown and page size.

use super::{Check, Roots, read};
use keepahead_core::units::PAGE_BYTES;

/// Oldest kernel the probes are prepared for.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn checks(roots: &Roots) -> Vec<Check> {
    vec![version(roots), btf(roots), lockdown(roots), page_size(roots)]
}

/// Major and minor of `/proc/sys/kernel/osrelease`.
pub(super) fn release(roots: &Roots) -> Option<(u32, u32)> {
    let text = read(&roots.proc, "sys/kernel/osrelease")?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn version(roots: &Roots) -> Check {
    let text = read(&roots.proc, "sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let remedy = format!("use Linux {}.{} or later", OLDEST.0, OLDEST.1);
    match release(roots) {
        Some(release) if release >= OLDEST => Check::ok("kernel", text),
        Some(_) => Check::missing("kernel", format!("{text}: older than keepahead's probes were made for"), remedy),
        None => {
            Check::degraded("kernel", format!("{text}: its version cannot be told from /proc/sys/kernel/osrelease"), remedy)
        }
    }
}

fn btf(roots: &Roots) -> Check {
    if cfg!(not(feature = "ebpf")) {
        let detail = "this keepahead was built without eBPF: only `run --dry-run` with coarse device statistics works";
        return Check::missing("BTF", detail, "build with the default features");
    }
    if roots.sys.join("kernel/btf/vmlinux").exists() {
        Check::ok("BTF", "the kernel's types are in /sys/kernel/btf/vmlinux")
    } else {
        let detail = "no /sys/kernel/btf/vmlinux: no probe can load; only `run --dry-run` with coarse device statistics works";
        Check::missing("BTF", detail, "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of all large distributions are)")
    }
}

fn lockdown(roots: &Roots) -> Check {
    let modes = read(&roots.sys, "kernel/security/lockdown").unwrap_or_default();
    let mode = modes.split_whitespace().find_map(|w| w.strip_prefix('[')?.strip_suffix(']'));
    match mode {
        Some("confidentiality") => Check::missing(
            "lockdown",
            "confidentiality: BPF programs may not read kernel memory, so no probe can count",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(mode) => Check::ok("lockdown", format!("{mode}: BPF may read kernel memory")),
        None => Check::ok("lockdown", "not built in, or securityfs is not mounted"),
    }
}

fn page_size(roots: &Roots) -> Check {
    let bytes = roots.page_bytes;
    if bytes == PAGE_BYTES {
        return Check::ok("page size", format!("{bytes} bytes"));
    }
    // ra_pages = kb >> (PAGE_SHIFT - 10): on 64 KiB pages every value below 64 becomes 0, and 0 is the one value never to write.
    let detail =
        format!("{bytes} bytes: keepahead counts pages of {PAGE_BYTES}; a read_ahead_kb below one page would become 0 here");
    Check::missing("page size", detail, "use a kernel with 4 KiB pages")
}
