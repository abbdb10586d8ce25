// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Prefetch` and `Discard` at once: take ranges, give the bytes that are cached, or were dropped, when it is done.

use super::error::ControlError;
use super::file::{Cached, ClientFile, idle_io_priority, step_bytes};
use super::plan::Range;
use super::workload::Workload;

/// Reads ranges into the cache, piece by piece, and waits for each.
pub fn prefetch(workload: &Workload, ranges: &[Range]) -> Result<u64, ControlError> {
    let wanted = ranges.iter().fold(0u64, |sum, r| sum.saturating_add(r.length));
    if wanted > workload.budget {
        let allowed = format!("up to {}, the workload's budget", workload.budget);
        return Err(ControlError::InvalidValue { parameter: "ranges", value: format!("{wanted} bytes"), allowed });
    }
    idle_io_priority();
    let mut cached = 0;
    for range in ranges {
        let file = workload.file(range.file)?;
        let step = step_bytes(file.device);
        let end = range.offset + range.length;
        let mut at = range.offset;
        while at < end && !workload.is_closed() {
            let length = step.min(end - at);
            file.will_need(at, length).map_err(ControlError::failed)?;
            file.wait_for(at + length - 1).map_err(ControlError::failed)?;
            at += length;
        }
        cached += told(&file, *range).map_or(range.length, |c| c.bytes().min(range.length));
    }
    workload.progress().figures.prefetched_bytes += wanted;
    Ok(cached)
}

/// Drops ranges; what the kernel does not tell counts as dropped.
pub fn discard(workload: &Workload, ranges: &[Range]) -> Result<u64, ControlError> {
    let mut dropped = 0;
    for range in ranges.iter().filter(|r| r.length > 0) {
        let file = workload.file(range.file)?;
        let before = told(&file, *range);
        file.dont_need(range.offset, range.length).map_err(ControlError::failed)?;
        let after = told(&file, *range);
        dropped += match (before, after) {
            (Some(before), Some(after)) => before.bytes().saturating_sub(after.bytes()).min(range.length),
            _ => range.length,
        };
    }
    workload.progress().figures.discarded_bytes += dropped;
    Ok(dropped)
}

/// What is cached, where the client may know it.
fn told(file: &ClientFile, range: Range) -> Option<Cached> {
    file.visible.then(|| file.cached(range.offset, range.length).ok()).flatten()
}
