// SPDX-License-Identifier: MIT OR Apache-2.0
//! A registered workload: its files, its plan, what was done for it and what came of it. Shared between the socket's thread, which
//! appends and asks, and the lane of its device, which does the work; neither holds the lock over a system call.

use super::error::ControlError;
use super::file::ClientFile;
use super::limits::{FILES_PER_WORKLOAD, FILES_WITH_WINDOW};
use super::plan::{Plan, Range, Tally};
use super::regions::Regions;
use super::window::OwnWindow;
use crate::actuator::file_window::knobs_at_rest;
use keepahead_core::event::Pattern;
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Major and minor, as in `stat(2)`.
pub type DeviceNumber = (u32, u32);

/// How a program says that it will read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hint {
    Sequential,
    Random,
    Strided,
    Shuffled,
    Once,
    Reused,
}

impl Hint {
    /// Whether what is measured contradicts it. Only what a pattern can tell: that a program will not come back to a page is its own
    /// knowledge.
    fn is_wrong(self, seen: Pattern) -> bool {
        match self {
            Hint::Sequential => matches!(seen, Pattern::RandomMmap | Pattern::RandomRead),
            Hint::Random => seen == Pattern::Sequential,
            Hint::Strided | Hint::Shuffled | Hint::Once | Hint::Reused => false,
        }
    }
}

/// What was done and what it was good for.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    pub prefetched_bytes: u64,
    pub discarded_bytes: u64,
    /// Prefetched and evicted again before it was read.
    pub wasted_bytes: u64,
    pub hits: Tally,
    pub late: Tally,
    pub missed: Tally,
    pub lost: Tally,
    pub unseen: Tally,
}

/// What changes while it lives.
#[derive(Debug, Default)]
pub struct Progress {
    pub files: Vec<Arc<ClientFile>>,
    pub plan: Plan,
    pub figures: Figures,
    /// Why nothing is prefetched although there is something to do.
    pub held: Option<&'static str>,
    pub advised_files: u64,
    /// Files whose description is kept beside our own.
    pub kept: usize,
    /// The window that the agent gave its files, where it did.
    pub window: Option<OwnWindow>,
}

#[derive(Debug)]
pub struct Workload {
    pub id: u64,
    pub name: String,
    pub uid: u32,
    pub pid: i32,
    pub budget: u64,
    pub hint: Option<Hint>,
    pub regions: Regions,
    closed: AtomicBool,
    progress: Mutex<Progress>,
}

impl Workload {
    pub fn new(id: u64, name: String, (uid, pid): (u32, i32), budget: u64, hint: Option<Hint>) -> Workload {
        let (regions, closed) = (Regions::default(), AtomicBool::new(false));
        Workload { id, name, uid, pid, budget, hint, regions, closed, progress: Mutex::default() }
    }

