// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose open files keepahead may refresh: allow and deny lists by command, user or cgroup. Deny wins; an empty allow list allows
//! everybody.

use crate::config::glob_matches;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// One rule: every part given must fit. Patterns are globs (`*`, `?`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    pub comm: Option<String>,
    pub uid: Option<u32>,
    /// cgroup path as in `/proc/PID/cgroup`; a pattern without `*` fits the cgroup and all below it.
    pub cgroup: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRules {
    pub allow: Vec<Rule>,
    pub deny: Vec<Rule>,
}

/// Who holds a file open.
#[derive(Clone, Debug)]
pub struct Holder {
    pub comm: String,
    pub uid: u32,
    /// All paths, one a hierarchy; empty where no rule asks for them.
    pub cgroups: Vec<String>,
}

impl FileRules {
    pub fn permit(&self, holder: &Holder) -> bool {
        let fits = |rules: &[Rule]| rules.iter().any(|rule| rule.fits(holder));
        !fits(&self.deny) && (self.allow.is_empty() || fits(&self.allow))
    }

    /// Whether any rule looks at cgroups, which cost a read of `/proc` for each process.
    pub fn ask_cgroups(&self) -> bool {
        self.allow.iter().chain(&self.deny).any(|rule| rule.cgroup.is_some())
    }
}

impl Rule {
    pub(super) fn fits(&self, holder: &Holder) -> bool {
        // A rule without any part fits nobody: an empty table in the config must not deny everything.
        (self.comm.is_some() || self.uid.is_some() || self.cgroup.is_some())
            && self.comm.as_ref().is_none_or(|pattern| glob_matches(pattern, &holder.comm))
            && self.uid.is_none_or(|uid| uid == holder.uid)
            && self.cgroup.as_ref().is_none_or(|pattern| holder.cgroups.iter().any(|path| within(pattern, path)))
    }
}

fn within(pattern: &str, path: &str) -> bool {
    if pattern.contains(['*', '?']) {
        return glob_matches(pattern, path);
    }
    let pattern = pattern.trim_end_matches('/');
    path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The cgroup paths of a process, of all hierarchies (v1) or the one (v2); empty where it has exited.
pub fn cgroups(proc: &Path, tgid: u32) -> Vec<String> {
    let text = fs::read_to_string(proc.join(tgid.to_string()).join("cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(comm: &str, uid: u32, cgroup: &str) -> Holder {
        Holder { comm: comm.into(), uid, cgroups: vec![cgroup.into()] }
    }

    #[test]
    fn deny_wins_and_an_empty_allow_list_allows() {
        let postgres = Rule { comm: Some("postgres*".into()), ..Rule::default() };
        let nobody = Rule { uid: Some(65534), ..Rule::default() };
        let rules = FileRules { allow: vec![], deny: vec![nobody.clone()] };
        assert!(rules.permit(&holder("fio", 0, "/")));
        assert!(!rules.permit(&holder("fio", 65534, "/")));
        let rules = FileRules { allow: vec![postgres], deny: vec![nobody] };
        assert!(rules.permit(&holder("postgres: wal", 26, "/")));
        assert!(!rules.permit(&holder("postgres", 65534, "/")));
        assert!(!rules.permit(&holder("fio", 26, "/")));
    }

    #[test]
    fn cgroups_fit_by_subtree_or_pattern() {
        for (pattern, path, fits) in [
            ("/db", "/db/replica", true),
            ("/db", "/db2", false),
            ("/system.slice/*.service", "/system.slice/x.service", true),
            ("*/pod*/c1", "/kube/pod7/c1", true),
            ("*/pod*/c1", "/kube/pod7/c2", false),
            ("/", "/anything", true),
        ] {
            let rule = Rule { cgroup: Some(pattern.into()), ..Rule::default() };
            assert_eq!(rule.fits(&holder("x", 0, path)), fits, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_rule_without_parts_fits_nobody() {
        let rules = FileRules { allow: vec![], deny: vec![Rule::default()] };
        assert!(rules.permit(&holder("x", 0, "/")));
    }
}
