// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a scenario: takes its groups and seed, gives the size of each file and its place in the list of all.

use super::check::{self, Checked};
use super::error::ScenarioError;
use super::schema::Scenario;
use crate::spec::FileSpec;
use crate::workload::distribution::random;
use std::collections::BTreeMap;

/// All files of a scenario may be so many: beyond it a slip of the pen (`count = 10000000`) would fill the memory.
const MOST_FILES: u64 = 1 << 20;

/// Files of one group, which lie side by side in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Index of the first.
    pub first: usize,
    /// Bytes of each, never 0.
    pub sizes: Vec<u64>,
}

impl Group {
    pub fn total(&self) -> u64 {
        self.sizes.iter().sum()
    }

    pub fn smallest(&self) -> u64 {
        self.sizes.iter().copied().min().unwrap_or(0)
    }

    pub fn largest(&self) -> u64 {
        self.sizes.iter().copied().max().unwrap_or(0)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub files: Vec<FileSpec>,
    pub groups: BTreeMap<String, Group>,
}

impl Layout {
    /// Draws the sizes. Names of devices, sizes and counts are checked on the way.
    pub fn new(scenario: &Scenario) -> Result<Layout, ScenarioError> {
        let mut layout = Layout::default();
        for (i, entry) in scenario.files.iter().enumerate() {
            let key = format!("files[{i}]");
            let disk = match &entry.device {
                Some(label) => check::device(scenario, &format!("{key}.device"), label)?,
                None => 0,
            };
            let left = MOST_FILES - layout.files.len() as u64;
            check::range(format!("{key}.count"), entry.count as f64, 1.0, left as f64, "use fewer files")?;
            // 1 KiB is the smallest file, 1 TiB the largest: 2^20 of them still fit a byte count of 64 bits.
            entry.size_kib.check(&format!("{key}.size_kib"), 1.0, (1u64 << 30) as f64, "an empty file has no pages to read")?;
            let mut rng = random(scenario.seed, i as u64);
            let sizes: Vec<u64> = (0..entry.count).map(|_| entry.size_kib.whole(1024.0, 1024, &mut rng).min(1 << 40)).collect();
            let first = layout.files.len();
            layout.files.extend(sizes.iter().map(|bytes| FileSpec { disk, bytes: *bytes }));
            if layout.groups.insert(entry.name.clone(), Group { first, sizes }).is_some() {
                let way_out = "give each group of files a name of its own";
                return Err(ScenarioError::impossible(format!("{key}.name"), &entry.name, "is there already", way_out));
            }
        }
        Ok(layout)
    }

    /// The group of this name; `key` is where the name stands.
    pub fn group(&self, key: &str, name: &str) -> Result<&Group, ScenarioError> {
        let known = || self.groups.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.groups.get(name).ok_or_else(|| {
            let way_out = format!("use one of these: {}", known());
            ScenarioError::impossible(key, format!("{name:?}"), "is no group of [[files]]", &way_out)
        })
    }
}
