// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows for the open files of programs that cannot be changed: what the rules of the configuration name becomes a device to the
//! loop, as a workload that registered does (`windows.rs`).

use super::Agent;
use super::windows::{Owner, Whose};
use crate::actuator::ruled::WorkloadRule;
use crate::actuator::scan::OpenFile;
use crate::control::FILES_WITH_WINDOW;
use crate::sensor::Inode;
use keepahead_core::device::{BdiName, DeviceKind, OPEN_FILES};
use keepahead_core::event::SetReason;
use keepahead_core::units::Kib;
use std::collections::{BTreeMap, BTreeSet, HashSet};

impl Agent {
    /// Once a second: files that a rule names came or went.
    pub(super) fn look_after_rules(&mut self) -> anyhow::Result<()> {
        let Some(mut ruled) = self.ruled.take() else { return Ok(()) };
        let devices = self.state.devices().filter(|d| d.device.kind != DeviceKind::OpenFiles && !d.hands_off());
        let bdis: Vec<BdiName> = devices.map(|d| d.device.bdi.clone()).collect();
        let windows = self.windows();
        let found = ruled.look(&bdis, |on, rule| windows.get(&named(on, &rule.name)).copied());
        let found = match found {
            Ok(found) => found,
            Err(e) => {
                tracing::warn!("[[workload]]: open files are not listed: {e}");
                self.ruled = Some(ruled);
                return Ok(());
            }
        };
        let registered: Vec<Inode> =
            self.owners.values().filter(|o| o.whose.client().is_some()).flat_map(|o| o.files.clone()).collect();
        let mut present = Vec::new();
        for ((on, rule), mut files) in found {
            let rule = ruled.rule(rule).clone();
            // A client's own word goes before a rule.
            files.retain(|f| !registered.contains(&inode(f)));
            if (1..=FILES_WITH_WINDOW).contains(&files.len()) {
                present.push(named(&on, &rule.name));
                let window = windows.get(&named(&on, &rule.name)).copied();
                self.look_after_rule(&rule, &on, files, window)?;
            }
        }
        let over =
            |(name, o): (&BdiName, &Owner)| (o.whose.client().is_none() && !present.contains(name)).then(|| name.clone());
        let over: Vec<BdiName> = self.owners.iter().filter_map(over).collect();
        self.ruled = Some(ruled);
        over.iter().try_for_each(|name| self.end_window(name))
    }

    /// `window`: in pages, what its files should carry.
    fn look_after_rule(
        &mut self,
        rule: &WorkloadRule,
        on: &BdiName,
        files: Vec<OpenFile>,
        window: Option<u32>,
    ) -> anyhow::Result<()> {
        let name = named(on, &rule.name);
        let inodes: BTreeSet<Inode> = files.iter().map(inode).collect();
        let inodes: Vec<Inode> = inodes.into_iter().collect();
        let Some(bearer) = self.state.devices().find(|d| d.device.bdi == *on).map(|d| d.device.clone()) else { return Ok(()) };
        match self.owners.get_mut(&name) {
            Some(owner) if owner.files == inodes => owner.whose = Whose::Rule(files.clone()),
            Some(_) => _ = self.count_apart(&name, Whose::Rule(files.clone()), on, inodes, Vec::new()),
            None => {
                if !self.count_apart(&name, Whose::Rule(files), on, inodes, Vec::new()) {
                    return Ok(());
                }
                let identity = format!("{OPEN_FILES}{}", serde_json::to_string(rule)?);
                return self.appears(name, &rule.name, identity, bearer);
            }
        }
        if let (Some(window), Some(owner)) = (window, self.owners.get_mut(&name)) {
            let late = owner.late.among(&files, window);
            if !late.is_empty()
                && let Err(e) = self.give_borrowed(&name, Kib(window * 4), SetReason::Trial, &late)
            {
                tracing::debug!("{name}: new files keep the device's window: {e}");
            }
        }
        Ok(())
    }

    /// What the files of each owner should carry, in pages.
    fn windows(&self) -> BTreeMap<BdiName, u32> {
        let pages = |d: &keepahead_core::watched::Watched| u32::try_from(d.current().pages()).unwrap_or(u32::MAX);
        let owned = self.state.devices().filter(|d| d.device.kind == DeviceKind::OpenFiles);
        owned.map(|d| (d.device.bdi.clone(), pages(d))).collect()
    }
}

/// Files of a rule that were opened since its window was given, and follow the device. Each is given a window once: one that cannot
/// be borrowed or does not take it would cost two lines of the journal every second.
#[derive(Default)]
pub struct Late {
    window: u32,
    tried: HashSet<(u64, u32)>,
}

impl Late {
    fn among(&mut self, files: &[OpenFile], window: u32) -> Vec<OpenFile> {
        let key = |file: &OpenFile| (file.file, file.tgid);
        let late: Vec<OpenFile> = files.iter().filter(|f| f.ra_pages != window).cloned().collect();
        let before = std::mem::take(&mut self.tried);
        let before = if std::mem::replace(&mut self.window, window) == window { before } else { HashSet::new() };
        self.tried = late.iter().map(key).collect();
        late.into_iter().filter(|f| !before.contains(&key(f))).collect()
    }
}

fn named(on: &BdiName, rule: &str) -> BdiName {
    BdiName(format!("{on}/rule:{rule}"))
}

fn inode(file: &OpenFile) -> Inode {
    // The kernel's own encoding: 20 bits of minor.
    Inode { ino: file.ino, major: file.dev >> 20, minor: file.dev & 0xf_ffff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actuator::scan::open_file;

    #[test]
    fn a_file_is_given_each_window_once() {
        let mut late = Late::default();
        let mut among = |files: &[(u64, u32)], window: u32| -> Vec<u64> {
            let files: Vec<OpenFile> = files.iter().map(|(id, pages)| open_file(*id, "db", *pages)).collect();
            late.among(&files, window).iter().map(|f| f.file).collect()
        };
        assert_eq!(among(&[(1, 4), (2, 32)], 4), [2]);
        assert_eq!(among(&[(1, 4), (2, 32), (3, 32)], 4), [3], "2 does not take it");
        assert_eq!(among(&[(1, 4), (3, 4)], 4), [0_u64; 0]);
        assert_eq!(among(&[(1, 4), (2, 32)], 4), [2], "another file at the address of the first");
        assert_eq!(among(&[(1, 4), (2, 32)], 8), [1, 2], "another window");
    }
}
