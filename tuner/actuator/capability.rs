// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which capabilities this process lacks: read from its own status, so that a refusal names the missing one and not just EPERM.

use procfs::process::Process;

/// A capability by its bit in `CapEff` (`linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    SysPtrace = 19,
    SysAdmin = 21,
    Perfmon = 38,
    Bpf = 39,
}

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::Perfmon => "CAP_PERFMON",
            Capability::Bpf => "CAP_BPF",
        }
    }
}

/// The effective capabilities of this process; `None` where `/proc` is not there to tell.
pub fn effective() -> Option<u64> {
    Some(Process::myself().and_then(|me| me.status()).ok()?.capeff)
}

/// Names of those of `wanted` that are absent from `effective`, joined by " and "; `None` where nothing is missing.
/// `CAP_SYS_ADMIN` stands in for `CAP_BPF` and `CAP_PERFMON`, as in the kernel.
pub fn missing(effective: u64, wanted: &[Capability]) -> Option<String> {
    let has = |c: Capability| effective & (1 << c as u32) != 0;
    let stands_in = |c: Capability| matches!(c, Capability::Bpf | Capability::Perfmon) && has(Capability::SysAdmin);
    let names: Vec<&str> = wanted.iter().filter(|c| !has(**c) && !stands_in(**c)).map(|c| c.name()).collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let wanted = [Capability::Bpf, Capability::Perfmon, Capability::SysPtrace];
        assert_eq!(missing(0, &wanted).as_deref(), Some("CAP_BPF and CAP_PERFMON and CAP_SYS_PTRACE"));
        assert_eq!(missing(1 << 21, &wanted).as_deref(), Some("CAP_SYS_PTRACE"));
        assert_eq!(missing(u64::MAX, &wanted), None);
    }
}
