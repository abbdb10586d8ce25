// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that a task opens: takes names of groups, gives open files. A group that several phases of a task use is opened once, as a
//! program would that keeps its files open.

use super::error::ScenarioError;
use super::layout::Layout;
use crate::spec::{MapSpec, OpenSpec};
use crate::workload::place::FileRef;
use crate::workload::{Fadvice, Madvice};
use keepahead_core::units::PAGE_BYTES;
use std::collections::BTreeMap;

pub struct Opens<'a> {
    layout: &'a Layout,
    advice: Option<Fadvice>,
    files: Vec<OpenSpec>,
    shared: BTreeMap<String, Vec<FileRef>>,
}

impl<'a> Opens<'a> {
    pub fn new(layout: &'a Layout, advice: Option<Fadvice>) -> Opens<'a> {
        Opens { layout, advice, files: Vec::new(), shared: BTreeMap::new() }
    }

    /// Every file of a group, opened once in this task.
    pub fn group(&mut self, name: &str) -> Result<Vec<FileRef>, ScenarioError> {
        if let Some(open) = self.shared.get(name) {
            return Ok(open.clone());
        }
        let open = (0..self.count(name)?).map(|i| self.another(name, i as usize)).collect::<Result<Vec<_>, _>>()?;
        self.shared.insert(name.into(), open.clone());
        Ok(open)
    }

    /// Files in a group.
    pub fn count(&self, name: &str) -> Result<u64, ScenarioError> {
        Ok(self.layout.group("files", name)?.sizes.len() as u64)
    }

    /// One more open file description of file `index` of a group.
    pub fn another(&mut self, name: &str, index: usize) -> Result<FileRef, ScenarioError> {
        let group = self.layout.group("files", name)?;
        let open = self.files.len() as u32;
        self.files.push(OpenSpec { file: group.first + index, advice: self.advice });
        Ok(FileRef { index: open, bytes: group.sizes[index] })
    }

    /// What the task has open and, where it maps at all, a mapping of each whole file under the same number.
    pub fn finish(self, maps: bool, advice: Option<Madvice>) -> (Vec<OpenSpec>, Vec<MapSpec>) {
        let map = |(open, spec): (usize, &OpenSpec)| {
            let pages = self.layout.files[spec.file].bytes.div_ceil(PAGE_BYTES);
            MapSpec { open, page: 0, pages, advice }
        };
        let maps = if maps { self.files.iter().enumerate().map(map).collect() } else { Vec::new() };
        (self.files, maps)
    }
}
