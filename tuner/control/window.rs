// SPDX-License-Identifier: MIT OR Apache-2.0
//! What joins a workload and the window that its open files have: the socket's thread lists workloads, the agent gives and explains.

use super::workload::Workload;
use keepahead_core::event::Pattern;
use keepahead_core::units::Kib;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The window of a workload's files, as the agent last said.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnWindow {
    pub kib: Kib,
    /// The device's value, which they would have without it.
    pub device_kib: Kib,
    pub pattern: Option<Pattern>,
    /// Why it is what it is.
    pub why: String,
}

/// All workloads that live, for the agent to look through once a second.
#[derive(Clone, Debug, Default)]
pub struct Roll(Arc<Mutex<Vec<Weak<Workload>>>>);

impl Roll {
    pub(super) fn enter(&self, workload: &Arc<Workload>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|w| w.strong_count() > 0);
        all.push(Arc::downgrade(workload));
    }

    pub fn living(&self) -> Vec<Arc<Workload>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).filter(|w| !w.is_closed()).collect()
    }
}
