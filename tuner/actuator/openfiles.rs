// SPDX-License-Identifier: MIT OR Apache-2.0
//! Takes a change of `read_ahead_kb` to the files that are already open: lists them, leaves alone what the application advised,
//! refreshes the others through `pidfd_getfd` and `POSIX_FADV_NORMAL`, and counts by a second listing what came of it.

use super::advice::{Ledger, Standing};
use super::error::ActuatorError;
use super::ruled::advise_normal;
use super::rules::{FileRules, Holder, cgroups};
use super::scan::{OpenFile, Scanner};
use super::throttle::Throttle;
use crate::sensor::Inode;
use keepahead_core::device::BdiName;
use keepahead_core::event::OpenFiles;
use keepahead_core::units::Kib;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Instant;

/// The one who reaches open files. One for the whole agent: it remembers what each file carried at the last look.
pub struct OpenFilesActuator {
    scanner: Scanner,
    ledger: Ledger,
    rules: FileRules,
    throttle: Throttle,
    /// Inode and kernel device number of files with a window of their own, by workload.
    own: BTreeMap<BdiName, Vec<(u64, u32)>>,
    proc: PathBuf,
    me: u32,
}

impl OpenFilesActuator {
    /// Loads the iterator. Refreshes at most `files_per_second`, in bursts of at most that many.
    pub fn new(rules: FileRules, files_per_second: u32, proc: impl Into<PathBuf>) -> Result<OpenFilesActuator, ActuatorError> {
        Ok(OpenFilesActuator {
            scanner: Scanner::load()?,
            ledger: Ledger::default(),
            rules,
            throttle: Throttle::new(files_per_second),
            own: BTreeMap::new(),
            proc: proc.into(),
            me: std::process::id(),
        })
    }

    /// Looks at the open files of `bdis` and remembers what they carry. To be called at start, before each write and now and then
    /// between: what a file carries is judged by when it changed.
    pub fn observe(&mut self, bdis: &[BdiName]) -> Result<(), ActuatorError> {
        self.look(bdis).map(|_| ())
    }

    /// Brings the open files of `bdi` to its present value, `target`, as far as the bound for this second goes. May be called
    /// again with the same target to reach the rest.
    pub fn refresh(&mut self, bdi: &BdiName, target: Kib, now: Instant) -> Result<OpenFiles, ActuatorError> {
        let bdis = std::slice::from_ref(bdi);
        let pages = u32::try_from(target.pages()).unwrap_or(u32::MAX);
        self.ledger.holds(bdi, pages);
        let mut holders = HashMap::new();
        let mut advised_by_us = Vec::new();
        for (file, standing) in self.look(bdis)? {
            // The value moved on under us: the next write's refresh does the rest.
            let ours = standing == Standing::Stale && file.bdi_ra_pages == pages;
            if ours && self.permitted(&file, &mut holders) && self.throttle.take(now) && advise_normal(&file) {
                self.ledger.refreshed(&file, pages);
                advised_by_us.push(file.file);
            }
        }
        let mut count = OpenFiles::default();
        for (file, standing) in self.look(bdis)? {
            match standing {
                Standing::Current => {
                    count.current += 1;
                    count.refreshed += u32::from(advised_by_us.contains(&file.file));
                }
                Standing::Advised => count.advised += 1,
                Standing::Stale if self.permitted(&file, &mut holders) => count.stale += 1,
                Standing::Stale => count.denied += 1,
            }
        }
        Ok(count)
    }

    /// Files of a workload that have a window of their own are not refreshed; none: it has ended.
    pub fn leave_alone(&mut self, workload: &BdiName, files: &[Inode]) {
        let keys: Vec<_> = files.iter().map(|f| (f.ino, f.major << 20 | f.minor)).collect();
        match keys.is_empty() {
            true => self.own.remove(workload),
            false => self.own.insert(workload.clone(), keys),
        };
    }

    /// Forgets a bdi that is gone.
    pub fn forget(&mut self, bdi: &BdiName) {
        self.ledger.forget(bdi);
    }

    /// The open files of some bdis with what they carry, as `iter/task_file` shows them now.
    pub fn list(&mut self, bdis: &[BdiName]) -> Result<Vec<OpenFile>, ActuatorError> {
        self.scanner.scan(bdis)
    }

    fn look(&mut self, bdis: &[BdiName]) -> Result<Vec<(OpenFile, Standing)>, ActuatorError> {
        let mut files = self.scanner.scan(bdis)?;
        let own = |file: &OpenFile| self.own.values().flatten().any(|key| *key == (file.ino, file.dev));
        files.retain(|file| file.tgid != self.me && !own(file));
        let standings = self.ledger.learn(bdis, &files);
        Ok(files.into_iter().zip(standings).collect())
    }

    fn permitted(&self, file: &OpenFile, holders: &mut HashMap<u32, bool>) -> bool {
        *holders.entry(file.tgid).or_insert_with(|| {
            let paths = if self.rules.ask_cgroups() { cgroups(&self.proc, file.tgid) } else { Vec::new() };
            self.rules.permit(&Holder { comm: file.comm.clone(), uid: file.uid, cgroups: paths })
        })
    }
}