    /// A panic elsewhere leaves plain numbers behind: they are used on.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.regions.ready.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn file(&self, number: u64) -> Result<Arc<ClientFile>, ControlError> {
        let progress = self.progress();
        let found = usize::try_from(number).ok().and_then(|n| progress.files.get(n)).cloned();
        found.ok_or(ControlError::NoSuchFile { file: number, files: progress.files.len() as u64 })
    }

    /// Adds files; `once` is told to the kernel. The number of the first.
    pub fn add(&self, files: Vec<ClientFile>) -> Result<u64, ControlError> {
        let room = FILES_PER_WORKLOAD - self.progress().files.len();
        if files.len() > room {
            return Err(ControlError::LimitReached { what: "files of a workload", limit: FILES_PER_WORKLOAD as u64 });
        }
        let (mut ready, mut advised, mut kept, mut held) = (Vec::new(), 0, 0, self.progress().files.len());
        for mut file in files {
            held += 1;
            let once = self.hint == Some(Hint::Once) && file.advise(Advice::NoReuse).is_ok();
            advised += u64::from(once);
            if !once && held > FILES_WITH_WINDOW {
                file.theirs = None;
            }
            kept += usize::from(file.theirs.is_some());
            ready.push(Arc::new(file));
        }
        let mut progress = self.progress();
        let first = progress.files.len() as u64;
        progress.files.extend(ready);
        progress.advised_files += advised;
        progress.kept += kept;
        Ok(first)
    }

    /// Descriptors that its files take of this process.
    pub fn descriptors(&self) -> usize {
        let progress = self.progress();
        progress.files.len() + progress.kept
    }

    /// Ranges with their lengths cut to the files as they are now; length 0 is to the end.
    pub fn resolve(&self, ranges: &[Range]) -> Result<Vec<Range>, ControlError> {
        let mut size: Option<(u64, u64)> = None;
        ranges
            .iter()
            .map(|range| {
                let end = match size {
                    Some((file, end)) if file == range.file => end,
                    _ => self.file(range.file)?.size().map_err(ControlError::failed)?,
                };
                size = Some((range.file, end));
                let left = end.saturating_sub(range.offset);
                let length = if range.length == 0 { left } else { range.length.min(left) };
                Ok(Range { length, ..*range })
            })
            .collect()
    }

    /// Takes back what was advised: the advice on the client's descriptors, and what was read for a reader who never came.
    pub fn withdraw(&self) {
        let (files, unread) = {
            let progress = self.progress();
            (progress.files.clone(), progress.plan.unread().map(|(range, _)| range).collect::<Vec<_>>())
        };
        for range in unread {
            if let Some(file) = files.get(range.file as usize) {
                let _ = file.dont_need(range.offset, range.length);
            }
        }
        self.advise_normal(&files);
    }

    /// Its files have their device's window again, with what else was advised.
    pub fn follow_device(&self) {
        if !self.is_closed() {
            let files = {
                let mut progress = self.progress();
                progress.window = None;
                progress.files.clone()
            };
            self.advise_normal(&files);
            self.advised_anew();
        }
    }

    fn advise_normal(&self, files: &[Arc<ClientFile>]) {
        let _rest = knobs_at_rest();
        for file in files.iter().filter(|f| f.theirs.is_some()) {
            let _ = file.advise(Advice::Normal);
        }
    }

    /// Its files with the descriptions that the client reads through, where these are few and all on one device; the device's number.
    pub fn with_descriptions(&self) -> Option<(DeviceNumber, Vec<Arc<ClientFile>>)> {
        let progress = self.progress();
        let device = progress.files.first()?.device;
        let few = progress.files.len() <= FILES_WITH_WINDOW
            && progress.files.iter().all(|f| f.theirs.is_some() && f.device == device);
        few.then(|| (device, progress.files.clone()))
    }

    /// `POSIX_FADV_NORMAL`, which a new window takes, has undone what else was advised: says it again.
    pub fn advised_anew(&self) {
        if self.hint == Some(Hint::Once) {
            let files = self.progress().files.clone();
            for file in files.iter().filter(|_| !self.is_closed()) {
                let _ = file.advise(Advice::NoReuse);
            }
        }
    }

    /// The reply of `Stats`.
    pub fn stats(&self) -> serde_json::Value {
        let progress = self.progress();
        let state = match (progress.held, progress.plan.total(), progress.plan.is_exhausted()) {
            _ if self.is_closed() => "ended",
            (_, 0, _) => "no plan",
            (_, _, true) => "all prefetched",
            (Some(why), ..) => why,
            _ => "prefetching",
        };
        let mut advised = Vec::new();
        if progress.advised_files > 0 {
            advised.push(serde_json::json!({ "advice": "POSIX_FADV_NOREUSE", "files": progress.advised_files, "why": "the workload's hint" }));
        }
        if let Some(OwnWindow { kib, device_kib, pattern, why }) = &progress.window {
            let mut why = why.clone();
            if let (Some(hint), Some(seen)) = (self.hint, pattern.filter(|seen| self.hint.is_some_and(|h| h.is_wrong(*seen)))) {
                why += &format!("; the hint says {hint:?}, but what is read is {seen}: the hint is not followed");
            }
            if kib != device_kib || self.hint.is_some() {
                advised.push(
                    serde_json::json!({ "advice": format!("read_ahead {kib}"), "files": progress.files.len(), "why": why }),
                );
            }
        }
        advised.extend(self.regions.advised());
        let mut stats = serde_json::json!({
            "name": self.name, "state": state, "files": progress.files.len(), "budget_bytes": self.budget,
            "ahead_bytes": progress.plan.ahead(), "ranges_total": progress.plan.total(), "advised": advised,
        });
        if let Some(position) = progress.plan.position() {
            stats["position"] = position.into();
        }
        if let (Some(stats), Ok(serde_json::Value::Object(figures))) =
            (stats.as_object_mut(), serde_json::to_value(progress.figures))
        {
            stats.extend(figures);
        }
        stats
    }
}
